"""What is measured, in order: one file each, which says the method and its traps.

A measure takes a `Bench` and yields figures. `each_s` and `once_s` are what it takes, roughly, for each system that it
is for and besides, `fixed_s` what it takes however short it is made; the runner plans its time by them. Those that can
be made shorter best are last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figures import YARDSTICK, Figure
from benchmarks.measures import (
    bodies,
    cache,
    chunks,
    cpu,
    delay,
    latency,
    memory,
    pins,
    policies,
    saturation,
    startup,
    swap,
)  # fmt: skip
from benchmarks.measures.bench import OURS, Bench

__all__ = ["ORDER", "Bench", "Measure"]


@dataclass(frozen=True, slots=True)
class Measure:
    """`of`: for whom; nothing for all. `gives`: the names of its figures."""

    name: str
    make: Callable[[Bench], Iterator[Figure]]
    says: str
    gives: tuple[str, ...]
    of: tuple[str, ...] = ()
    each_s: float = 0.0
    once_s: float = 0.0
    fixed_s: float = 0.0

    def seconds(self, names: list[str]) -> tuple[float, float]:
        """About how long it takes for these systems: what is to scale, and what isn't. 0 where none is meant."""
        meant = [name for name in names if not self.of or name in self.of]
        return (self.once_s + self.each_s * len(meant), self.fixed_s) if meant else (0.0, 0.0)


def _stalls(bench: Bench) -> Iterator[Figure]:
    from benchmarks import stalls

    yield from stalls.measure(bench.lab, stalls.Options(repetitions=bench.pace.times(1)))


_RPS = ("rps_saturated",)
_IDLE = ("memory_idle_stream",)
_CPU = ("cpu_per_request",)
_PERCENTILES = ("p50", "p99", "p999")
_LATENCY = (*(f"added_latency_{p}" for p in _PERCENTILES), "latency_curve")
_DELAY = tuple(f"{what}_added_{p}" for what in ("ttft", "chunk_delay") for p in _PERCENTILES[:2])

ORDER = (
    Measure("rest", memory.at_rest, "memory at rest", ("memory_at_rest",), fixed_s=0.1),
    Measure("saturation", saturation.measure, "requests/s on one core", _RPS, each_s=8, fixed_s=30),
    Measure("cpu", cpu.measure, "CPU of a plain request", _CPU, each_s=6),
    Measure("chunks", chunks.measure, "CPU of a relayed event of a stream", ("cpu_per_chunk",), each_s=5, fixed_s=10),
    Measure("policies", policies.measure, "CPU of each policy alone", _CPU, (OURS,), once_s=38, fixed_s=15),
    Measure("cache", cache.measure, "CPU of cache hits and misses", _CPU, (OURS,), once_s=9, fixed_s=4),
    Measure("pins", pins.measure, "CPU by the number of pins", _CPU, (OURS,), once_s=16, fixed_s=10),
    Measure("bodies", bodies.measure, "CPU by the size of the body", _CPU, (OURS, YARDSTICK, "nginx"), each_s=7),
    Measure("swap", swap.measure, "p99 in the second of a swap", ("swap_p99",), (OURS,), once_s=24, fixed_s=12),
    Measure("idle", memory.idle_streams, "memory of an idle stream", _IDLE, memory.HOLDERS, fixed_s=40),
    Measure("stalls", _stalls, "how long the event loop is held", ("loop_stall",), (OURS,), fixed_s=75),
    Measure("startup", startup.startup, "time until it listens", ("startup",), (OURS, YARDSTICK), each_s=3, fixed_s=3),
    Measure("import", startup.import_time, "time of the import", ("import_time",), (OURS,), once_s=8),
    Measure("latency", latency.measure, "latency added at 100, 300, 1,000/s", _LATENCY, each_s=26, once_s=26),
    Measure("delay", delay.measure, "TTFT and delay of events of streams", _DELAY, each_s=22, once_s=22, fixed_s=30),
    Measure("after", memory.after, "memory after all of this", ("memory_after",), fixed_s=1),
)  # fmt: skip
