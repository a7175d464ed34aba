"""How a report is read: numbers in words, the order of systems, which case stands for a measure, what is compared
with what. It decides nothing about looks: `table.py` and `page/` do.

A value that is not a number (a repetition that failed) counts as not measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from benchmarks.figures import YARDSTICK, Figure, Report

OURS = "model-sidecar"
PLAIN = "1 kB"  # the case of a plain request
ALL_POLICIES = "policy: all"
NO_POLICIES = "policy: none"
POLICY = "policy: "
CACHE_HIT = "cache hit"
CACHE_MISSES = ("cache miss", "policy: cache", PLAIN)  # what a hit is compared with: the first that was measured
BEFORE = ", before"  # at the end of a case of `swap_p99`: in the second before the swap
MISSING = "–"
MINUS = "\N{MINUS SIGN}"
MORE = "µs "  # how the unit of a difference begins, not that of a ratio
FIRST = ("direct", YARDSTICK, OURS)

MEASURES = {
    "rps_saturated": "requests/s at saturation",
    "cpu_per_request": "CPU per request",
    "cpu_per_chunk": "CPU per streamed chunk",
    "added_latency_p50": "added latency, p50",
    "added_latency_p99": "added latency, p99",
    "added_latency_p999": "added latency, p99.9",
    "latency_curve": "added latency by percentile",
    "ttft_added_p50": "time to first token added, p50",
    "ttft_added_p99": "time to first token added, p99",
    "chunk_delay_added_p50": "chunk delay added, p50",
    "chunk_delay_added_p99": "chunk delay added, p99",
    "memory_idle_stream": "memory of an idle stream",
    "memory_at_rest": "memory at rest",
    "memory_after": "memory after the run",
    "loop_stall": "event-loop stall",
    "swap_p99": "latency p99 during a swap",
    "startup": "start-up until it listens",
    "import_time": "import",
}
"""What each measure is called; any other keeps its own name."""

_MAGNITUDE = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*(.*)")
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6}


def number(value: float, decimals: int | None = None) -> str:
    """With three digits that count (two below 1), or as many decimals as told; `MISSING` for what is no number."""
    if not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size >= 99_999.5:
        text = f"{size / 1e6:,.2f}M" if size >= 999_500 else f"{size / 1e3:.0f}k"
    else:
        text = f"{size:,.{_decimals(size) if decimals is None else decimals}f}"
    if not text.strip("0."):
        return "0"
    return f"{MINUS}{text}" if value < 0 else text


def _decimals(size: float) -> int:
    """How many decimals leave three digits that count, two below 1."""
    for decimals, least in enumerate((99.95, 9.995, 0.0995)):
        if size >= least:
            return decimals
    return 1 - math.floor(math.log10(size)) if size >= 1e-6 else 0


def spread(figure: Figure) -> str:
    """Least–greatest over the repetitions, about as fine as the median; nothing if there was but one."""
    if len(figure.values) < 2:
        return ""
    size, widest = abs(figure.median), max(map(abs, figure.spread))
    fine = min(_decimals(size), _decimals(widest) + (widest < 2 * size))
    low, high = (number(value, fine) for value in figure.spread)
    return f"{low}{'…' if low.startswith(MINUS) else '–'}{high}"


def told(figure: Figure | None) -> str:
    """In one line: `441 (430–450)`."""
    if figure is None:
        return MISSING
    range_ = spread(figure)
    return f"{number(figure.median)} ({range_})" if range_ else number(figure.median)


def with_unit(figure: Figure) -> str:
    """The median: `441 µs`, `2,400/s`."""
    text = number(figure.median)
    return f"{text}/s" if figure.unit == "1/s" else f"{text} {figure.unit}".rstrip()


def compared(figure: Figure | None) -> str:
    """A ratio or a difference, with what it is to: `1.29 × passthrough (1.22–1.35)`; nothing of None."""
    if figure is None:
        return ""
    sign = "+" if figure.unit.startswith(MORE) and figure.median > 0 else ""
    range_ = spread(figure)
    return f"{sign}{number(figure.median)} {figure.unit}{f' ({range_})' if range_ else ''}"


def measure_name(measure: str) -> str:
    return MEASURES.get(measure, measure.replace("_", " "))


def finite(figure: Figure | None) -> Figure | None:
    """The figure with its numbers only; None if there are none."""
    if figure is None:
        return None
    values = [v for v in figure.values if math.isfinite(v)]
    return replace(figure, values=values) if values else None


def read(report: Report, measure: str, system: str, case: str = "") -> Figure | None:
    return finite(report.find(measure, system, case))


def pairwise(
    figure: Figure | None, other: Figure | None, unit: str, how: Callable[[float, float], float]
) -> Figure | None:
    """`how(a, b)` of the values of the same repetition; None where there is nothing to compare."""
    if figure is None or other is None:
        return None
    pairs = zip(figure.values, other.values, strict=False)
    values = [v for v in (how(a, b) for a, b in pairs) if math.isfinite(v)]
    return Figure(figure.measure, figure.system, figure.case, unit, values) if values else None


def ratio(figure: Figure | None, other: Figure | None, to: str) -> Figure | None:
    return pairwise(figure, other, f"× {to}", lambda a, b: a / b if b else math.nan)


def times_yardstick(report: Report, measure: str, system: str, case: str) -> Figure | None:
    """Over the yardstick in the same case; None of the yardstick itself."""
    if system == YARDSTICK:
        return None
    return ratio(report.find(measure, system, case), report.find(measure, YARDSTICK, case), YARDSTICK)


def magnitude(case: str) -> tuple[float, str] | None:
    """The number that a case begins with, and of what: (16000, "body") of "16 kB", (2000, "pins json"), (100, "/s")."""
    match = _MAGNITUDE.fullmatch(case.strip())
    if match is None:
        return None
    value, rest = float(match[1].replace(",", "")), match[2].strip()
    unit = rest.split(" ")[0]
    if unit in _BYTES:
        return value * _BYTES[unit], "body"
    return value, {"stream": "streams"}.get(rest, rest)


def _rank(case: str) -> tuple[int, str, float, str]:
    found = magnitude(case)
    return (1, "", 0.0, case) if found is None else (0, found[1], found[0], case)


def cases(report: Report, measure: str, system: str | None = None, of: str | None = None) -> list[str]:
    """The cases of this measure that hold a figure, the smaller first; of this system and of this kind only."""
    found = {
        f.case
        for f in report.figures
        if f.measure == measure and system in {None, f.system} and (finite(f) is not None or f.curve)
    }
    if of is not None:
        found = {case for case in found if (m := magnitude(case)) is not None and m[1].startswith(of)}
    return sorted(found, key=_rank)


def main_case(report: Report, measure: str, *preferred: str) -> str:
    """The case that stands for this measure: the first preferred one that ours has; else the greatest of those that
    most systems have; else the one that most of them have."""
    holders: dict[str, set[str]] = {case: set() for case in cases(report, measure)}
    for figure in report.figures:
        if figure.measure == measure and figure.case in holders:
            holders[figure.case].add(figure.system)
    systems = set().union(*holders.values())
    known = [case for case in holders if OURS in holders[case]] or list(holders)
    for case in preferred:
        if case in known:
            return case
    most = [case for case in known if len(holders[case]) * 2 > len(systems)]
    if most:
        return max(most, key=lambda case: ((magnitude(case) or (0.0, ""))[0], len(holders[case])))
    return max(known, key=lambda case: len(holders[case]), default="")


def order(report: Report) -> list[str]:
    """Who took part: direct, the yardstick, ours, then the peers, the thriftiest with the CPU first."""
    names = [s.name for s in report.systems if not s.skipped] + [f.system for f in report.figures]

    def rank(name: str) -> tuple[int, float, str]:
        cpu = read(report, "cpu_per_request", name, PLAIN)
        place = FIRST.index(name) if name in FIRST else len(FIRST)
        return place, cpu.median if cpu else math.inf, name

    return sorted(set(names), key=rank)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing about ours. `compared`: the same as a ratio or a difference, in its own unit."""

    label: str
    figure: Figure
    compared: Figure | None = None


