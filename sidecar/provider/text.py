"""What the fake model says: short, deterministic, counted.

Decides the pieces of an answer (one piece is one token), its tool call and its
structured output. It knows no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final, Literal

import orjson

from sidecar.provider import schema
from sidecar.provider.faults import UsageKind

ECHOED_CHARS: Final = 40
HUGE_COUNT: Final = 2**62

_WORDS = re.compile(r"\S+\s*|\s+")
_JSON_PIECE_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one tool with the smallest arguments that its schema allows."""

    name: str
    arguments: Any

    @property
    def arguments_text(self) -> str:
        """The arguments as JSON text."""
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says. `pieces` are of the text, or of the tool's arguments if there is a tool call.

    A tool call costs one token for its name besides its pieces.
    """

    pieces: Sequence[str]
    tool: ToolCall | None = None
    truncated: bool = False

    @property
    def text(self) -> str:
        """The pieces in one."""
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        """The completion tokens of this reply."""
        return len(self.pieces) + (self.tool is not None)


def say(model: str, heard: str, *, pieces: int | None = None, cap: int | None = None) -> Reply:
    """A greeting from `model` that echoes what it heard, in `pieces` pieces if told, cut at `cap`."""
    words = _WORDS.findall(f"Hello from {model}: {heard[:ECHOED_CHARS]}")
    return _capped(words if pieces is None else list(islice(cycle(words), pieces)), cap)


def say_json(json_schema: Any, *, cap: int | None = None) -> Reply:
    """The smallest JSON value that `json_schema` allows (`{}` without one), cut at `cap` pieces."""
    value = schema.smallest(json_schema) if isinstance(json_schema, dict) else {}
    return _capped(_json_pieces(orjson.dumps(value).decode()), cap)


def call_tool(name: str, parameters: Any) -> Reply:
    """A call of the tool `name` with the smallest arguments that `parameters` allows."""
    tool = ToolCall(name, schema.smallest(parameters) if isinstance(parameters, dict) else {})
    return Reply(_json_pieces(tool.arguments_text), tool)


def plain(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts that may have `text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return " ".join(part for part in parts if isinstance(part, str))


def cap_of(*values: Any) -> int | None:
    """The first of `values` that is a positive whole number."""
    return next((value for value in values if type(value) is int and value > 0), None)


Count = int | str


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as an answer states them, which a fault may falsify."""

    prompt: Count
    completion: Count
    total: Count


def usage(prompt: int, completion: int, kind: UsageKind | None) -> Usage:
    """The counts as the fault `kind` wants them stated."""
    if kind == "string":
        return Usage(str(prompt), str(completion), str(prompt + completion))
    if kind == "negative":
        return Usage(-prompt, -completion, -(prompt + completion))
    if kind == "huge":
        return Usage(HUGE_COUNT, HUGE_COUNT, HUGE_COUNT)
    return Usage(prompt, completion, prompt + completion)


FinishKind = Literal["stop", "length", "tool"]


def finish(reply: Reply) -> FinishKind:
    """Why the reply ended, to be put in each dialect's own words."""
    if reply.tool is not None:
        return "tool"
    return "length" if reply.truncated else "stop"


def _capped(pieces: list[str], cap: int | None) -> Reply:
    if cap is None or len(pieces) <= cap:
        return Reply(pieces)
    return Reply(pieces[:cap], truncated=True)


def _json_pieces(text: str) -> list[str]:
    return [text[at : at + _JSON_PIECE_CHARS] for at in range(0, len(text), _JSON_PIECE_CHARS)]
