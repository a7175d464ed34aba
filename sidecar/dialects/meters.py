"""What all meters share: tokens in one meaning, a lenient parser, and events too large to hold.

Decided here: which numbers a provider may send as token counts (anything else counts as zero and is told as `odd`),
and how an event that came in pieces is still read: by its first and its last bytes. Not decided here: what an event of
one dialect means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from sidecar.core.facts import Usage
from sidecar.dialects.base import Kind, Reading
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


def text_of(value: Any) -> str | None:
    """A non-empty string, or None."""
    return value if isinstance(value, str) and value else None


class Counts:
    """Reads token counts out of a provider's usage object and remembers whether one of them was nonsense."""

    __slots__ = ("odd",)

    def __init__(self) -> None:
        self.odd = False

    def get(self, table: Any, *keys: str) -> int:
        """The first of the counts that is there; 0 where none is."""
        if not isinstance(table, Mapping):
            return 0
        for key in keys:
            value = table.get(key)
            if value is not None:
                return self._checked(value)
        return 0

    def must(self, table: Mapping[str, Any], *keys: str) -> int:
        """Like `get`, but its absence is odd."""
        if all(table.get(key) is None for key in keys):
            self.odd = True
        return self.get(table, *keys)

    def _checked(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
            return value
        self.odd = True
        return 0


def openai_usage(table: Any) -> Usage | None:
    """Usage of any of OpenAI's APIs: they differ in names, not in meaning. Cached and reasoning tokens are inside.

    What `total_tokens` holds beyond both was thought, and is billed as output.
    """
    if table is None or (isinstance(table, Mapping) and table.get("type") == "duration"):
        return None  # transcriptions billed by the second count no tokens
    if not isinstance(table, Mapping):
        return Usage(odd=True)
    counts = Counts()
    inside = next((table[k] for k in _INPUT_DETAILS if isinstance(table.get(k), Mapping)), None)
    outside = next((table[k] for k in _OUTPUT_DETAILS if isinstance(table.get(k), Mapping)), None)
    usage = Usage(
        input=counts.must(table, "prompt_tokens", "input_tokens"),
        output=counts.get(table, "completion_tokens", "output_tokens"),
        cached_input=counts.get(inside, "cached_tokens"),
        cache_write=counts.get(inside, "cache_write_tokens"),
        reasoning=counts.get(outside, "reasoning_tokens"),
    )
    thoughts = counts.get(table, "total_tokens") - usage.input - usage.output
    usage.odd = counts.odd
    if thoughts > 0 and not usage.odd:  # Gemini's compatible endpoint leaves them out of completion_tokens
        usage.output += thoughts
        usage.reasoning = usage.reasoning or thoughts
    return usage


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
        return Kind.USEFUL if content else Kind.PLAIN

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
