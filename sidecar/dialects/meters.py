"""What all meters share: tokens in one meaning, a lenient parser, and events too large to hold.

Decided here: which numbers a provider may send as token counts (anything else counts as zero and is told as `odd`),
and how an event that came in pieces is still read: by its first and its last bytes. Not decided here: what an event of
one dialect means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Struct

from sidecar.core.facts import Usage
from sidecar.dialects.base import PLAIN, USEFUL, Kind, Reading
from sidecar.dialects.partial_json import reader
from sidecar.dialects.sse import Piece

MOST_TOKENS = 10**8
"""In one answer: ten times what the largest context holds. More is nonsense."""
_HEAD_BYTES = 4 * 1024
_LAST_BYTES = 64 * 1024


def loads(raw: bytes) -> Any:
    """The value of a JSON text, None for anything else. A provider's nonsense is never our exception."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


class Answer(Struct, gc=False):
    """What OpenAI's and Anthropic's whole answers say of themselves."""

    usage: Any = None
    model: Any = None


read_answer = reader(Answer)


def text_of(value: Any) -> str | None:
    """A non-empty string, or None."""
    return value if isinstance(value, str) and value else None


class Counts:
    """Checks the token counts of a provider's usage object and remembers whether one of them was nonsense."""

    __slots__ = ("odd",)

    def __init__(self) -> None:
        self.odd = False

    def of(self, value: Any) -> int:
        """A count; 0 where there is none."""
        if value is None:
            return 0
        if type(value) is int and 0 <= value <= MOST_TOKENS:
            return value
        if isinstance(value, float) and value.is_integer() and 0 <= value <= MOST_TOKENS:
            return int(value)
        self.odd = True
        return 0

    def must(self, value: Any) -> int:
        """Like `of`, but its absence is odd."""
        if value is None:
            self.odd = True
        return self.of(value)


def first_of(table: dict[str, Any], key: str, other: str) -> Any:
    """The value of the first of two names that is there and not null."""
    value = table.get(key)
    return table.get(other) if value is None else value


def openai_usage(table: Any) -> Usage | None:
    """Usage of any of OpenAI's APIs: they differ in names, not in meaning. Cached and reasoning tokens are inside.

    What `total_tokens` holds beyond both was thought, and is billed as output.
    """
    if table is None:
        return None
    if not isinstance(table, dict):
        return Usage(odd=True)
    if table.get("type") == "duration":
        return None  # transcriptions billed by the second count no tokens
    counts = Counts()
    inside, outside = _first_table(table, _INPUT_DETAILS), _first_table(table, _OUTPUT_DETAILS)
    usage = Usage(
        counts.must(first_of(table, "prompt_tokens", "input_tokens")),
        counts.of(first_of(table, "completion_tokens", "output_tokens")),
        counts.of(inside.get("cached_tokens")),
        counts.of(inside.get("cache_write_tokens")),
        counts.of(outside.get("reasoning_tokens")),
    )
    thoughts = counts.of(table.get("total_tokens")) - usage.input - usage.output
    usage.odd = counts.odd
    if thoughts > 0 and not usage.odd:  # Gemini's compatible endpoint leaves them out of completion_tokens
        usage.output += thoughts
        usage.reasoning = usage.reasoning or thoughts
    return usage


def _first_table(table: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    for key in keys:
        value = table.get(key)
        if value is not None and isinstance(value, dict):
            return value
    return {}


_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")


class BaseMeter:
    """State and treatment of pieces that the meters of all dialects have in common (`base.Meter`)."""

    __slots__ = ("_head", "_last", "_odd_end", "deltas", "done", "served", "text_bytes", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.served: str | None = None
        self.done = False
        self.text_bytes = 0
        self.deltas = 0
        self._head = b""
        self._last = b""
        self._odd_end = False  # something in it was cut off, filtered or refused, or can't be known not to be

    @property
    def normal(self) -> bool:
        """See `base.Meter`; what an answer must end with, dialects override."""
        return self.done and not self._odd_end

    @property
    def ended(self) -> bool:
        """What completes the stream is its end; dialects with a marker of its own behind that override it."""
        return self.done

    def see(self, event: bytes) -> Kind:
        """What this event is. Takes a `Piece` of a huge event as well."""
        if isinstance(event, Piece):
            return self._piece(event)
        return self._whole(event)

    def _whole(self, event: bytes) -> Kind:
        raise NotImplementedError

    def _count(self, text: str) -> None:
        self.deltas += 1
        self.text_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))

    def _piece(self, piece: Piece) -> Kind:
        content = False
        if piece.first:
            self._head, self._last = bytes(piece[:_HEAD_BYTES]), b""
            content = self._huge_is_content(self._head)
            self.deltas += content
        if self._head:
            self.text_bytes += len(piece) if self._huge_is_content(self._head) else 0
        self._last = (self._last + piece)[-_LAST_BYTES:]
        if piece.last:
            self._huge(self._head, self._last)
            self._head = self._last = b""
        return USEFUL if content else PLAIN

    def _huge_is_content(self, head: bytes) -> bool:  # noqa: ARG002 - dialects that can tell override it
        """Whether a huge event that begins so is a part of the answer (and not an echo of the request)."""
        return True

    def _huge(self, head: bytes, last: bytes) -> None:
        """A huge event has ended: learn what its first and last bytes tell."""
        raise NotImplementedError


_DECODER = json.JSONDecoder()


def last_object(raw: bytes, key: str) -> dict[str, Any] | None:
    """The value of the last member of that name, if it is an object; `raw` may begin in the middle of anything.

    A quote that no backslash precedes is no part of a string's content, so what matches is a real key.
    """
    for match in reversed(list(re.finditer(rb'(?<!\\)"' + key.encode() + rb'"\s*:\s*(?=\{)', raw))):
        try:
            value, _ = _DECODER.raw_decode(raw[match.end() :].decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def first_text(raw: bytes, key: str) -> str | None:
    """The value of the first member of that name, if it is a plain string."""
    match = re.search(rb'(?<!\\)"' + key.encode() + rb'"\s*:\s*"([^"\\]{1,256})"', raw)
    return match[1].decode("utf-8", "replace") if match else None


def reading_of_ends(
    head: bytes, last: bytes, normal: Callable[[Any], Usage | None], *, usage: str = "usage", served: str = "model"
) -> Reading:
    """Usage and model of an answer of which only the first and last bytes are at hand. `usage`, `served`: the keys."""
    return Reading(normal(last_object(last, usage)), first_text(head, served) or first_text(last, served))
