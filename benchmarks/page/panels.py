"""From figures to a plot with its table: bars, lines over the number in a case, curves by percentile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.figures import YARDSTICK, Figure
from benchmarks.page.markup import Html
from benchmarks.page.plots import Bar, Frame, Point, Series, bars, lines
from benchmarks.page.scale import Kind, fitting, shows
from benchmarks.summary import MISSING, magnitude, number, spread, told, with_unit

PERCENTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)
LOG_LINES_FROM = 8.0  # loads and sizes are doubled more often than they are added to


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. `words`: what it shows, for those who don't see it. `heads` and `rows`: its table."""

    caption: str
    words: str
    draw: Callable[[Frame], Html]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure in a plot: whose bar or line it is on, and beside it what it is compared with."""

    name: str
    colour: int
    figure: Figure
    ratio: Figure | None = None
    note: str = ""


def bar_panel(
    caption: str, entries: Sequence[Entry], label: str, *, what: str, limit: float | None = None, flat: bool = False
) -> Panel:
    """A bar for each. `label`: of the axis; `what`: head of the first column; `limit`: a line across, in the unit;
    `flat`: from zero, however much they differ."""
    rows, table = [], []
    for entry in entries:
        low, high = entry.figure.spread
        times = f" · {number(entry.ratio.median)}×" if entry.ratio else ""
        text = with_unit(entry.figure)
        rows.append(Bar(entry.name, entry.figure.median, low, high, text + times, entry.colour))
        table.append([entry.name, text, spread(entry.figure), told(entry.ratio) if entry.ratio else "", entry.note])
    values = [row.value for row in rows]
    kind: Kind = "linear" if flat else fitting(values)
    axis = _label(label, kind, values)
    heads, table = _filled([what, "median", "least–greatest", f"× {YARDSTICK}", "note"], table)
    words = "; ".join(f"{row.label}: {row.text}" for row in rows)
    return Panel(caption, words, lambda frame: bars(rows, frame, kind=kind, label=axis, limit=limit), heads, table)


def line_panel(caption: str, entries: Sequence[Entry], across: str, up: str, *, what: str, flat: bool = False) -> Panel:
    """A line for each name, over the number that its figures' cases begin with. `across`, `up`: labels of the axes.

    `what`: head of the first column; `flat`: from zero, so that what ought to be level can be seen to be.
    """
    ordered = sorted(entries, key=lambda entry: _along(entry.figure))
    series: dict[str, list[Point]] = {}
    for entry in ordered:
        series.setdefault(entry.name, []).append(Point(_along(entry.figure), entry.figure.median, *entry.figure.spread))
    colours = {entry.name: entry.colour for entry in entries}
    drawn = [Series(name, colour, series[name]) for name, colour in colours.items()]
    table = [
        [e.name, e.figure.case, with_unit(e.figure), spread(e.figure)] for n in colours for e in ordered if e.name == n
    ]
    places, values = [_along(entry.figure) for entry in entries], [entry.figure.median for entry in entries]
    x = fitting(places, LOG_LINES_FROM)
    y: Kind = "linear" if flat else fitting(values, LOG_LINES_FROM)
    axes = {"x": (x, _label(across, x, places)), "y": (y, _label(up, y, values))}
    ticks = sorted({(_along(entry.figure), _short(entry.figure.case)) for entry in entries})
    heads, table = _filled([what, "case", "median", "least–greatest"], table)
    words = "; ".join(f"{row[0]}, {row[1]}: {row[2]}" for row in table)
    return Panel(caption, words, lambda frame: lines(drawn, frame, **axes, ticks=ticks), heads, table)


def curve_panel(caption: str, entries: Sequence[Entry]) -> Panel:
    """The curves of the figures: shares of the requests, and the ms below which they stay."""
    series, table = [], []
    for entry in entries:
        curve = sorted((x, y) for x, y in entry.figure.curve if math.isfinite(x) and math.isfinite(y))
        series.append(Series(entry.name, entry.colour, [Point(x, y, y, y) for x, y in curve]))
        table.append([entry.name, *(_at(curve, share) for share in PERCENTILES), _at(curve, 1.0)])
    heads, table = _filled(["ms added", *(f"p{share * 100:g}" for share in PERCENTILES), "greatest"], table)
    words = "; ".join(
        f"{row[0]}: " + ", ".join(f"{head} {cell} ms" for head, cell in zip(heads[1:], row[1:], strict=True))
        for row in table
    )
    x: tuple[Kind, str] = ("percentile", "percent of the requests")
    y: tuple[Kind, str] = ("log", _label("ms added", "log", [p.y for one in series for p in one.points]))
    return Panel(caption, words, lambda frame: lines(series, frame, x=x, y=y), heads, table)


def timeline_panel(caption: str, entries: Sequence[Entry], across: str, up: str) -> Panel:
    """The curves of the figures: seconds from a moment, and a value. The table has the greatest before and after."""
    series, table = [], []
    for entry in entries:
        curve = sorted((x, y) for x, y in entry.figure.curve if math.isfinite(x) and math.isfinite(y))
        series.append(Series(entry.name, entry.colour, [Point(x, y, y, y) for x, y in curve]))
        before, after = ([y for x, y in curve if (x < 0) is early] for early in (True, False))
        greatest = [number(max(values, default=math.nan)) for values in (before, after)]
        table.append([entry.name, *greatest, str(len(curve))])
    values = [point.y for one in series for point in one.points]
    kind = fitting(values, LOG_LINES_FROM)
    x: tuple[Kind, str] = ("linear", across)
    y: tuple[Kind, str] = (kind, _label(up, kind, values))
    words = "; ".join(f"{row[0]}: at most {row[1]} before, {row[2]} after" for row in table)
    heads = ["file", "greatest before, ms", "greatest after, ms", "requests"]
    return Panel(caption, words, lambda frame: lines(series, frame, x=x, y=y), heads, table)


def _label(words: str, kind: Kind, values: Iterable[float]) -> str:
    """Of an axis; what has no place on it is in the table."""
    if kind != "log":
        return words
    missing = sum(not shows(kind, value) for value in values)
    return f"{words}, logarithmic" + (f"; {missing} not above 0" if missing else "")


def _at(curve: Sequence[tuple[float, float]], share: float) -> str:
    return next((number(y) for x, y in curve if abs(x - share) < 1e-9), MISSING)


def _along(figure: Figure) -> float:
    found = magnitude(figure.case)
    assert found is not None, figure.case
    return found[0]


def _short(case: str) -> str:
    """Of "100/s" and "2000 pins yaml" the number; "16 kB" as it is."""
    found = magnitude(case)
    assert found is not None, case
    return case if found[1] == "body" else number(found[0]).removesuffix(".00").removesuffix(".0")


def _filled(heads: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Without the columns that hold nothing."""
    used = [n for n in range(len(heads)) if n == 0 or any(row[n] not in {"", MISSING} for row in rows)]
    return [heads[n] for n in used], [[row[n] for n in used] for row in rows]
