"""CPU of one request by the size of its body: 16 kB, 128 kB and 1 MB of prompt, answered with 1 kB.

Ours, the yardstick and nginx. Traps: of large bodies most of the time goes into copying through sockets, which is the
kernel's work on behalf of the process and counts as its CPU; with many connections at once the bodies leave the
processor's cache, so there are fewer of them here (8) than elsewhere (32).
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import YARDSTICK, Figure
from benchmarks.measures.bench import OURS, Bench, Cost, costs, cpu_per_request
from benchmarks.provider import Script

BODIES = {"16 kB": 16_000, "128 kB": 128_000, "1 MB": 1_000_000}
LOAD_BYTES_PER_S = 500e6  # what our load and the provider pass on, with some room


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    times, length_s = bench.pace.plan(3, 0.7)
    names = bench.names(OURS, YARDSTICK, "nginx")
    for case, size in BODIES.items():

        def one(name: str, size: int = size) -> Cost:
            requests = min(bench.requests(name, length_s), int(LOAD_BYTES_PER_S * length_s / size))
            return cpu_per_request(bench, bench.running[name], max(64, requests), connections=8, prompt=size)

        yield from costs(bench.rounds(f"CPU per request of {case}", names, times, one), case)