def cache_miss(report: Report, system: str = OURS) -> Figure | None:
    """What a cache hit is compared with."""
    found = (report.find("cpu_per_request", system, case) for case in CACHE_MISSES)
    return next((f for f in found if finite(f) is not None), None)


def policies(report: Report, system: str = OURS) -> list[Row]:
    """Each policy switched on alone, then all: their cost, and how much more that is than with none."""
    measure = "cpu_per_request"
    base = report.find(measure, system, NO_POLICIES) or report.find(measure, system, PLAIN)
    found = [c for c in cases(report, measure, system) if c.startswith(POLICY) and c not in {NO_POLICIES, ALL_POLICIES}]
    rows = []
    for case in [*found, ALL_POLICIES]:
        figure = report.find(measure, system, case)
        if (clean := finite(figure)) is not None:
            more = pairwise(figure, base, f"{MORE}to none on", lambda a, b: a - b)
            rows.append(Row(case.removeprefix(POLICY), clean, more))
    return rows


def swaps(report: Report) -> list[Row]:
    """p99 in the second after a swap, and how many times that of the second before."""
    found = [case for case in cases(report, "swap_p99", OURS, "pins") if not case.endswith(BEFORE)]
    rows = []
    for case in found:
        before = ratio(report.find("swap_p99", OURS, case), report.find("swap_p99", OURS, case + BEFORE), "before")
        if (figure := read(report, "swap_p99", OURS, case)) is not None:
            rows.append(Row(case, figure, before))
    return rows


