"""Load that doesn't forgive: requests are due by the clock, and what a late answer delays is counted as its fault.

One thread, one loop. `closed` keeps a number of connections busy (saturation, CPU per request); `open_loop` sends at a
rate whatever comes back, and counts from when a request was *due* (no coordinated omission); `streams` runs many event
streams side by side, `hold` keeps them open and silent. What one connection does is in `caller`.
"""

from __future__ import annotations

import asyncio
import gc
import random
import select
import selectors
from collections import deque
from collections.abc import Awaitable, Callable
from time import perf_counter

import uvloop

from benchmarks.caller import UNIQUE, Caller, Tally, Target, connect, request_to

__all__ = [
    "UNIQUE", "Caller", "PreciseSelector", "Tally", "Target", "arrivals", "closed", "connect", "hold", "open_loop",
    "request_to", "run", "streams",
]  # fmt: skip

PATIENCE_S = 30.0
"""How long after the last request was due its answer is waited for."""


async def closed(target: Target, *, connections: int, requests: int, streams: bool = False) -> Tally:
    """Exactly `requests` requests, `connections` at a time, each sent when the one before it was answered.

    A connection that the server closed, or that failed, is replaced. Raises OSError where none can be opened.
    """
    tally = Tally()
    finished = asyncio.Event()
    left = requests
    open_now = 0
    background: set[asyncio.Task[None]] = set()

    def next_one(caller: Caller) -> None:
        nonlocal left
        if left > 0 and caller.alive:
            left -= 1
            caller.send(target.request(), perf_counter())
        elif left > 0:
            left -= 1  # taken, so that `requests` are sent in all
            task = asyncio.get_running_loop().create_task(replace())
            background.add(task)
            task.add_done_callback(background.discard)
        else:
            close(caller)

    def close(caller: Caller | None) -> None:
        nonlocal open_now
        if caller is not None:
            caller.abort()
        open_now -= 1
        if open_now == 0:
            finished.set()

    async def replace() -> None:
        nonlocal left
        try:
            caller = await connect(target.port, make)
        except OSError as exc:
            tally.fail(f"no connection: {exc}", 1 + left)  # nobody listens any more
            left = 0
            close(None)
            return
        caller.send(target.request(), perf_counter())

    def make() -> Caller:
        return Caller(tally, next_one, streams=streams)

    callers = [await connect(target.port, make) for _ in range(min(connections, requests))]
    open_now = len(callers)
    begun = perf_counter()
    for caller in callers:
        next_one(caller)
    await finished.wait()
    tally.seconds = perf_counter() - begun
    return tally


