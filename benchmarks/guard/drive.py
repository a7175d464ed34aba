"""How the guard asks: over connections that stay open from batch to batch, and in two rhythms.

`closed` keeps all connections busy: for CPU, at saturation. `paced` sends one request at a time and waits between two,
until everything that the one before has set going is over: for counts, which so come out the same each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Self

from benchmarks.caller import Caller, Tally, Target
from benchmarks.lab import FailedError
from benchmarks.load import connect
from benchmarks.systems import Running

PATIENCE_S = 60.0
"""For one batch. Under strace a request takes ten times as long as else."""


@asynccontextmanager
async def stopped_together() -> AsyncIterator[list[Running]]:
    """What is put into this list is stopped at the end, side by side: each waits for our ends of its connections."""
    started: list[Running] = []
    try:
        yield started
    finally:
        await asyncio.gather(*(asyncio.to_thread(running.stop) for running in started))


class Batch:
    """A number of answers that are waited for. `missing`: how many haven't come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missing = 0
        self._unasked = 0
        self._complete = asyncio.Event()

    def begin_batch(self, size: int, *, at_once: int) -> None:
        """`at_once` of these will be asked for without waiting for another."""
        self.missing = size
        self._unasked = size - min(size, at_once)
        self._complete.clear()

    def answered(self) -> bool:
        """One came. True if one more is to be asked for in its place."""
        self.missing -= 1
        if self.missing <= 0:
            self._complete.set()
        if self._unasked <= 0:
            return False
        self._unasked -= 1
        return True

    def break_off(self) -> None:
        self._complete.set()

    async def end_of_batch(self) -> None:
        """Until all came, or the batch is broken off. Raises FailedError."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._complete.wait()
        except TimeoutError:
            raise FailedError(f"{self.name}: {self.missing} answers did not come") from None
        self._complete.clear()


class Connections(Batch):
    """Kept connections to one system, on which requests are sent."""

    def __init__(self, name: str, target: Target) -> None:
        super().__init__(name)
        self._target = target
        self._tally = Tally()
        self._callers: list[Caller] = []

    @classmethod
    async def open(cls, name: str, target: Target, count: int = 1) -> Self:
        """Raises OSError."""
        made = cls(name, target)
        made._callers = [await connect(target.port, lambda: Caller(made._tally, made._came)) for _ in range(count)]
        return made

    async def closed(self, requests: int) -> None:
        """Each connection sends its next request when the one before was answered. Raises FailedError."""
        self.begin_batch(requests, at_once=len(self._callers))
        for caller in self._callers[:requests]:
            caller.send(self._target.request(), perf_counter())
        await self._end()

    async def paced(self, requests: int, pause_s: float) -> None:
        """One at a time, on the first connection, with a pause after each. Raises FailedError."""
        for _ in range(requests):
            self.begin_batch(1, at_once=1)
            self._callers[0].send(self._target.request(), perf_counter())
            await self._end()
            await asyncio.sleep(pause_s)

    def close(self) -> None:
        for caller in self._callers:
            caller.abort()

    def _came(self, caller: Caller) -> None:
        if self._tally.failed:
            self.break_off()
        elif self.answered():
            caller.send(self._target.request(), perf_counter())

    async def _end(self) -> None:
        await self.end_of_batch()
        if self._tally.failed:
            raise FailedError(f"{self.name}: a request failed: {self._tally.last_failure}")
