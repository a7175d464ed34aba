"""The clock of one request: six limits, one timer.

Every byte and every event only stores a time, which moves a deadline on; the timer fires at the nearest one it knew,
and sleeps again if that has moved. Only what may bring a deadline nearer (headers, the first event, a write that
stalls) sets it anew. Expiry cancels the task, as `asyncio.timeout` does, and leaves the reason.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from types import TracebackType
from typing import Self

from sidecar.settings.pins import Timeouts


class Limit(StrEnum):
    FIRST_EVENT = "first useful event"
    IDLE = "idle"
    CONTENT_IDLE = "content idle"
    WRITE_STALL = "write stall"
    TOTAL = "total"
    DRAIN = "drain"  # the sidecar is shutting down
    TAIL = "tail"  # the answer is complete, only the end of the connection is awaited: not an error


TAIL_S = 1.0
"""How long a stream may be silent after its end was seen."""

TAIL_MOST_S = 5.0
"""How long it may go on after its end, silent or not."""

LATE_S = 0.25
PAROLE_S = 0.05
"""A timer that comes more than `LATE_S` late waits this much more, once: time for what is waiting in the sockets."""


class ExpiredError(Exception):
    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.value)
        self.limit = limit


class Watch:
    """`with Watch(...)` around everything that waits for the provider or writes to the client.

    `read_timeout_s` is the caller's own (x-stainless-read-timeout): it bounds the wait for the first byte and each
    later silence, never the total.
    """

    __slots__ = ("_cancelling", "_content", "_expired", "_first_by", "_handle", "_idle_s", "_last_byte", "_last_useful",
                 "_loop", "_paroled", "_tail_by", "_task", "_timeouts", "_total_by", "_writing_since")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts, read_timeout_s: float | None) -> None:
        now = loop.time()
        self._loop = loop
        self._timeouts = timeouts
        self._first_by: float | None = now + first_event_s(timeouts, read_timeout_s)
        self._idle_s = min(timeouts.idle_s, read_timeout_s or timeouts.idle_s)
        self._total_by = now + timeouts.total_s
        self._last_byte: float | None = None  # None: not reading a body, so silence is the first event's business
        self._last_useful = now
        self._content = False
        self._writing_since: float | None = None
        self._tail_by: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._paroled = False
        self._expired: Limit | None = None

    @property
    def first_by(self) -> float | None:
        return self._first_by

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._arm()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        task, self._task = self._task, None
        if self._expired is not None and task is not None:
            left = task.uncancel()
            if kind is asyncio.CancelledError and left <= self._cancelling:
                raise ExpiredError(self._expired) from exc

    def headers(self) -> None:
        """An answer began: from now on silence counts."""
        self._last_byte = self._loop.time()
        self._arm()

    def byte(self) -> None:
        self._last_byte = self._loop.time()

    def useful(self) -> None:
        """A useful event came. The first one ends the first-event limit and starts the content-idle one."""
        self._last_useful = self._loop.time()
        if not self._content:
            self._first_by = None
            self._content = True
            self._arm()

    def committed(self) -> None:
        """An answer without events (JSON, audio) was committed: only bytes count from here."""
        self._first_by = None

    def tail(self) -> None:
        """The stream's end was seen; its connection may close in its own time, but not for long."""
        self._last_byte = self._loop.time()
        self._tail_by = self._last_byte + TAIL_MOST_S
        self._arm()

    def writing(self) -> None:
        """The client doesn't take what we write."""
        self._writing_since = self._loop.time()
        self._arm()

    def written(self) -> None:
        self._writing_since = None
        self._last_byte = self._loop.time()  # while we could not write we did not read
        self._arm()

    def expire(self, limit: Limit) -> None:
        """End the wait now, from outside."""
        if self._task is not None and self._expired is None:
            self._expired = limit
            self._task.cancel()

    def _next(self) -> tuple[float, Limit]:
        due, limit = self._total_by, Limit.TOTAL
        if self._writing_since is not None:
            stall = self._writing_since + self._timeouts.write_stall_s
            return (stall, Limit.WRITE_STALL) if stall < due else (due, limit)
        candidates: list[tuple[float, Limit]] = [(due, limit)]
        if self._first_by is not None:
            candidates.append((self._first_by, Limit.FIRST_EVENT))
        if self._last_byte is not None:
            candidates.append((self._last_byte + self._idle_s, Limit.IDLE))
        if self._content:
            candidates.append((self._last_useful + self._timeouts.content_idle_s, Limit.CONTENT_IDLE))
        if self._tail_by is not None:
            silent_by = self._tail_by if self._last_byte is None else self._last_byte + TAIL_S
            candidates.append((min(self._tail_by, silent_by), Limit.TAIL))
        return min(candidates)

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(self._next()[0], self._fire)

    def _fire(self) -> None:
        due, limit = self._next()
        late_s = self._loop.time() - due
        if late_s < 0:
            self._handle = self._loop.call_at(due, self._fire)
            self._paroled = False
        elif late_s > LATE_S and not self._paroled:
            # We ourselves stood still (SIGSTOP, a throttled CPU): what arrived meanwhile is read before we judge.
            self._paroled = True
            self._handle = self._loop.call_later(PAROLE_S, self._fire)
        else:
            self._handle = None
            self.expire(limit)


def first_event_s(timeouts: Timeouts, read_timeout_s: float | None) -> float:
    """The limit for the first useful event: the caller's, the pin's where it states one, else our default.

    A caller that waits longer than our default is given its time; one that waits less would be gone anyway.
    """
    if read_timeout_s is None:
        return timeouts.first_event_s
    return min(read_timeout_s, timeouts.first_event_s) if timeouts.first_event_set else read_timeout_s
