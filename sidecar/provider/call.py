"""One request as the endpoints see it, and the answers that they may give.

Endpoints are plain functions from a `Call` to a `Whole` or a `Stream`; they do
no I/O. `delivery.py` sends what they return.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from sidecar.provider.faults import NO_FAULT, Fault

Dialect = Literal["openai", "anthropic", "gemini"]
Json = dict[str, Any]

_OPTIONS = re.compile(rb',?\s*"stream_options"\s*:\s*\{[^{}]*\}')


class Refused(Exception):  # noqa: N818 - an answer that the provider means to give, not a fault of this program
    """An endpoint's refusal. `status` and `code` are the provider's own; an empty message: the usual one."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


@dataclass(slots=True)
class Call:
    """A request whose body has been read. `body` is decoded; hash and size are of what came."""

    method: str
    path: str
    query: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    body_sha256: str
    body_size: int
    dialect: Dialect
    number: int
    created_s: int
    fault: Fault = NO_FAULT
    arguments: tuple[str, ...] = ()
    json: Json = field(default_factory=dict)
    fields: dict[str, bytes] = field(default_factory=dict)
    filenames: dict[str, str] = field(default_factory=dict)
    model: str = ""
    stream: bool = False

    @property
    def claimed_model(self) -> str:
        """The model that the answer says it comes from."""
        return self.fault.model or self.model

    @property
    def prompt_tokens(self) -> int:
        """A quarter of the body's bytes, at least one. A model's id and `stream_options` are no prompt."""
        body = _OPTIONS.sub(b"", self.body) if b'"stream_options"' in self.body else self.body
        named = self.model.encode()
        return max(1, (len(body) - (len(named) if named in body else 0)) // 4)

    @property
    def wanted_pieces(self) -> int | None:
        """How many text pieces the client asked for with `x-fake-tokens`, if it did."""
        text = self.headers.get("x-fake-tokens", "")
        return int(text) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream. It is useful, and billed, if it carries tokens."""

    data: bytes
    tokens: int = 0


@dataclass(slots=True)
class Whole:
    """An answer in one body. `prompt_tokens` None: nothing is billed."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Stream:
    """An answer in events. `error_frame` builds the dialect's in-stream error, given the frames sent so far."""

    frames: Iterable[Frame]
    ping: bytes
    error_frame: Callable[[int], bytes]
    prompt_tokens: int
    content_type: str = "text/event-stream; charset=utf-8"


Answer = Whole | Stream


def json_answer(value: Any, call: Call | None = None, completion_tokens: int = 0) -> Whole:
    """A whole JSON answer; billed to the call's model if `call` is given."""
    return Whole(
        orjson.dumps(value),
        prompt_tokens=None if call is None else call.prompt_tokens,
        completion_tokens=completion_tokens,
    )


def sha256_hex(data: bytes) -> str:
    """SHA-256 as lower-case hex."""
    return hashlib.sha256(data).hexdigest()
