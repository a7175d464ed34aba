"""What a stream waits longer: to its first token (TTFT), and for each later one, with 1, 100 and 1,000 at once.

The provider stamps each event with the time at which it writes it, so a later event's delay is read, not guessed. TTFT
counts from when the request was sent. The same streams go straight to the provider in the same round; their percentile
is taken off. One stream at a time has an event every 5 ms; 100 have one every 200 ms, 1,000 one every second, begun
little by little, so that no fast system is near its limit; the note tells how busy its core was. A slow system (less
than 500 requests/s) gets 1 and 100 only, begun as slowly as it can bear. Traps: load and provider share what cores are
left, which delays the direct path too; streams one after the other use one connection, and a server that leaves Nagle's
algorithm on there holds the first event until the head was acknowledged, 40 ms later (clients of its own would see it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from benchmarks import load
from benchmarks.caller import Tally
from benchmarks.figures import Figure, percentile
from benchmarks.lab import sound, target
from benchmarks.measures.bench import DIRECT, Bench, Busy, Rounds, Watch, worst
from benchmarks.provider import Script
from benchmarks.systems import Running

SLOW = 500.0
"""Requests/s below which a system gets no 1,000 streams."""

SHARES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Case:
    """`each` events a stream, `gap_ms` apart; begun over `ramp_s`, or more slowly where that is too fast.

    One at a time: as many streams of `EVENTS` as make so many events.
    """

    streams: int
    each: float
    gap_ms: float
    ramp_s: float
    times: int

    @property
    def name(self) -> str:
        return f"{self.streams} stream{'s' * (self.streams > 1)}"


CASES = (
    Case(1, each=280, gap_ms=5, ramp_s=0, times=3),
    Case(100, each=10, gap_ms=200, ramp_s=1.0, times=3),
    Case(1000, each=3, gap_ms=1000, ramp_s=2.5, times=2),
)
EVENTS = 20


@dataclass(frozen=True, slots=True)
class Found:
    first_s: list[float]
    chunk_s: list[float]
    busy: Busy


def measure(bench: Bench) -> Iterator[Figure]:
    for case in CASES:
        names = [n for n in bench.names() if case.streams <= 100 or bench.capacity(n) >= SLOW]
        times, each = bench.pace.plan(case.times, case.each, least=1)
        found = bench.rounds(case.name, [DIRECT, *names], times, partial(_one, bench, replace(case, each=each)))
        for name in names:
            yield from _added(found, name, case.name)


def _one(bench: Bench, case: Case, name: str) -> Found:
    to = bench.lab.provider if name == DIRECT else bench.running[name]
    make = _load(bench, case, name, to)
    watch = Watch(bench.lab, to)
    tally = sound(load.run(make, precise=True, limit_s=120), name)
    return Found(tally.first_s, tally.chunk_s, watch.busy())


def _load(bench: Bench, case: Case, name: str, to: Running) -> Callable[[], Awaitable[Tally]]:
    """Also sets the provider's script for it."""
    where = target(to, stream=True)
    if case.streams == 1:
        bench.lab.script(Script(chunks=EVENTS, gap_ms=case.gap_ms))
        requests = max(5, round(case.each / EVENTS))
        return partial(load.closed, where, connections=1, requests=requests, streams=True)
    able = 1e9 if name == DIRECT else bench.capacity(name)
    ramp_s = max(case.ramp_s, case.streams / (0.4 * able))
    each = max(3, round(case.each)) + int((ramp_s - case.ramp_s) * 1000 / case.gap_ms)
    bench.lab.script(Script(chunks=each, gap_ms=case.gap_ms))
    return partial(load.streams, where, concurrent=case.streams, ramp_s=ramp_s)


def _added(found: Rounds[Found], name: str, case: str) -> Iterator[Figure]:
    pairs = list(zip(found.values[name], found.values[DIRECT], strict=False))
    note = worst(f.busy for f, _ in pairs) if pairs else ""
    if name in found.failures:
        note = f"failed: {found.failures[name]}"
    for words, at in SHARES.items():
        first = [(percentile(a.first_s, at) - percentile(b.first_s, at)) * 1000 for a, b in pairs]
        later = [(percentile(a.chunk_s, at) - percentile(b.chunk_s, at)) * 1000 for a, b in pairs]
        yield Figure(f"ttft_added_{words}", name, case, "ms", first, note)
        yield Figure(f"chunk_delay_added_{words}", name, case, "ms", later, note)
