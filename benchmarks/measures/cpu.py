"""CPU of one plain request of 1 kB, from the process's own accounting.

The steadiest figure there is: a busy machine makes a request late, but hardly dearer. Traps: a proxy that is not at
saturation gathers fewer events each time it wakes, so its requests cost more; the note tells which share of its core
it used. What a process does besides its requests (timers, logs of a gateway) is in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.measures.bench import Bench, Cost, costs, cpu_per_request
from benchmarks.provider import Script


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    times, length_s = bench.pace.plan(5, 1.0)

    def one(name: str) -> Cost:
        return cpu_per_request(bench, bench.running[name], bench.requests(name, length_s))

    yield from costs(bench.rounds("CPU per request", bench.names(), times, one), "1 kB")
