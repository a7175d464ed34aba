"""What was promised of the sidecar, and whether this run keeps it. The guard in CI has limits of its own.

A target is met when the median over the repetitions keeps the limit. What is said beside it tells how far the median
is from the limit, and how many repetitions were on the other side of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from benchmarks.figures import YARDSTICK, Figure, Report
from benchmarks.summary import (
    ALL_POLICIES,
    CACHE_HIT,
    OURS,
    PLAIN,
    cache_miss,
    cases,
    finite,
    main_case,
    ratio,
    read,
    times_yardstick,
)

_OF_YARDSTICK = f"× {YARDSTICK}"


class Verdict(Enum):
    MET = "met"
    MISSED = "missed"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """`limit` is the greatest value that is good. `figure`: ours, in the limit's unit; None if it wasn't measured."""

    name: str
    limit: float
    unit: str
    figure: Figure | None

    @property
    def promise(self) -> str:
        return f"≤ {self.limit:g} {self.unit}"

    @property
    def verdict(self) -> Verdict:
        if self.figure is None:
            return Verdict.UNKNOWN
        return Verdict.MET if self.figure.median <= self.limit else Verdict.MISSED

    @property
    def words(self) -> str:
        """`missed by 12 % (met in 1 of 5)`: of 5 repetitions."""
        if self.figure is None:
            return self.verdict.value
        met = self.verdict is Verdict.MET
        percent = abs(self.figure.median / self.limit - 1) * 100
        off = f"{percent:.1f} %" if percent < 9.95 else f"{percent:,.0f} %"
        said = f"met by {off}" if met else f"missed by {off}"
        runs = self.figure.values
        otherwise = sum((value <= self.limit) != met for value in runs)
        return f"{said} ({'missed' if met else 'met'} in {otherwise} of {len(runs)})" if otherwise else said


def targets(report: Report) -> list[Target]:
    """All of them, in the order of the promise."""
    cpu, chunk, rest = "cpu_per_request", "cpu_per_chunk", "memory_at_rest"
    hit = ratio(report.find(cpu, OURS, CACHE_HIT), cache_miss(report), "a miss")
    per_chunk = times_yardstick(report, chunk, OURS, main_case(report, chunk))
    return [
        Target("CPU per plain request", 1.25, _OF_YARDSTICK, times_yardstick(report, cpu, OURS, PLAIN)),
        Target(
            "CPU per request, all policies on", 1.5, _OF_YARDSTICK, times_yardstick(report, cpu, OURS, ALL_POLICIES)
        ),
        Target("CPU per streamed chunk", 1.15, _OF_YARDSTICK, per_chunk),
        Target("CPU of a cache hit", 0.5, "× a miss", hit),
        Target("Memory at rest", 64, "MiB", read(report, rest, OURS, main_case(report, rest))),
        Target("Stall: scrape, 1 MB, JSON swap", 10, "ms", _worst_stall(report, yaml=False)),
        Target("Stall: YAML swap", 50, "ms", _worst_stall(report, yaml=True)),
    ]


def _worst_stall(report: Report, *, yaml: bool) -> Figure | None:
    """The figure with the greatest median of the promised cases."""
    promised = ("scrape", "1 MB body", "swap")
    found = [
        figure
        for case in cases(report, "loop_stall", OURS)
        if case.startswith(promised) and ("yaml" in case) is yaml
        and (figure := finite(report.find("loop_stall", OURS, case))) is not None
    ]  # fmt: skip
    return max(found, key=lambda figure: figure.median, default=None)
