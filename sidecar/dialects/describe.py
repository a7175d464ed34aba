"""What a JSON body says of itself besides its model: length, chance, side effects, state that its provider holds.

Decided here: which members mean so, for all dialects in one place. Where the truth can't be seen (a kind of tool that
we don't know), the answer is the one that costs an extra at most: no hedge, no cache entry, no fallback to another
provider. Not decided here: what follows from it (policies), what a request is told apart by (`identity`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sidecar.core.facts import Ask
from sidecar.dialects.base import Endpoint

MOST_TOKENS = 10**12
MOST_CHOICES = 10**6
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample")


def describe(ask: Ask, endpoint: Endpoint, parsed: Mapping[str, Any], body: bytes) -> None:
    """Fill in what a JSON body says. `parsed` is its value."""
    metadata = parsed.get("metadata")
    units = (
        metadata.get("user_id") if isinstance(metadata, dict) else None,
        parsed.get("user"),
        parsed.get("safety_identifier"),
    )
    ask.unit = ask.unit or next((unit for unit in units if isinstance(unit, str) and unit), None)
    ask.stream = ask.stream or parsed.get("stream") is True  # "true" and 1 are the provider's to judge
    config = parsed.get("generationConfig", parsed.get("generation_config"))
    config = config if isinstance(config, dict) else {}
    limits = [_whole(parsed.get(key)) for key in _LIMITS]
    limits += [_whole(config.get(key)) for key in ("maxOutputTokens", "max_output_tokens")]
    ask.max_output = next((limit for limit in limits if limit is not None), None)
    many = (parsed.get("n"), parsed.get("best_of"), config.get("candidateCount"), config.get("candidate_count"))
    ask.choices = max(map(choices, many))
    ask.deterministic = ask.operation == "embeddings" or _no_chance(parsed) or _no_chance(config)
    ask.bound = is_bound(ask.dialect, endpoint, parsed, body)
    ask.side_effects = has_side_effects(ask.dialect, endpoint, parsed)
    ask.media_bytes = media_bytes(ask.dialect, body)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS else None


def choices(value: Any) -> int:
    """How many answers a member asks for; 1 where it says nothing, or nonsense that its provider will refuse."""
    if isinstance(value, str):  # of a form
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 1
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        return 1
    return int(min(value, MOST_CHOICES))


def _no_chance(parsed: Mapping[str, Any]) -> bool:
    temperature, seed = parsed.get("temperature"), parsed.get("seed")
    cold = isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0
    return cold or (isinstance(seed, int | float) and not isinstance(seed, bool))


_HELD_TOP = ("previous_response_id", "conversation", "container", "cachedContent", "cached_content", "thread")
# What must occur for the expression to match: plain finds, each ten times as fast as a regular expression. Vector
# stores stand beside a `file_search`.
_HINTS: Mapping[str, tuple[bytes, ...]] = {
    "openai": (b'"file', b'"container', b'"item_reference"', b'"audio"'),
    "anthropic": (b'"file', b'"container'),
    "gemini": (b'"file',),
}
_HELD = re.compile(
    rb'(?<!\\)"(?:(?:file_ids?|container(?:_id)?|vector_store_ids|fileData|fileUri|file_uri)"\s*+:\s*+'
    rb'(?!null\b|\[\s*\]|"")'
    rb'|type"\s*+:\s*+"item_reference"'  # an item of an earlier response (Responses API)
    rb'|audio"\s*+:\s*+\{\s*+"id"\s*+:)'  # what an earlier answer said aloud (chat/completions)
)


def is_bound(dialect: str, endpoint: Endpoint, parsed: Mapping[str, Any], body: bytes) -> bool:
    """Whether the request names state that its provider holds, so that no other provider could answer it.

    Top-level names are looked up; deeper ones (`file_id` in a content part …) are searched for as bytes. A quote that
    no backslash precedes never stands inside a JSON string, and a name before a colon is a key: prompt text can't
    match. A tool's schema with a *property* of such a name does match; that costs a fallback to another provider and
    nothing else. Keys written with escapes are missed; that costs a fallback which the other provider refuses.
    """
    if any(parsed.get(key) for key in _HELD_TOP):
        return True
    if endpoint.key.startswith("responses") and isinstance(parsed.get("prompt"), dict) and parsed["prompt"].get("id"):
        return True  # a stored prompt: its text, tools and newest version are the provider's
    return any(hint in body for hint in _HINTS[dialect]) and _HELD.search(body) is not None


# Tools that the *caller* runs: the model only asks for them. Any other kind runs at the provider, or may.
# openai/types/responses/tool_param.py, anthropic/types/beta/beta_tool_union_param.py, google/genai/types.py Tool.
_OPENAI_CALLERS = frozenset({"function", "custom"})
_ANTHROPIC_CALLERS = re.compile(
    r"custom|(?:bash|text_editor|computer|memory|browser_toolset|computer_toolset)_\d{8}", re.ASCII
)
_GEMINI_CALLERS = frozenset({"functionDeclarations", "function_declarations", "computerUse", "computer_use"})


def has_side_effects(dialect: str, endpoint: Endpoint, parsed: Mapping[str, Any]) -> bool:
    """Whether answering twice would do something twice at the provider.

    The Responses API stores what it answers unless `store` is false; elsewhere storing must be asked for.
    """
    store = parsed.get("store")
    if store is True or (endpoint.key == "responses" and store is not False):
        return True
    if parsed.get("background") or parsed.get("thread") or parsed.get("container") or parsed.get("mcp_servers"):
        return True
    if parsed.get("web_search_options") is not None:
        return True
    tools = parsed.get("tools")
    if not tools:
        return False
    if isinstance(tools, dict):  # proto3 JSON takes one message for a list of one
        tools = [tools]
    return not isinstance(tools, list) or any(_runs_there(dialect, tool) for tool in tools)


def _runs_there(dialect: str, tool: Any) -> bool:
    if not isinstance(tool, dict):
        return True
    if dialect == "gemini":
        return any(value is not None for key, value in tool.items() if key not in _GEMINI_CALLERS)
    kind = tool.get("type")
    if dialect == "anthropic":
        return kind is not None and not (isinstance(kind, str) and _ANTHROPIC_CALLERS.fullmatch(kind))
    return kind not in _OPENAI_CALLERS if isinstance(kind, str) else kind is not None


_URL = b";base64,"
_MEMBERS: Mapping[str, tuple[bytes, ...]] = {
    "openai": (b'"data"', b'"file_data"', b'"b64_json"'),
    "anthropic": (b'"data"',),
    "gemini": (b'"data"',),
}
_TEXT_FOLLOWS = re.compile(rb'\s*+:\s*+"')
_LEAST_MEDIA = 256  # a shorter member of that name is data of another kind
_MOST_MEDIA = 1000  # pieces that are counted; the rest counts as text, which only makes an estimate larger


def media_bytes(dialect: str, body: bytes) -> int:
    """How much of a JSON body is base64: data URLs anywhere, and the members that hold media in each API.

    Only leaps from find to find: the media itself is never looked at byte by byte.
    """
    if len(body) < _LEAST_MEDIA:
        return 0
    total = 0
    at = body.find(_URL)
    for _ in range(_MOST_MEDIA):
        if at < 0:
            break
        start = at + len(_URL)
        end = _base64_end(body, start)
        total += end - start
        at = body.find(_URL, end)
    for key in _MEMBERS[dialect]:
        total += _members(body, key)
    return total


def _members(body: bytes, key: bytes) -> int:
    total = 0
    at = body.find(key)
    for _ in range(_MOST_MEDIA):
        if at < 0:
            break
        end = at + len(key)
        match = _TEXT_FOLLOWS.match(body, end) if body[at - 1 : at] != b"\\" else None
        if match is not None:
            end = _base64_end(body, match.end())
            size = end - match.end()
            if size >= _LEAST_MEDIA and body[end : end + 1] == b'"' and not body.startswith(b"data:", match.end()):
                total += size  # a data URL was counted above
        at = body.find(key, end)
    return total


def _base64_end(body: bytes, start: int) -> int:
    """Where base64 that begins at `start` ends: at the string's end, or at a blank, which only text has."""
    end = body.find(b'"', start)
    end = len(body) if end < 0 else end
    blank = body.find(b" ", start, end)
    return end if blank < 0 else blank
