"""CPU per request and per chunk, ours over the bare pass-through's, measured in turn in one run.

CPU is what the kernel says that all threads of the process have used, from the begin of a batch to the begin of the
process's next one: so what a batch leaves to a thread that gathers (the writer of events) is counted to it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import systems
from benchmarks.guard.counts import EVERY_POLICY
from benchmarks.guard.drive import Connections, stopped_together
from benchmarks.guard.lockstep import LockStep
from benchmarks.guard.statistic import BLOCK, breached, decided, ratio
from benchmarks.lab import Lab, target
from benchmarks.systems import Running

REQUEST, EVERY, CHUNK = "cpu_per_request", "cpu_per_request_every_policy", "cpu_per_chunk"
CASES = {
    REQUEST: "CPU per plain request",
    EVERY: "CPU per request, every policy on",
    CHUNK: "CPU per relayed chunk",
}
CONNECTIONS = 8
STREAMS = 16
WARM_REQUESTS, WARM_CHUNKS = 600, 3000
BATCH_S = 0.012
"""CPU of one batch, about."""
ROWS = 96
FEWEST_ROWS = 6 * BLOCK
LONGEST_S = 6.0
"""Of one phase of a round. On a machine so busy that this isn't enough for all rows there are fewer."""
SETTLE_S = 0.25
"""Until the writer of events has written what it gathered."""


@dataclass(slots=True)
class Unit:
    """What is measured in turn with others: `ask` asks this system for a number of requests, or chunks."""

    system: Running
    ask: Callable[[int], Awaitable[None]]
    size: int = 0
    clock_s: list[float] = field(default_factory=list)

    async def warm(self, number: int) -> None:
        """Half of it to warm up, half to find how many of them make a batch."""
        await self.ask(number // 2)
        before = self.system.process.cpu_s()
        await self.ask(number // 2)
        each_s = (self.system.process.cpu_s() - before) / (number // 2)
        self.size = max(2 * CONNECTIONS, round(BATCH_S / max(each_s, 1e-7)))

    def read_clock(self) -> None:
        self.clock_s.append(self.system.process.cpu_s())

    def each_us(self) -> list[float]:
        """µs of CPU per request, or chunk, in each batch."""
        return [(b - a) / self.size * 1e6 for a, b in zip(self.clock_s, self.clock_s[1:], strict=False)]


@dataclass(slots=True)
class Round:
    """One round of some cases: µs of CPU in each batch, (ours, the pass-through's)."""

    batches_us: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    def ratio(self, case: str) -> float:
        return ratio(*self.batches_us[case])

    def us(self, case: str) -> tuple[float, float]:
        ours, theirs = self.batches_us[case]
        return statistics.median(ours), statistics.median(theirs)


async def in_turn(units: Sequence[Unit], *, rows: int = ROWS, longest_s: float = LONGEST_S) -> None:
    """A row is a batch of each; every second row goes backwards."""
    begun = time.monotonic()
    for row in range(rows):
        if row >= FEWEST_ROWS and row % BLOCK == 0 and time.monotonic() - begun > longest_s:
            break
        for unit in units if row % 2 == 0 else reversed(units):
            unit.read_clock()
            await unit.ask(unit.size)
    await asyncio.sleep(SETTLE_S)
    for unit in units:
        unit.read_clock()


async def measure(lab: Lab, cases: Sequence[str], *, plant: float = 0.0) -> Round:
    """A round of these cases, on processes of its own. `plant`: make ours slower by this share.

    Raises FailedError, StartError.
    """
    python = (sys.executable, "-m", "benchmarks.guard.planted", str(plant)) if plant else ()
    measured = Round()
    async with LockStep() as provider, stopped_together() as started:

        def start(pins: str | None = None) -> Running:
            running = systems.sidecar(
                lab.place("model-sidecar"), provider.port, cores=lab.measured, python=python, pins=pins
            )
            started.append(running)
            return running

        bare = systems.passthrough(lab.place("passthrough"), provider.port, cores=lab.measured)
        started.append(bare)
        plain = start()
        compared = {REQUEST: plain} if REQUEST in cases else {}
        if EVERY in cases:
            compared[EVERY] = start(EVERY_POLICY)
        if compared:
            measured.batches_us |= await _requests(bare, compared)
        if CHUNK in cases:
            measured.batches_us[CHUNK] = await _chunks(provider, bare, plain)
    return measured


async def _requests(bare: Running, compared: dict[str, Running]) -> dict[str, tuple[list[float], list[float]]]:
    units = []
    connections = []
    for system in (bare, *compared.values()):
        kept = await Connections.open(system.name, target(system), CONNECTIONS)
        connections.append(kept)
        units.append(Unit(system, kept.closed))
        await units[-1].warm(WARM_REQUESTS)
    await asyncio.sleep(SETTLE_S)
    await in_turn(units)
    for kept in connections:
        kept.close()
    theirs, *ours = (unit.each_us() for unit in units)
    return {case: (values, theirs) for case, values in zip(compared, ours, strict=True)}


async def _chunks(provider: LockStep, bare: Running, plain: Running) -> tuple[list[float], list[float]]:
    units = []
    streams = []
    for system in (bare, plain):
        begun = await provider.streams(system, STREAMS)
        streams.append(begun)
        units.append(Unit(system, begun.advance))
        await units[-1].warm(WARM_CHUNKS)
    await asyncio.sleep(SETTLE_S)
    await in_turn(units)
    for begun in streams:
        await begun.end()
    return units[1].each_us(), units[0].each_us()


@dataclass(slots=True)
class Measured:
    """All rounds of a run."""

    rounds: list[Round] = field(default_factory=list)

    def ratios(self, case: str) -> list[float]:
        return [one.ratio(case) for one in self.rounds if case in one.batches_us]

    def us(self, case: str) -> tuple[float, float]:
        """Ours, the pass-through's: of the last round."""
        return next(one for one in reversed(self.rounds) if case in one.batches_us).us(case)

    def breaches(self, limits: dict[str, float]) -> list[str]:
        """The cases that are over their limit."""
        return [case for case, limit in limits.items() if breached(self.ratios(case), limit)]


async def run(lab: Lab, limits: dict[str, float], *, plant: float = 0.0) -> Measured:
    """As many rounds of each case as its verdict needs. Raises FailedError, StartError."""
    measured = Measured()
    while open_cases := [case for case, limit in limits.items() if not decided(measured.ratios(case), limit)]:
        measured.rounds.append(await measure(lab, open_cases, plant=plant))
    return measured
