"""What a JSON body says of itself besides its model: length, chance, side effects, state that its provider holds.

Decided here: which members mean so, for all dialects in one place. Where the truth can't be seen (a kind of tool that
we don't know), the answer is the one that costs an extra at most: no hedge, no cache entry, no fallback to another
provider. Not decided here: what follows from it (policies), what a request is told apart by (`identity`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from sidecar.core.facts import Ask
from sidecar.dialects.base import Endpoint
from sidecar.dialects.json_model import parse_part
from sidecar.dialects.partial_json import UNREADABLE
from sidecar.dialects.top_level import NO_TOOLS, TopLevel

MOST_TOKENS = 10**12
MOST_CHOICES = 10**6


def describe(ask: Ask, endpoint: Endpoint, top: TopLevel, body: bytes, *, ordinary: bool) -> None:
    """Fill in what a JSON body says.

    `ordinary`: no word stands in it that may mean media or the provider's state (`top_level.hints`).
    """
    if ask.unit is None:
        ask.unit = _unit(top)
    if top.stream is True:  # "true" and 1 are the provider's to judge
        ask.stream = True
    config = top.generation_config if top.generationConfig is UNSET else top.generationConfig
    limits: tuple[Any, ...] = (
        top.max_tokens,
        top.max_completion_tokens,
        top.max_output_tokens,
        top.max_tokens_to_sample,
    )
    ask.deterministic = ask.operation == "embeddings" or _no_chance(top.temperature, top.seed)
    if isinstance(config, dict) and config:
        limits += (config.get("maxOutputTokens"), config.get("max_output_tokens"))
        many = (top.n, top.best_of, config.get("candidateCount"), config.get("candidate_count"))
        ask.choices = max(map(choices, many))
        ask.deterministic = ask.deterministic or _no_chance(config.get("temperature"), config.get("seed"))
    elif top.n is not None or top.best_of is not None:
        ask.choices = max(choices(top.n), choices(top.best_of))
    ask.max_output = _first_whole(limits)
    ask.bound = is_bound(ask.dialect, endpoint, top, body, ordinary=ordinary)
    ask.side_effects = has_side_effects(ask.dialect, endpoint, top)
    ask.media_bytes = data_urls(body) if ordinary else media_bytes(ask.dialect, body)


def _unit(top: TopLevel) -> str | None:
    metadata = top.metadata
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    for unit in (user_id, top.user, top.safety_identifier):
        if unit and isinstance(unit, str):
            return unit
    return None


def _first_whole(values: Iterable[Any]) -> int | None:
    for value in values:
        if value is not None and isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS:
            return value
    return None


def choices(value: Any) -> int:
    """How many answers a member asks for; 1 where it says nothing, or nonsense that its provider will refuse."""
    if isinstance(value, str):  # of a form
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 1
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        return 1
    return int(min(value, MOST_CHOICES))


def _no_chance(temperature: Any, seed: Any) -> bool:
    return (temperature is not None and _is_number(temperature) and temperature == 0) or (
        seed is not None and _is_number(seed)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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


def is_bound(dialect: str, endpoint: Endpoint, top: TopLevel, body: bytes, *, ordinary: bool) -> bool:
    """Whether the request names state that its provider holds, so that no other provider could answer it.

    Top-level names are looked up; deeper ones (`file_id` in a content part …) are searched for as bytes. A quote that
    no backslash precedes never stands inside a JSON string, and a name before a colon is a key: prompt text can't
    match. A tool's schema with a *property* of such a name does match; that costs a fallback to another provider and
    nothing else. Keys written with escapes are missed; that costs a fallback which the other provider refuses.
    """
    if top.previous_response_id or top.conversation or top.container or top.thread:
        return True
    if top.cachedContent or top.cached_content:
        return True
    prompt = top.prompt
    if isinstance(prompt, dict) and prompt.get("id") and endpoint.key.startswith("responses"):
        return True  # a stored prompt: its text, tools and newest version are the provider's
    return not ordinary and any(hint in body for hint in _HINTS[dialect]) and _HELD.search(body) is not None


# Tools that the *caller* runs: the model only asks for them. Any other kind runs at the provider, or may.
# openai/types/responses/tool_param.py, anthropic/types/beta/beta_tool_union_param.py, google/genai/types.py Tool.
_OPENAI_CALLERS = frozenset({"function", "custom"})
_ANTHROPIC_CALLERS = re.compile(
    r"custom|(?:bash|text_editor|computer|memory|browser_toolset|computer_toolset)_\d{8}", re.ASCII
)
_GEMINI_CALLERS = frozenset({"functionDeclarations", "function_declarations", "computerUse", "computer_use"})


class _Tool(msgspec.Struct, gc=False):
    type: Any = None


_tools = msgspec.json.Decoder(list[_Tool]).decode


def has_side_effects(dialect: str, endpoint: Endpoint, top: TopLevel) -> bool:
    """Whether answering twice would do something twice at the provider.

    The Responses API stores what it answers unless `store` is false; elsewhere storing must be asked for.
    """
    if top.store is True or (endpoint.key == "responses" and top.store is not False):
        return True
    if top.background or top.thread or top.container or top.mcp_servers or top.web_search_options is not None:
        return True
    tools = None if top.tools is NO_TOOLS else _built(top.tools, dialect)
    if not tools:
        return False
    if isinstance(tools, dict):  # proto3 JSON takes one message for a list of one
        tools = [tools]
    return not isinstance(tools, list) or any(_runs_there(dialect, tool) for tool in tools)


def _built(tools: Any, dialect: str) -> Any:
    """The tools' value; of a list of objects only what a tool is told by."""
    if not isinstance(tools, msgspec.Raw):
        return tools
    if dialect != "gemini":
        try:
            return _tools(tools)
        except UNREADABLE:
            pass
    return parse_part(bytes(tools))


def _runs_there(dialect: str, tool: Any) -> bool:
    if isinstance(tool, _Tool):
        kind = tool.type
    elif not isinstance(tool, dict):
        return True
    elif dialect == "gemini":
        return any(value is not None for key, value in tool.items() if key not in _GEMINI_CALLERS)
    else:
        kind = tool.get("type")
    if dialect == "anthropic":
        return kind is not None and not (isinstance(kind, str) and _ANTHROPIC_CALLERS.fullmatch(kind))
    return kind not in _OPENAI_CALLERS if isinstance(kind, str) else kind is not None


_URL = b";base64,"
_SEMICOLON = ord(";")
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
    return data_urls(body) + sum(_members(body, key) for key in _MEMBERS[dialect])


def data_urls(body: bytes) -> int:
    """How much of it stands in data URLs."""
    if len(body) < _LEAST_MEDIA or _SEMICOLON not in body:
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