def _rows(report: Report, measure: str, wanted: Iterable[str], label: Callable[[str], str]) -> list[Row]:
    """Of ours, in these cases, over the yardstick in the same."""
    found = ((case, read(report, measure, OURS, case)) for case in wanted)
    return [Row(label(case), f, times_yardstick(report, measure, OURS, case)) for case, f in found if f is not None]


def _cpu(report: Report) -> list[Row]:
    """By body, by pins, of the cache, of each policy."""
    cpu = "cpu_per_request"
    rows = _rows(report, cpu, cases(report, cpu, OURS, "body"), lambda case: f"body of {case}")
    rows += _pins(report)
    hit, miss = report.find(cpu, OURS, CACHE_HIT), cache_miss(report)
    if (clean := finite(hit)) is not None:
        of = "a miss" if miss is None or miss.case != PLAIN else "a plain request"
        rows.append(Row(CACHE_HIT, clean, ratio(hit, miss, of)))
    rows += _rows(report, cpu, [c for c in CACHE_MISSES[:1] if c in cases(report, cpu, OURS)], str)
    rows += _rows(report, cpu, [c for c in [NO_POLICIES] if c in cases(report, cpu, OURS)], str)
    return rows + [replace(row, label=_policy(row.label)) for row in policies(report)]


def _pins(report: Report) -> list[Row]:
    """Each over the least pins in a file of its kind: it ought to be 1."""
    rows = []
    least: dict[str, Figure] = {}
    for case in cases(report, "cpu_per_request", OURS, "pins"):
        figure, found = report.find("cpu_per_request", OURS, case), magnitude(case)
        if (clean := finite(figure)) is not None and figure is not None and found is not None:
            first = least.setdefault(found[1], figure)
            rows.append(Row(case, clean, None if first is figure else ratio(figure, first, first.case)))
    return rows


def _policy(name: str) -> str:
    """`name` is what follows `policy: ` in the case."""
    if name.startswith("events"):
        return name
    return "all policies" if name == "all" else f"{POLICY}{name}"


def own(report: Report) -> dict[str, list[Row]]:
    """What is told of ours alone, in groups: each figure of it that the table of all systems doesn't hold."""
    stalls = _rows(report, "loop_stall", cases(report, "loop_stall", OURS), str)
    rest = []
    for measure in ("memory_idle_stream", "memory_after", "startup", "import_time"):
        for case in cases(report, measure, OURS):
            name = measure_name(measure) + (f", {case}" if case else "")
            rest += _rows(report, measure, [case], lambda _, name=name: name)  # type: ignore[misc]
    groups = {
        "CPU per request": _cpu(report),
        "p99 in the second of a swap": swaps(report),
        "event-loop stall": [replace(row, figure=replace(row.figure, note="")) for row in stalls],  # a long note each
        "memory and start": rest,
    }
    return {title: rows for title, rows in groups.items() if rows}
