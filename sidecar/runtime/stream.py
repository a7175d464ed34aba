"""An event stream on its way through: whole events are metered and passed on, one kind of event is left out.

Works on bytes alone. Whatever the chunking, what comes out is what went in, less the usage chunk that only we asked
for. Events are passed whole, so that a stream which breaks can still be ended by an error event of its dialect.
"""

from __future__ import annotations

from sidecar.dialects.base import ERROR, USAGE, USEFUL, Meter
from sidecar.dialects.sse import Splitter


class Stream:
    """Feed it what arrives; it returns what may be sent on."""

    __slots__ = ("_hide_usage", "_splitter", "error", "meter", "useful")

    def __init__(self, meter: Meter, *, hide_usage: bool) -> None:
        self._splitter = Splitter()
        self._hide_usage = hide_usage
        self.meter = meter
        self.useful = False  # since the last `feed`
        self.error: bytes | None = None  # the provider's own error event

    def feed(self, chunk: bytes) -> bytes:
        self.useful = False
        events = self._splitter.feed(chunk)
        if len(events) == 1:
            return events[0] if self._pass(events[0]) else b""
        return b"".join([event for event in events if self._pass(event)])

    def rest(self) -> bytes:
        """What is left at the end: a last event without its blank line."""
        tail = self._splitter.tail
        return tail if tail and self._pass(tail) else b""

    @property
    def done(self) -> bool:
        return self.meter.done

    @property
    def ended(self) -> bool:
        return self.meter.ended

    @property
    def at_boundary(self) -> bool:
        """False inside an event that was too large to be held back whole."""
        return not self._splitter.inside

    def _pass(self, event: bytes) -> bool:
        kind = self.meter.see(event)
        if kind is USEFUL:
            if self.error is None:  # the end that follows an error, often in the same bytes, is no success
                self.useful = True
        elif kind is ERROR:
            self.error = self.error or event
        elif kind is USAGE:
            return not self._hide_usage
        return True


class Ends:
    """The first and last bytes of an answer that is too large to be held: enough to read its usage at the end."""

    HEAD_BYTES = 4 * 1024
    LAST_BYTES = 64 * 1024

    __slots__ = ("head", "last")

    def __init__(self, held: bytes) -> None:
        self.head = held[: self.HEAD_BYTES]
        self.last = held[-self.LAST_BYTES :]

    def feed(self, chunk: bytes) -> None:
        if len(self.head) < self.HEAD_BYTES:
            self.head += chunk[: self.HEAD_BYTES - len(self.head)]
        self.last = (self.last + chunk)[-self.LAST_BYTES :]
