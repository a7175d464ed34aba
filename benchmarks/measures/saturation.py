"""Requests/s at saturation on one core: 32 connections that always have a request open.

Everyone is started anew in front of nginx with a fixed answer, and loaded by wrk, where the machine has them: our load
is slower than the proxies in C. Whether the proxy or the load was the limit is told by the proxy's share of its
core in that time: below 90 % the note says `load-bound`, or that others used the core. The case `by CPU` tells what the
whole core would do at the same cost. Traps: requests/s of a busy machine are low by what others take; `by CPU` is not.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.measures import strong
from benchmarks.measures.bench import Bench, worst
from benchmarks.provider import Script

WAVES = 8  # answers of each connection at least


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    times, seconds = bench.pace.plan(3, 2.0)
    with strong.upstream(bench.lab) as port, bench.started(bench.names(), port) as fresh:

        def one(name: str) -> strong.Reached:
            # What is in flight when time is up isn't counted: of a slow system that is a good part of a second's work.
            enough = max(seconds, WAVES * strong.CONNECTIONS / bench.capacity(name))
            return strong.saturate(bench.lab, fresh[name], enough, bench.requests(name, enough))

        for name, to in fresh.items():
            bench.warm_up(name, to)
        found = bench.rounds("saturation", fresh, times, one)
    for name, reached in found.values.items():
        if reached:
            bench.known[name] = max(one.rps for one in reached)
    yield from found.figures("rps_saturated", "1/s", lambda r: r.rps, case="1 kB", note=_note)
    yield from found.figures("rps_saturated", "1/s", lambda r: r.by_cpu, case="by CPU")


def _note(found: list[strong.Reached]) -> str:
    busy = worst(one.busy for one in found)
    words = [f"load-bound, {busy}" if busy.startswith("at") else busy] if busy else []
    missing = [what for what, there in (("wrk", strong.wrk()), ("nginx", strong.nginx())) if there is None]
    words += [f"no {' and no '.join(missing)} here: our own load and provider"] if missing else []
    return "; ".join(words)
