"""The table of a run: `text` for a terminal, `markdown` for docs/performance.md.

It decides which figures make the table, and in which columns. All of them are in the report and on the page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.figures import YARDSTICK, Figure, Report
from benchmarks.summary import (
    MISSING,
    OURS,
    PLAIN,
    Row,
    compared,
    finite,
    main_case,
    number,
    order,
    own,
    read,
    spread,
    times_yardstick,
    told,
)
from benchmarks.targets import targets

WIDTH = 110
NAME_WIDTH = 16
DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
READING = "Medians over the repetitions, with the least–greatest of them; ratios are made pair by pair."


@dataclass(frozen=True, slots=True)
class Column:
    """One measure in one case, of every system. `head`: its lines in a terminal; `name`: the same in one line."""

    head: tuple[str, ...]
    name: str
    measure: str
    case: str
    ratio: bool = False  # over the yardstick instead

    def of(self, report: Report, system: str) -> Figure | None:
        if self.ratio:
            return times_yardstick(report, self.measure, system, self.case)
        return read(report, self.measure, system, self.case)

    def why_missing(self, report: Report, system: str) -> str:
        """What was noted where this wasn't found, in this case or else in another."""
        found = [f for f in report.figures if (f.measure, f.system) == (self.measure, system) and finite(f) is None]
        found.sort(key=lambda figure: figure.case != self.case)
        return "" if self.ratio or not found else found[0].note


@dataclass(slots=True)
class Notes:
    """Footnotes, numbered as they come; the same words get the same number."""

    found: list[str] = field(default_factory=list)

    def mark(self, note: str) -> str:
        """The number in small raised digits; nothing without a note."""
        if not note:
            return ""
        if note not in self.found:
            self.found.append(note)
        return str(self.found.index(note) + 1).translate(DIGITS)

    def median(self, figure: Figure | None, why_missing: str = "") -> str:
        """With the number of its note."""
        return MISSING + self.mark(why_missing) if figure is None else number(figure.median) + self.mark(figure.note)

    def cell(self, figure: Figure | None, why_missing: str = "") -> str:
        """In one line: `441¹ (430–450)`."""
        range_ = "" if figure is None else spread(figure)
        return self.median(figure, why_missing) + (f" ({range_})" if range_ else "")

    def rows(self, report: Report, columns: Sequence[Column]) -> list[list[str]]:
        """A cell for each system and column; systems of which there is nothing are left out."""
        return [
            [system, *(self.cell(figure, column.why_missing(report, system)) for column, figure in found)]
            for system, found in filled(report, columns)
        ]

    def lines(self) -> list[str]:
        return [f"{str(n).translate(DIGITS)} {note}" for n, note in enumerate(self.found, 1)]


def bands(report: Report) -> dict[str, list[Column]]:
    """The columns, in two groups: what a system costs, and how long it makes a client wait."""
    chunk, rest = (main_case(report, measure) for measure in ("cpu_per_chunk", "memory_at_rest"))
    rate = main_case(report, "added_latency_p50")
    ttft = main_case(report, "ttft_added_p50", "1 stream")
    streams = main_case(report, "chunk_delay_added_p99", "100 streams")
    over = ("×", YARDSTICK)
    cost = [
        Column(("requests", "/s"), "requests/s", "rps_saturated", PLAIN),
        Column(("CPU µs", "/request"), "CPU µs/request", "cpu_per_request", PLAIN),
        Column(over, f"× {YARDSTICK}", "cpu_per_request", PLAIN, ratio=True),
        Column(("CPU µs", "/chunk"), "CPU µs/chunk", "cpu_per_chunk", chunk),
        Column(over, f"× {YARDSTICK}", "cpu_per_chunk", chunk, ratio=True),
        Column(("memory at", "rest, MiB"), "memory at rest, MiB", "memory_at_rest", rest),
    ]
    waits = [("latency", rate, f"added_latency_{p}", words) for p, words in _PERCENTILES]
    waits += [("TTFT", ttft, f"ttft_added_{p}", words) for p, words in _PERCENTILES[:2]]
    waits += [("chunk", streams, f"chunk_delay_added_{p}", words) for p, words in _PERCENTILES[:2]]
    delay = [
        Column((what, case, words), f"{what}{f' at {case}' if case else ''}, {words}", measure, case)
        for what, case, measure, words in waits
    ]
    return {"Cost": cost, "Delay added, ms": delay}


_PERCENTILES = [("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")]


def filled(report: Report, columns: Sequence[Column]) -> Iterator[tuple[str, list[tuple[Column, Figure | None]]]]:
    """Each system of which there is anything in these columns, with what there is."""
    for system in order(report):
        found = [(column, column.of(report, system)) for column in columns]
        if any(figure is not None for _, figure in found):
            yield system, found


