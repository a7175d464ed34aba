"""The texts of an OpenAI request that its model reads, for exact counting (extra `[tokens]`).

Decided here: which members are read, and the tokens that frame messages: three for each, one for a `name`, three that
begin the answer (OpenAI's cookbook, "How to count tokens with tiktoken"). How tools and schemas are put to a model is
not published; they are counted as the JSON that they came in. Images, sound and files aren't texts. Not decided here:
when counting is worth it, or by which vocabulary (`state/tokens`).
"""

from __future__ import annotations

from typing import Any

import orjson

from sidecar.core.facts import Prompt
from sidecar.dialects.meters import loads

PER_MESSAGE = 3
PER_NAME = 1
PER_ANSWER = 3

_TEXT_KEYS = ("text", "input_text", "output_text", "refusal", "arguments", "output", "content")
_SCHEMA_KEYS = ("tools", "functions", "response_format")
_DEPTH = 8


def prompt_of(body: bytes) -> Prompt | None:
    """Of a body of chat/completions, completions, responses or embeddings; None if it isn't a JSON object."""
    parsed = loads(body)
    if not isinstance(parsed, dict):
        return None
    texts: list[str] = []
    framing = 0
    messages = parsed.get("messages")
    if not isinstance(messages, list):
        messages = [item for item in _items(parsed.get("input")) if isinstance(item, dict)]
    for message in messages:
        if isinstance(message, dict):
            framing += PER_MESSAGE + _message(message, texts)
    if (instructions := parsed.get("instructions")) is not None:
        framing += PER_MESSAGE
        _collect(instructions, texts, 0)
        texts.append("system")
    for plain in (parsed.get("prompt"), parsed.get("input")):
        for item in [plain] if isinstance(plain, str) else _items(plain):
            if isinstance(item, str):
                texts.append(item)
            elif isinstance(item, int) or (isinstance(item, list) and all(isinstance(i, int) for i in item)):
                framing += 1 if isinstance(item, int) else len(item)  # tokens already
    texts.extend(orjson.dumps(parsed[key]).decode() for key in _SCHEMA_KEYS if parsed.get(key))
    return Prompt(texts, framing + (PER_ANSWER if messages or instructions is not None else 0))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _message(message: dict[str, Any], texts: list[str]) -> int:
    """Adds its texts; returns what a name costs."""
    texts.extend(message[key] for key in ("role", "name") if isinstance(message.get(key), str))
    for key in (*_TEXT_KEYS, "function_call", "tool_calls"):
        _collect(message.get(key), texts, 0)
    return PER_NAME if isinstance(message.get("name"), str) else 0


def _collect(value: Any, texts: list[str], depth: int) -> None:
    """Every text of a content, its parts and their calls."""
    if isinstance(value, str):
        texts.append(value)
    elif depth < _DEPTH and isinstance(value, list):
        for item in value:
            _collect(item, texts, depth + 1)
    elif depth < _DEPTH and isinstance(value, dict):
        for key in (*_TEXT_KEYS, "name", "function"):
            _collect(value.get(key), texts, depth + 1)
