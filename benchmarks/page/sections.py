"""Which plots the page has, and of which figures. What is said of them is in `words.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.figures import YARDSTICK, Report
from benchmarks.page.panels import Entry, Panel, bar_panel, curve_panel, line_panel, timeline_panel
from benchmarks.page.plots import COLOURS
from benchmarks.summary import (
    BEFORE,
    CACHE_HIT,
    OURS,
    PLAIN,
    cache_miss,
    cases,
    finite,
    magnitude,
    main_case,
    measure_name,
    order,
    policies,
    read,
    swaps,
    times_yardstick,
)

KNOWN = (OURS, YARDSTICK, "direct", "nginx", "haproxy", "litellm", "tensorzero", "portkey", "bifrost")
STALL_LIMIT_MS = 10.0


@dataclass(frozen=True, slots=True)
class Section:
    """Plots of one question. Without panels, none of it was measured."""

    ident: str
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, int]] = ()


def colour(report: Report, system: str) -> int:
    """The same in all plots, and in all reports for those that are known."""
    if system in KNOWN:
        return KNOWN.index(system)
    others = [name for name in order(report) if name not in KNOWN]
    return len(KNOWN) + others.index(system) % (COLOURS - len(KNOWN))


def sections(report: Report) -> list[Section]:
    """All of them, in the order of the page."""
    cpu = "µs of CPU per request"
    found = [
        _by_system(
            report, "throughput",
            ("rps_saturated", PLAIN, "requests per second"), ("rps_saturated", "by CPU", "requests per second of CPU"),
        ),
        _against(report, "connections", {"rps_saturated": "requests per second"}, "connections", least=2),
        _against(report, "latency", _percentiles("added_latency"), "/s"),
        _distribution(report),
        _by_system(report, "ttft", ("ttft_added_p50", "1 stream", "ms"), ("ttft_added_p99", "1 stream", "ms")),
        _against(report, "ttft-streams", _percentiles("ttft_added"), "streams"),
        _by_system(report, "cpu", ("cpu_per_request", PLAIN, cpu)),
        _by_system(report, "chunk", ("cpu_per_chunk", "", "µs of CPU per chunk")),
        _against(report, "streams", _percentiles("chunk_delay_added"), "streams"),
        _by_system(
            report, "memory",
            ("memory_at_rest", "", "MiB"), ("memory_after", "", "MiB"), ("memory_idle_stream", "", "KiB each"),
        ),
        _policies(report),
        _cache(report),
        _against(report, "bodies", {"cpu_per_request": cpu}, "body", least=2),
        _pins(report),
        _swaps(report),
        _stalls(report),
        _by_system(report, "startup", ("startup", "", "s"), ("import_time", "", "ms")),
    ]  # fmt: skip
    return [section for section in found if section.panels or section.ident not in _OPTIONAL]


_OPTIONAL = {"connections", "ttft-streams"}  # not missed where it wasn't measured
_ACROSS = {
    "connections": "connections",
    "/s": "requests per second",
    "streams": "streams at once",
    "body": "size of the request's body",
}


def _percentiles(measure: str) -> dict[str, str]:
    return {f"{measure}_{percentile}": "ms added" for percentile in ("p50", "p99", "p999")}


def _by_system(report: Report, ident: str, *wanted: tuple[str, str, str]) -> Section:
    """A bar for each system; one panel for each of `wanted`: measure, case, label of the axis.

    Where nobody has such a case, it is the one that stands for the measure; but a plain request is a plain request.
    """
    panels = []
    for measure, case, label in wanted:
        strict = case in {PLAIN, "by CPU"}
        chosen = case if strict else main_case(report, measure, case)
        entries = [
            Entry(name, colour(report, name), figure, times_yardstick(report, measure, name, chosen), figure.note)
            for name in order(report)
            if (figure := read(report, measure, name, chosen)) is not None
        ]
        if entries:
            panels.append(bar_panel(_caption(measure, chosen), entries, label, what="system"))
    return Section(ident, panels)


def _caption(measure: str, case: str = "") -> str:
    name = measure_name(measure)
    return name[:1].upper() + name[1:] + (f", {case}" if case else "")


def _against(report: Report, ident: str, measures: Mapping[str, str], of: str, *, least: int = 1) -> Section:
    """A line for each system over the number in its cases, if it has at least so many; one panel for each measure."""
    panels = []
    shown: set[str] = set()
    for measure, label in measures.items():
        entries: list[Entry] = []
        for name in order(report):
            found = _entries(report, measure, name, of, (name, colour(report, name)))
            if len(found) >= least:
                entries += found
                shown.add(name)
        if entries:
            panels.append(line_panel(_caption(measure), entries, _ACROSS[of], label, what="system"))
    return Section(ident, panels, _legend(report, shown))


def _entries(report: Report, measure: str, system: str, of: str, line: tuple[str, int]) -> list[Entry]:
    figures = (read(report, measure, system, case) for case in cases(report, measure, system, of))
    return [Entry(*line, figure, note=figure.note) for figure in figures if figure is not None]


def _legend(report: Report, shown: Collection[str]) -> list[tuple[str, int]]:
    return [(system, colour(report, system)) for system in order(report) if system in shown]


def _distribution(report: Report) -> Section:
    """The curves: one panel for each rate."""
    measure = "latency_curve"
    panels = []
    shown: set[str] = set()
    for case in cases(report, measure):
        figures = [(name, report.find(measure, name, case)) for name in order(report)]
        entries = [Entry(name, colour(report, name), f) for name, f in figures if f is not None and f.curve]
        shown.update(entry.name for entry in entries)
        if entries:
            panels.append(curve_panel(_caption(measure, case), entries))
    return Section("distribution", panels, _legend(report, shown))


def _policies(report: Report) -> Section:
    """The differences, not the sums."""
    entries = []
    for row in policies(report):
        if row.compared is not None:
            together = row.label == "all"
            name = "all of them" if together else row.label
            entries.append(Entry(name, KNOWN.index(YARDSTICK if together else OURS), replace(row.compared, unit="µs")))
    label = "µs of CPU per request, more than with none on"
    panels = [bar_panel("CPU added", entries, label, what="policy", flat=True)] if entries else []
    return Section("policies", panels)


def _cache(report: Report) -> Section:
    hit, miss = read(report, "cpu_per_request", OURS, CACHE_HIT), finite(cache_miss(report))
    if hit is None:
        return Section("cache", [])
    entries = [Entry("hit", KNOWN.index(OURS), hit)]
    if miss is not None:
        entries.append(Entry("miss", KNOWN.index(YARDSTICK), miss, note=f"case: {miss.case}"))
    return Section("cache", [bar_panel(_caption("cpu_per_request"), entries, "µs of CPU per request", what="request")])


def _pins(report: Report) -> Section:
    """Of ours: a line for each kind of file."""
    measure = "cpu_per_request"
    kinds = {m[1] for case in cases(report, measure, OURS, "pins") if (m := magnitude(case)) is not None}
    legend = {
        kind.removeprefix("pins").strip() or "pins": _LINES[n % len(_LINES)] for n, kind in enumerate(sorted(kinds))
    }
    entries = [
        entry
        for kind, line in zip(sorted(kinds), legend.items(), strict=True)
        for entry in _entries(report, measure, OURS, kind, line)
    ]
    if not entries:
        return Section("pins", [])
    panel = line_panel(_caption(measure), entries, "pins in the file", "µs of CPU per request", what="file", flat=True)
    return Section("pins", [panel], list(legend.items()))


_LINES = (KNOWN.index(OURS), 4, 3, 7, 5, 8)  # colours of lines that are no systems


def _swaps(report: Report) -> Section:
    """Of ours: bars of p99, and each request around a swap."""
    entries = []
    for n, row in enumerate(swaps(report)):
        before = read(report, "swap_p99", OURS, row.label + BEFORE)
        if before is not None:
            entries.append(Entry(before.case, KNOWN.index(YARDSTICK), before))
        entries.append(Entry(row.label, _LINES[n % len(_LINES)], row.figure))
    panels = [bar_panel(_caption("swap_p99"), entries, "ms", what="file")] if entries else []
    curves = [entry for entry in entries if entry.figure.curve]
    if curves:
        panels.append(timeline_panel("Each request around a swap", curves, "seconds from the swap", "ms"))
    return Section("swaps", panels, [(entry.name, entry.colour) for entry in curves])


def _stalls(report: Report) -> Section:
    figures = [read(report, "loop_stall", OURS, case) for case in cases(report, "loop_stall", OURS)]
    entries = [Entry(f.case, KNOWN.index(OURS), f, note=f.note) for f in figures if f is not None]
    if not entries:
        return Section("stalls", [])
    return Section(
        "stalls", [bar_panel("Greatest gap", entries, "ms of CPU time", what="meanwhile", limit=STALL_LIMIT_MS)]
    )
