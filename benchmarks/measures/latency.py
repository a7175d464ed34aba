"""Latency added at fixed rates (100, 300 and 1,000 requests a second): p50, p99 and p99.9, and the whole curve.

Requests are due by chance (Poisson), the same for everyone in a round, and latency counts from when one was due, so a
stall is felt by all that it delays. The same load goes straight to the provider in the same round; its percentile is
taken off. A system is not asked for more than 70 % of what it can do: beyond, its queue is measured, not its work. Who
can't do the least rate gets 20/s. Traps: the difference of percentiles is not the percentile of differences; p99.9
needs a thousand requests, so it comes from all rounds together where one has fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

from benchmarks import load
from benchmarks.figures import Figure, percentile
from benchmarks.lab import sound, target
from benchmarks.measures.bench import DIRECT, Bench, Rounds
from benchmarks.provider import Script

RATES = {100: 3.5, 300: 3.0, 1000: 2.0}
"""Requests/s, and for how many seconds."""

SLOW_RATE, SLOW_S = 20, 3.0
BUSY = 0.7
SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
CURVE = (0.01, 0.05, *(n / 20 for n in range(2, 20)), 0.97, 0.99, 0.995, 0.999, 0.9995, 0.9999)


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    for rate, seconds in ({SLOW_RATE: SLOW_S} | RATES).items():
        able = [name for name in bench.names() if _fits(bench, name, rate)]
        for name in bench.names():
            if name not in able and rate == min(RATES):
                note = f"{rate}/s is more than {BUSY:.0%} of what it can do ({bench.capacity(name):.0f}/s)"
                yield Figure("added_latency_p50", name, f"{rate}/s", "ms", [], note.replace("%", " %", 1))
        if able:
            yield from _at(bench, able, rate, *bench.pace.plan(3, seconds))


def _fits(bench: Bench, name: str, rate: int) -> bool:
    fits = rate <= BUSY * bench.capacity(name)
    return fits and (rate != SLOW_RATE or min(RATES) > BUSY * bench.capacity(name))


def _at(bench: Bench, names: list[str], rate: int, times: int, seconds: float) -> Iterator[Figure]:
    rounds: Counter[str] = Counter()

    def one(name: str) -> list[float]:
        rounds[name] += 1
        where = target(bench.lab.provider if name == DIRECT else bench.running[name])
        sound(load.run(partial(load.closed, where, connections=4, requests=16), limit_s=30), name)
        make = partial(load.open_loop, where, rate_hz=rate, seconds=seconds, seed=rounds[name])
        return sound(load.run(make, precise=True), name).latency_s

    found = bench.rounds(f"latency at {rate}/s", [DIRECT, *names], times, one)
    case = f"{rate}/s"
    for name in names:
        yield from _added(found, name, case)


def _added(found: Rounds[list[float]], name: str, case: str) -> Iterator[Figure]:
    direct, through = found.values[DIRECT], found.values[name]
    note = f"failed: {found.failures[name]}" if name in found.failures else ""
    together = _together(through), _together(direct[: len(through)])
    for words, at in SHARES.items():
        pairs = list(zip(through, direct, strict=False))
        enough = 1 / (1 - at)
        said = note
        if pairs and min(len(a) for a, _ in pairs) < enough:
            pairs, said = [together], f"all rounds together: {len(together[0])} requests"
            if len(together[0]) < enough:
                continue
        values = [(percentile(a, at) - percentile(b, at)) * 1000 for a, b in pairs]
        yield Figure(f"added_latency_{words}", name, case, "ms", values, said)
    shares = [at for at in CURVE if len(together[0]) * (1 - at) >= 1]
    curve = [(at, (percentile(together[0], at) - percentile(together[1], at)) * 1000) for at in shares]
    if curve:
        yield Figure("latency_curve", name, case, "ms", [], curve=curve)


def _together(rounds: list[list[float]]) -> list[float]:
    return sorted(value for one in rounds for value in one)
