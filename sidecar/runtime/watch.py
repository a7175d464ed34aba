"""The clocks of a request and of its attempts: several limits, one timer each.

Every byte and every event only stores a time, which moves a deadline on; the timer fires at the nearest one it knew,
and sleeps again if that has moved. It is set anew only where a deadline comes nearer than that. Expiry cancels the
task, as `asyncio.timeout` does, and leaves the reason.
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
    HOLD = "hold"  # early events were held back long enough: not an error
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


class Alarm:
    """One timer over one task: `with` it around what waits. Expiry cancels the task and comes out as ExpiredError.

    Subclasses say in `_next` when it is due, and why.
    """

    __slots__ = ("_cancelling", "_expired", "_handle", "_loop", "_paroled", "_task", "_wakes_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._paroled = False
        self._expired: Limit | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self._loop)
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        if (at := self._first_look()) is not None:
            self._wake_by(at)
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

    def expire(self, limit: Limit) -> None:
        """End the wait now, from outside."""
        if self._task is not None and self._expired is None:
            self._expired = limit
            self._task.cancel()

    def _next(self) -> tuple[float, Limit] | None:
        raise NotImplementedError

    def _first_look(self) -> float | None:
        """When the timer fires first: not after anything can be due."""
        due = self._next()
        return None if due is None else due[0]

    def _arm(self) -> None:
        """See to it that the timer fires by the time that is due now; earlier does no harm."""
        if (due := self._next()) is not None:
            self._wake_by(due[0])

    def _wake_by(self, at: float) -> None:
        if self._handle is not None:
            if self._wakes_at <= at:
                return
            self._handle.cancel()
        self._wakes_at = at
        self._handle = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._handle = None
        due = self._next()
        if due is None:
            return
        at, limit = due
        now = self._loop.time()
        if now < at:
            self._wake_by(at)
            self._paroled = False
        elif now - at > LATE_S and not self._paroled:
            # We ourselves stood still (SIGSTOP, a throttled CPU): what arrived meanwhile is read before we judge.
            self._paroled = True
            self._wake_by(now + PAROLE_S)
        else:
            self.expire(limit)


class Patience(Alarm):
    """One attempt before its commit: until its first useful event, between two bytes, and while events are held."""

    __slots__ = ("_give_up_at", "_hold_s", "_idle_s", "_last_byte", "_release_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, give_up_at: float, idle_s: float, hold_s: float) -> None:
        super().__init__(loop)
        self._give_up_at = give_up_at
        self._idle_s = idle_s
        self._hold_s = hold_s
        self._last_byte: float | None = None  # None: no answer yet, so silence is not a pause in it
        self._release_at: float | None = None

    def _first_look(self) -> float:
        return min(self._give_up_at, self._loop.time() + self._idle_s)  # so `headers`, always later, needs no timer

    def headers(self) -> None:
        """An answer began: from now on silence counts."""
        self._last_byte = self._loop.time()

    def byte(self) -> None:
        self._last_byte = self._loop.time()

    def holding(self) -> None:
        """Events are being held back, the first of them since now."""
        if self._release_at is None:
            self._release_at = self._loop.time() + self._hold_s
            self._arm()

    def _next(self) -> tuple[float, Limit]:
        due = (self._give_up_at, Limit.FIRST_EVENT)
        if self._last_byte is not None:
            due = min(due, (self._last_byte + self._idle_s, Limit.IDLE))
        if self._release_at is not None:
            due = min(due, (self._release_at, Limit.HOLD))
        return due


class Watch(Alarm):
    """One request. Before the commit only a shutdown ends it, since each attempt has a clock of its own (`Patience`).

    `read_timeout_s` is the caller's own (x-stainless-read-timeout): it bounds the wait for the first byte and each
    later silence, never the total.
    """

    __slots__ = ("_begun", "_content", "_first_by", "_last_byte", "_last_useful", "_tail_by", "_timeouts", "_total_by",
                 "_writing_since", "deadline", "idle_s")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts, read_timeout_s: float | None) -> None:
        super().__init__(loop)
        now = loop.time()
        self._timeouts = timeouts
        self._total_by = now + timeouts.total_s
        self._first_by: float | None = now + first_event_s(timeouts, read_timeout_s)
        self.deadline = min(self._first_by, self._total_by)  # of the attempts together
        self.idle_s = min(timeouts.idle_s, read_timeout_s or timeouts.idle_s)
        self._begun = False
        self._last_byte = now
        self._last_useful = now
        self._content = False
        self._writing_since: float | None = None
        self._tail_by: float | None = None

    def begin(self, *, events: bool, useful: bool) -> None:
        """An answer was committed. Without events (JSON, audio) only bytes count from here."""
        self._begun = True
        self._last_byte = self._last_useful = self._loop.time()
        self._content = events and useful
        if useful or not events:
            self._first_by = None
        self._arm()

    def byte(self) -> None:
        self._last_byte = self._loop.time()

    def useful(self) -> None:
        """A useful event came. The first one ends the first-event limit and starts the content-idle one."""
        self._last_byte = self._last_useful = self._loop.time()
        if not self._content:
            self._first_by = None
            self._content = True
            self._arm()

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

    def _next(self) -> tuple[float, Limit] | None:
        if not self._begun:
            return None
        due = (self._total_by, Limit.TOTAL)
        if self._writing_since is not None:
            return min(due, (self._writing_since + self._timeouts.write_stall_s, Limit.WRITE_STALL))
        due = min(due, (self._last_byte + self.idle_s, Limit.IDLE))
        if self._first_by is not None:
            due = min(due, (self._first_by, Limit.FIRST_EVENT))
        if self._content:
            due = min(due, (self._last_useful + self._timeouts.content_idle_s, Limit.CONTENT_IDLE))
        if self._tail_by is not None:
            due = min(due, (min(self._tail_by, self._last_byte + TAIL_S), Limit.TAIL))
        return due


def first_event_s(timeouts: Timeouts, read_timeout_s: float | None) -> float:
    """The limit for the first useful event: the caller's, the pin's where it states one, else our default.

    A caller that waits longer than our default is given its time; one that waits less would be gone anyway.
    """
    if read_timeout_s is None:
        return timeouts.first_event_s
    return min(read_timeout_s, timeouts.first_event_s) if timeouts.first_event_set else read_timeout_s
