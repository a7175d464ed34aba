"""Memory of a process and its descendants: at rest, after the run, and for each of 5,000 idle streams.

Shared pages are counted in their part (PSS). At rest is after the start, before the first request; after is at the end
of all measures, when everyone has served the same kinds of load. Idle streams have had their first event and wait for
the next. Traps: what sockets hold in the kernel is not in it; memory that an allocator keeps is, so `after` tells of
the greatest load as much as of a leak (the soak looks for leaks).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks import load
from benchmarks.figures import YARDSTICK, Figure
from benchmarks.lab import allow_files, sound, target
from benchmarks.measures.bench import OURS, SETTLE_S, Bench
from benchmarks.provider import Script

STREAMS = 5000
FEW, SHORT = 1000, 0.2  # so many only, in a run so short
FILES_OF_A_PROXY = 2  # for each stream
SPARE_FILES = 400
FOREVER_MS = 3_600_000.0
HOLDERS = (OURS, YARDSTICK, "nginx", "haproxy")


def at_rest(bench: Bench) -> Iterator[Figure]:
    for name, mib in bench.rest_mib.items():
        yield Figure("memory_at_rest", name, "", "MiB", [mib])


def after(bench: Bench) -> Iterator[Figure]:
    time.sleep(SETTLE_S)
    for name in bench.names():
        yield Figure("memory_after", name, "", "MiB", [bench.running[name].process.memory_mib()])


def idle_streams(bench: Bench) -> Iterator[Figure]:
    streams = min(STREAMS, (allow_files() - SPARE_FILES) // FILES_OF_A_PROXY)
    if bench.pace.scale < SHORT:
        streams = min(streams, FEW)
    with bench.started(bench.names(*HOLDERS)) as fresh:

        def one(name: str) -> float:
            to = fresh[name]
            bench.warm_up(name, to)
            time.sleep(SETTLE_S)
            before, held = to.process.memory_mib(), 0.0

            def look() -> None:
                nonlocal held
                time.sleep(SETTLE_S)
                held = to.process.memory_mib()

            bench.lab.script(Script(chunks=2, gap_ms=FOREVER_MS))
            make = partial(load.hold, target(to, stream=True), concurrent=streams, held=look)
            sound(load.run(make, limit_s=120), name)
            return (held - before) * 1024 / streams

        found = bench.rounds(f"{streams} idle streams", fresh, 1, one)
    yield from found.figures("memory_idle_stream", "KiB", lambda kib: kib, case=f"{streams} streams")
    bench.lab.script(Script())