def arrivals(rate_hz: float, seconds: float, seed: int) -> list[float]:
    """When requests are due, in seconds from the start: by chance (Poisson), and the same for everyone."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    out: list[float] = []
    at = chance.expovariate(rate_hz)
    while at < seconds:
        out.append(at)
        at += chance.expovariate(rate_hz)
    return out


class _Open:
    """The connections of an open loop: idle ones, up to `most` in all, and who waits for one."""

    def __init__(self, target: Target, total: int, most: int) -> None:
        self.tally = Tally()
        self.finished = asyncio.Event()
        self.ended = 0
        self._target, self._total, self._most = target, total, most
        self._idle: list[Caller] = []
        self._opened = 0
        self._waiting: deque[float] = deque()  # due, with no connection yet
        self._background: set[asyncio.Task[None]] = set()

    async def warm(self, connections: int) -> None:
        """Raises OSError."""
        self._idle = [await connect(self._target.port, self._make) for _ in range(connections)]
        self._opened = len(self._idle)

    def fire(self, due: float) -> None:
        """Send the request that is due, or note that it waits."""
        while self._idle:
            caller = self._idle.pop()
            if caller.alive:
                caller.send(self._target.request(), due)
                return
            self._opened -= 1
        if self._opened >= self._most:
            self._waiting.append(due)
        else:
            self._open(due)

    def close(self) -> None:
        for task in self._background:
            task.cancel()
        for caller in self._idle:
            caller.abort()

    def _make(self) -> Caller:
        return Caller(self.tally, self._done)

    def _open(self, due: float) -> None:
        self._opened += 1
        task = asyncio.get_running_loop().create_task(self._one_more(due))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _one_more(self, due: float) -> None:
        try:
            caller = await connect(self._target.port, self._make)
        except OSError as exc:
            self.tally.fail(f"no connection: {exc}")
            self._opened -= 1
            self._count()
            return
        caller.send(self._target.request(), due)

    def _done(self, caller: Caller) -> None:
        if caller.alive and self._waiting:
            caller.send(self._target.request(), self._waiting.popleft())
        elif caller.alive:
            self._idle.append(caller)
        else:
            self._opened -= 1
            if self._waiting:
                self._open(self._waiting.popleft())
        self._count()

    def _count(self) -> None:
        self.ended += 1
        if self.ended >= self._total:
            self.finished.set()


async def open_loop(
    target: Target, *, rate_hz: float, seconds: float, seed: int = 1, warm: int = 8, most: int = 2000
) -> Tally:
    """Requests at a rate, on as many connections as it takes, up to `most`. Latency counts from when each was due."""
    schedule = arrivals(rate_hz, seconds, seed)
    calls = _Open(target, len(schedule), most)
    await calls.warm(warm)
    begun = perf_counter()
    for offset in schedule:
        # Also when late: with no turn of the loop in between, answers that are there would look late as well.
        await asyncio.sleep(max(begun + offset - perf_counter(), 0))
        calls.fire(begun + offset)
    try:
        if schedule:
            await asyncio.wait_for(calls.finished.wait(), PATIENCE_S)
    except TimeoutError:
        missing = len(schedule) - calls.ended
        calls.tally.fail(f"{missing} were not answered within {PATIENCE_S:.0f} s after the last was due", missing)
    calls.tally.seconds = perf_counter() - begun
    calls.close()
    return calls.tally


async def streams(target: Target, *, concurrent: int, ramp_s: float = 0.0) -> Tally:
    """That many event streams side by side, each once, begun over `ramp_s` so that they don't march in step."""
    tally = Tally()
    finished = asyncio.Event()
    ended = 0

    def done(caller: Caller) -> None:
        nonlocal ended
        ended += 1
        caller.abort()
        if ended == concurrent:
            finished.set()

    callers = [await connect(target.port, lambda: Caller(tally, done, streams=True)) for _ in range(concurrent)]
    begun = perf_counter()
    for number, caller in enumerate(callers):
        if (wait := begun + ramp_s * number / concurrent - perf_counter()) > 0:
            await asyncio.sleep(wait)
        if caller.alive:
            caller.send(target.request(), perf_counter())
        else:
            tally.fail("the connection was lost before its turn")
            done(caller)
    await finished.wait()
    tally.seconds = perf_counter() - begun
    return tally


async def hold(target: Target, *, concurrent: int, held: Callable[[], None], at_once: int = 50) -> Tally:
    """That many event streams kept open, and `held` called while they are: each has had its first stamped event.

    They are begun `at_once` at a time. The provider's script must have streams that then stay silent. `chunks` and
    `first_s` tell of them; they are broken off, so none is `done`. Ends early where one fails.
    """
    tally = Tally()
    callers: list[Caller] = []
    begun = perf_counter()
    while len(callers) < concurrent and not tally.failed:
        for _ in range(min(at_once, concurrent - len(callers))):
            caller = await connect(target.port, lambda: Caller(tally, lambda _: None, streams=True))
            caller.send(target.request(), perf_counter())
            callers.append(caller)
        waited = perf_counter()
        while len(tally.first_s) < len(callers) and not tally.failed:
            if perf_counter() - waited > PATIENCE_S:
                tally.fail(f"no first event within {PATIENCE_S:.0f} s", len(callers) - len(tally.first_s))
            await asyncio.sleep(0.002)
    if not tally.failed:
        held()
    tally.seconds = perf_counter() - begun
    for caller in callers:
        caller.abort()
    return tally


class PreciseSelector(selectors.EpollSelector):
    """Waits to the microsecond, where epoll's own timeout counts milliseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            select.select([self.fileno()], [], [], timeout)
        return super().select(0)


def run(load: Callable[[], Awaitable[Tally]], *, precise: bool = False, limit_s: float | None = None) -> Tally:
    """Run a load to its end: on uvloop where its own cost counts, on a precise clock where latency does.

    Raises TimeoutError where it takes longer than `limit_s`: a system that stands still would never end it.
    """

    async def main() -> Tally:
        async with asyncio.timeout(limit_s):
            return await load()

    make = (lambda: asyncio.SelectorEventLoop(PreciseSelector())) if precise else uvloop.new_event_loop
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=make) as runner:
            return runner.run(main())
    finally:
        gc.enable()
