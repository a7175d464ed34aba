"""Server-sent events as bytes: where one ends, what its data is.

Decided here: how a stream of chunks is cut into events (HTML Living Standard §9.2.6: lines end with LF, CRLF or CR,
an empty line ends an event). Not decided here: what an event means (the dialects' meters).

Laws: the events and the tail together are the bytes that were fed, and the same bytes give the same events however
they were chunked. One corner of the grammar is bent for that: an event that ends with two lone CRs ends there, so
that a stream with CR line ends isn't one event late; a LF that follows belongs to the next event, where it is an
empty line and means nothing.

An event may be of any size, our memory may not: when an unfinished event has grown over `PIECE` bytes, what there is
of it is handed out as a `Piece`, and so on until it ends. Meters know pieces (`meters.Pieces`): they look at the head
and the last bytes of such an event and never hold it whole.
"""

from __future__ import annotations

import re

PIECE = 64 * 1024

# The end of an event: a line's end, and the end of an empty line. Where the second is a CR at the end of what has
# come, the next byte decides (CRLF or not), so it isn't one yet.
_END = re.compile(rb"\n(?:\r?\n|\r(?=[^\n]))|\r\r")
_LONGEST_END = 4  # CR LF CR LF
_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"  # as numbers, which are found faster than one byte of bytes


class Piece(bytes):
    """A part of an event that is too large to be handed out whole. `first` and `last` tell its ends."""

    first: bool = False
    last: bool = False

    @classmethod
    def of(cls, raw: bytes, *, first: bool, last: bool) -> Piece:
        piece = cls(raw)
        piece.first = first
        piece.last = last
        return piece


class Splitter:
    """Cuts a stream into events. `feed` gives whole events, each with its empty line, and `Piece`s of a huge one."""

    __slots__ = ("_cut", "_held", "_looked")

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0  # no event ends before this offset
        self._cut = False  # a part of the event at the head of `_held` was handed out

    @property
    def tail(self) -> bytes:
        """What came after the last event that was handed out."""
        return bytes(self._held)

    @property
    def inside(self) -> bool:
        """A part of an unfinished event was handed out: nothing else may be put into the stream here."""
        return self._cut

    def feed(self, chunk: bytes) -> list[bytes]:
        if not self._held and not self._cut and (whole := _whole_events(chunk)):
            return whole
        self._held += chunk
        events: list[bytes] = []
        at = 0
        for match in _END.finditer(self._held, self._looked):
            end = match.end()
            events.append(self._event(at, end, last=True))
            at = end
        if at:
            del self._held[:at]
        # Line ends at the very end may be the beginning of an empty line.
        length = len(self._held)
        if length > PIECE:
            keep = _line_ends(self._held)
            events.append(self._event(0, length - keep, last=False))
            del self._held[: length - keep]
            length = keep
        self._looked = max(0, length - _LONGEST_END + 1)
        return events

    def _event(self, start: int, end: int, *, last: bool) -> bytes:
        raw = bytes(memoryview(self._held)[start:end])
        if last and not self._cut:
            return raw
        first = not self._cut
        self._cut = not last
        return Piece.of(raw, first=first, last=last)


def _whole_events(chunk: bytes) -> list[bytes]:
    """The events of a chunk that holds whole ones and nothing else, as nearly all do; empty where that isn't plain.

    It is plain where all lines end with LF, and for one event whose last lines end with CRLF (Gemini's).
    """
    if _CR in chunk:
        lines = chunk.splitlines()
        return [chunk] if chunk.endswith(b"\r\n\r\n") and lines.count(b"") == 1 else []
    if not chunk.endswith(b"\n\n"):
        return []
    if chunk.find(_LF) == len(chunk) - 2 or chunk.find(b"\n\n") == len(chunk) - 2:
        return [chunk]
    parts = chunk.split(b"\n\n")
    return [part + b"\n\n" for part in parts[:-1]] if not parts[-1] else []


def _line_ends(held: bytearray) -> int:
    count = 0
    while count < _LONGEST_END - 1 and held[-1 - count] in b"\r\n":
        count += 1
    return count


def data(event: bytes) -> bytes:
    """The event's data: the values of its `data` fields, joined by LF. Empty for a comment or a ping."""
    lines = event.splitlines()  # at LF, CRLF and CR, and nowhere else
    if len(lines) == 2 and not lines[1] and lines[0].startswith(b"data: "):
        return lines[0][6:]
    return _data(event)


def _data(event: bytes) -> bytes:
    values = [value for name, value in fields(event) if name == b"data"]
    return values[0] if len(values) == 1 else b"\n".join(values)


def name_and_data(event: bytes) -> tuple[bytes, bytes]:
    """The event's name and its data, where a dialect names its events: a line for each, as a rule."""
    lines = event.splitlines()
    if len(lines) == 3 and not lines[2] and lines[0].startswith(b"event: ") and lines[1].startswith(b"data: "):
        return lines[0][7:], lines[1][6:]
    return event_name(event), data(event)


def event_name(event: bytes) -> bytes:
    """The event's name, empty if it has none."""
    if event.startswith(b"event: ") and b"\nevent" not in event:
        line, end, _ = event[7:].partition(b"\n")
        if end and b"\r" not in line:
            return line
    name = b""
    for field, value in fields(event):
        if field == b"event":
            name = value
    return name


def fields(event: bytes) -> list[tuple[bytes, bytes]]:
    """Name and value of each line."""
    found = []
    for line in event.removeprefix(_BOM).splitlines():
        name, _, value = line.partition(b":")
        found.append((name, value[1:] if value.startswith(b" ") else value))
    return found