def text(report: Report) -> str:
    """For a terminal: at most 110 columns, the spread beneath each median."""
    notes = Notes()
    lines = [f"Benchmarks of {OURS}", *textwrap.wrap(READING, WIDTH)]
    if warning := report.machine.get("warning"):
        lines += textwrap.wrap(f"Warning: {warning}", WIDTH)
    for title, columns in bands(report).items():
        lines += ["", title, *_band(report, columns, notes)]
    for title, rows in own(report).items():
        lines += ["", *_own(title, rows, notes)]
    lines += ["", "Targets", *_targets(report)]
    for title, words in (("Not measured", skipped(report)), ("Notes", notes.lines()), ("Run", footer(report))):
        if words:
            lines += ["", title]
        for line in words:
            lines += textwrap.wrap(line, WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _band(report: Report, columns: Sequence[Column], notes: Notes) -> Iterator[str]:
    """Two lines a system: the medians, and the spreads where there are any."""
    height = max(len(column.head) for column in columns)
    heads = [("",) * (height - len(column.head)) + column.head for column in columns]
    grid = [["system" if line == height - 1 else "", *(head[line] for head in heads)] for line in range(height)]
    for system, found in filled(report, columns):
        medians = (notes.median(figure, column.why_missing(report, system)) for column, figure in found)
        grid.append([_shortened(system), *medians])
        grid.append(["", *("" if figure is None else spread(figure) for _, figure in found)])
    rows = [row for row in grid if any(row)]
    return _aligned(rows, height) if len(rows) > height else iter(["nothing was measured"])


def _own(title: str, rows: Sequence[Row], notes: Notes) -> Iterator[str]:
    """One line for each figure of ours: median, spread, and what it is compared with."""
    grid = [[f"{OURS}: {title}", "median", "", "least–greatest", ""]]
    for row in rows:
        median = notes.median(row.figure)
        grid.append([row.label, median, row.figure.unit, spread(row.figure), compared(row.compared)])
    return _aligned(grid, 1, left={0, 2, 4})


def _aligned(grid: Sequence[Sequence[str]], heads: int, left: Collection[int] = (0,)) -> Iterator[str]:
    """Columns as wide as they need, flush right but for those named; a rule below the heads."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    gap = "  " if sum(widths) + 2 * len(widths) - 2 <= WIDTH else " "
    for line, row in enumerate(grid, 1):
        padded = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )  # fmt: skip
        yield gap.join(padded)
        if line == heads:
            yield "─" * (sum(widths) + len(gap) * (len(widths) - 1))


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _targets(report: Report) -> Iterator[str]:
    rows = [[target.name, target.promise, told(target.figure), target.words] for target in targets(report)]
    return _aligned([["", "promised", "measured", ""], *rows], 1, left={0, 1, 3})


def skipped(report: Report) -> list[str]:
    """Who did not take part, and why."""
    return [f"{s.name}: {s.skipped}" for s in report.systems if s.skipped]


def footer(report: Report) -> list[str]:
    """Machine, versions, commit, date: where the figures come from."""
    took = f", {'full run' if report.full else 'run'} of {report.seconds / 60:.0f} min" if report.seconds else ""
    versions = report.versions | {s.name: s.version for s in report.systems if s.version}
    lines = [f"Commit {report.commit}, {report.date}{took}"]
    for title, facts in (("Machine", report.machine), ("Versions", versions)):
        if facts:
            lines.append(f"{title}: {'; '.join(f'{name} {fact}' for name, fact in facts.items())}")
    return lines


def markdown(report: Report) -> str:
    """The same as Markdown tables, the spread behind each median."""
    notes = Notes()
    lines = [READING]
    for title, columns in bands(report).items():
        rows = notes.rows(report, columns)
        lines += ["", f"**{title}**", "", *_table(["system", *(column.name for column in columns)], rows)]
    for title, own_rows in own(report).items():
        rows = [[row.label, row.figure.unit, notes.cell(row.figure), compared(row.compared)] for row in own_rows]
        heads = ["", "unit", "measured", "compared"]
        lines += ["", f"**{OURS}: {title}**", "", *_table(heads, rows, left={0, 1})]
    rows = [[t.name, t.promise, told(t.figure), t.words] for t in targets(report)]
    lines += ["", "**Targets**", "", *_table(["", "promised", "measured", ""], rows, left={0, 1, 3})]
    if missed := skipped(report):
        lines += ["", "**Not measured**", "", *(f"- {_escaped(line)}" for line in missed)]
    for line in [*notes.lines(), *footer(report)]:
        lines += ["", _escaped(line)]
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Columns flush right but for those named."""
    rule = ["---" if column in left else "--:" for column in range(len(heads))]
    lines = [list(map(_escaped, heads)), rule, *(list(map(_escaped, row)) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _escaped(words: str) -> str:
    """Nothing of it is Markdown or HTML, and it stays in its line."""
    for mark in "\\`*_[]<>|~":
        words = words.replace(mark, f"\\{mark}")
    return " ".join(words.replace("&", "&amp;").split())
