"""The three ways to count what a started system does, behind one interface: mark, ask, mark, read.

Each instrument starts a system of its own, since one would count the other. What a mark itself costs is seen between
two marks with nothing between them, and taken off.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.figures import percentile
from benchmarks.guard import heap, strace
from benchmarks.lab import FailedError
from benchmarks.processes import Process

Counts = Mapping[str, float]
PATIENCE_S = 20.0
PAUSE_S = 0.15
"""After a request: until all that it leaves to be done is done. Records of requests are gathered for 20 ms before they
are told, and the writer of events sleeps again after at most 80 ms. So each request costs the same: it finds nobody
awake and leaves nothing behind. (Under load such work is shared: the CPU is measured under load.)"""
PERCENTILE = 0.35
"""Of the intervals. What disturbs one is mostly something more: a timer of the process, once or twice a second."""
SAME_HASHES = ("env", "PYTHONHASHSEED=0")


class Instrument(ABC):
    """`python` is what the system is to be started with. Then: `attach`, `mark` as often as needed, `read`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: Process | None = None

    @property
    @abstractmethod
    def python(self) -> tuple[str, ...]: ...

    def attach(self, process: Process) -> None:
        self._process = process

    def _tail(self) -> str:
        return self._process.tail() if self._process is not None else ""

    async def mark(self) -> None:
        """An interval ends here, and another begins. Raises FailedError."""
        before = self.marks()
        self.signal()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self.marks() == before:  # noqa: ASYNC110 - another process writes it
                    await asyncio.sleep(0.003)
        except TimeoutError:
            raise FailedError(f"a counted process does not answer: {self._tail()}") from None

    @abstractmethod
    def signal(self) -> None:
        """Ask for a mark."""

    @abstractmethod
    def marks(self) -> int:
        """How many there are."""

    @abstractmethod
    def read(self) -> list[Counts]:
        """What was counted in each interval. For `Syscalls`: after the process has ended."""


class _Told(Instrument):
    """Counts that the system writes down on SIGUSR1 (`counted.py`)."""

    kind: str

    @property
    def python(self) -> tuple[str, ...]:
        return (*SAME_HASHES, sys.executable, "-m", "benchmarks.guard.counted", self.kind, str(self.folder))

    def signal(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGUSR1)

    def marks(self) -> int:
        return len(self.told())

    def told(self) -> list[str]:
        """Complete lines."""
        path = self.folder / "counts.jsonl"
        return path.read_text().split("\n")[:-1] if path.exists() else []


class Calls(_Told):
    """Calls, coroutine steps, tasks, timers, callbacks."""

    kind = "calls"

    def read(self) -> list[Counts]:
        told = [flat(json.loads(line)) for line in self.told()]
        return [difference(after, before) for before, after in pairwise(told)]


class Heap(_Told):
    """What is allocated."""

    kind = "heap"

    @property
    def python(self) -> tuple[str, ...]:
        env, *rest = super().python
        return (env, "PYTHONMALLOC=malloc", f"LD_PRELOAD={heap.tracer()}", *rest)

    def read(self) -> list[Counts]:
        intervals: list[Counts] = []
        for line in self.told()[1:]:
            with (self.folder / json.loads(line)["trace"]).open(errors="replace") as lines:
                intervals.append(heap.allocated(lines))
        return intervals


class Syscalls(Instrument):
    """System calls, under strace, of the real command."""

    @property
    def python(self) -> tuple[str, ...]:
        return (*SAME_HASHES, *strace.COMMAND, "--output", str(self.folder / "strace"), sys.executable)

    def attach(self, process: Process) -> None:
        super().attach(process)
        self._traced = next(pid for pid in process.pids() if pid != process.pid)  # strace's only child

        self._trace = strace.Trace(self.folder / "strace", self._traced)

    def signal(self) -> None:
        os.kill(self._traced, signal.SIGWINCH)

    def marks(self) -> int:
        return self._trace.marks()

    def read(self) -> list[Counts]:
        intervals: list[Counts] = []
        for calls in self._trace.intervals():
            threads = sum(count for name, count in calls.items() if name.startswith("thread:"))
            intervals.append({"syscalls": calls.total() - threads, "thread_syscalls": threads, **calls})
        return intervals


def flat(told: Mapping[str, Any]) -> dict[str, float]:
    """One level: what is counted by function stands beside the rest."""
    counts = dict(told)
    return {**counts.pop("functions", {}), **counts}


def difference(after: Counts, before: Counts) -> Counts:
    return {name: count - before.get(name, 0) for name, count in after.items()}


EMPTY = 5


async def marked(instrument: Instrument, ask: Callable[[], Awaitable[None]], times: int) -> None:
    """`ask` that often, between marks: first `EMPTY` intervals with nothing in them, then one for each."""
    await asyncio.sleep(PAUSE_S)
    await instrument.mark()
    for _ in range(EMPTY):
        await asyncio.sleep(0.01)
        await instrument.mark()
    for _ in range(times):
        await ask()
        await instrument.mark()


def per_unit(intervals: Sequence[Counts], size: int) -> dict[str, float]:
    """Counts per unit, of what `marked` makes with batches of `size`, less what a mark costs."""
    names = {name for interval in intervals for name in interval}

    def usual(of: Sequence[Counts], name: str) -> float:
        return percentile([interval.get(name, 0) for interval in of], PERCENTILE)

    empty, batches = intervals[:EMPTY], intervals[EMPTY:]
    return {name: (usual(batches, name) - usual(empty, name)) / size for name in names}
