"""Did a whole JSON answer finish normally, so that it may be given again?

Decided here: which finish reasons mean that the model said all it had to say. What was cut off (`length`), filtered,
refused or merely paused isn't, nor anything that we don't know. One choice of several is enough to spoil an answer.
Streams are judged by their meters (`normal`), with the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from sidecar.dialects.base import Endpoint
from sidecar.dialects.meters import loads

OPENAI = frozenset({"stop", "tool_calls", "function_call"})
ANTHROPIC = frozenset({"end_turn", "stop_sequence", "tool_use"})
GEMINI = frozenset({"STOP"})


def finished_normally(dialect: str, endpoint: Endpoint, body: bytes) -> bool:
    """Whether the answer of a generating call is whole and ended of itself. Never raises. `body` without coding."""
    answer = loads(body)
    if not isinstance(answer, dict) or answer.get("error"):
        return False
    if endpoint.operation == "embeddings":
        return any(_filled(answer.get(key)) for key in ("data", "embedding", "embeddings"))
    match dialect:
        case "anthropic":
            return ended(answer.get("stop_reason"), ANTHROPIC)
        case "gemini":
            feedback = answer.get("promptFeedback")
            blocked = isinstance(feedback, dict) and feedback.get("blockReason")
            return not blocked and _each(answer.get("candidates"), lambda c: ended(c.get("finishReason"), GEMINI))
        case _ if endpoint.key.startswith("responses"):
            return response_is_normal(answer)
        case _ if endpoint.key.startswith("images"):
            return _filled(answer.get("data"))
        case _:
            return _each(answer.get("choices"), choice_is_normal)


def array_finished_normally(endpoint: Endpoint, body: bytes) -> bool:
    """The same of a stream that came as one array of chunks (Gemini without `alt=sse`), as its meter judges them."""
    chunks = loads(body)
    if endpoint.meter is None or not isinstance(chunks, list):
        return False
    meter = endpoint.meter()
    for chunk in chunks:
        meter.see(b"data: " + orjson.dumps(chunk))
    return meter.normal


def choice_is_normal(choice: dict[str, Any]) -> bool:
    """A whole choice of chat/completions or completions."""
    message = choice.get("message")
    refused = isinstance(message, dict) and message.get("refusal")
    return not refused and ended(choice.get("finish_reason"), OPENAI)


def response_is_normal(response: dict[str, Any]) -> bool:
    """A whole response of the Responses API: completed, and nothing in it was cut off or refused."""
    if response.get("status") != "completed" or response.get("error") or response.get("incomplete_details"):
        return False
    output = response.get("output")
    return isinstance(output, list) and all(isinstance(item, dict) and _item_is_normal(item) for item in output)


def _item_is_normal(item: dict[str, Any]) -> bool:
    if item.get("status") not in (None, "completed"):
        return False
    content = item.get("content")
    parts = content if isinstance(content, list) else []
    return not any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts)


def ended(reason: Any, good: frozenset[str]) -> bool:
    """Whether a finish reason is one of those."""
    return isinstance(reason, str) and reason in good


def _each(found: Any, normal: Callable[[dict[str, Any]], bool]) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(one, dict) and normal(one) for one in found)


def _filled(value: Any) -> bool:
    return isinstance(value, list | dict) and len(value) > 0
