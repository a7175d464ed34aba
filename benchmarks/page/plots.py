"""Plots as SVG: bars with spread, and lines. They decide how it is drawn, not what.

Each is drawn for a width in px, at which its text has 12 px: the page shows one of two, by the room that there is.
Colours are classes (`c0` and on) that the page's style sheet gives their values, for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.page.markup import Html, el, join, short
from benchmarks.page.scale import Kind, Scale, shows

NARROW = 480  # px: below, labels stand above their bars
CHAR = 7.0  # px: about the width of a character, with something to spare
COLOURS = 12
MARKER = 4.0  # px: half a marker's width
MARKERS = 16  # at most, on a line


@dataclass(frozen=True, slots=True)
class Frame:
    """What each plot has: its words for those who don't see it, its axes' labels, its size. `ident`: for its ids."""

    ident: str
    title: str
    description: str
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """`low` and `high`: the spread, drawn as a whisker. `text`: the value in words."""

    label: str
    value: float
    low: float
    high: float
    text: str
    colour: int


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    colour: int
    points: Sequence[Point]


def bars(rows: Sequence[Bar], frame: Frame, *, kind: Kind, label: str, limit: float | None = None) -> Html:
    """One below the other. On a log axis, where a bar's length means nothing, each is a dot. `limit`: a line across."""
    narrow = frame.width < NARROW
    words = max(len(row.text) for row in rows) * CHAR
    room = frame.width - words - 24 if narrow else frame.width * 0.45
    labels = [_cut(row.label, room) for row in rows]
    left, right = (8.0, 14.0) if narrow else (max(map(len, labels)) * CHAR + 14, words + 16)
    top, pitch = (26.0 if limit is not None else 6.0), (40.0 if narrow else 26.0)
    bottom = top + pitch * len(rows)
    values = [v for row in rows for v in (row.value, row.low, row.high)] + ([] if limit is None else [limit])
    scale = Scale.of(kind, values, left, frame.width - right)
    drawn: list[Html] = [_across(scale, frame, (top, bottom), label)]
    if limit is not None:
        drawn.append(_limit(scale, limit, top, bottom))
    for place, (row, name) in enumerate(zip(rows, labels, strict=True)):
        middle = top + pitch * place + (pitch - 11 if narrow else pitch / 2)
        base = scale.at(scale.low if kind == "log" else 0.0)
        drawn.append(_bar(row, scale, middle, base))
        if narrow:
            drawn.append(el("text", name, x=left, y=middle - 13))
            drawn.append(el("text", row.text, x=frame.width - 2, y=middle - 13, class_="end value"))
        else:
            drawn.append(el("text", name, x=left - 8, y=middle + 4, class_="end"))
            beyond = max([base, *(scale.at(v) for v in (row.value, row.high) if shows(kind, v))])
            drawn.append(el("text", row.text, x=beyond + 8, y=middle + 4, class_="value"))
    return _svg(frame, bottom + 44, drawn)


def _cut(words: str, room: float) -> str:
    """So much of them as fits into `room` px; the table has them whole."""
    most = max(4, int(room / CHAR))
    return words if len(words) <= most else words[: most - 1] + "…"


def _bar(row: Bar, scale: Scale, middle: float, base: float) -> Html:
    """The bar with its whisker on it; or a dot on a thread, with its whisker under it."""
    if not shows(scale.kind, row.value):
        return Html("")
    here = scale.at(row.value)
    whisker = _whisker(scale, row.low, row.high, middle)
    if scale.kind == "log":
        thread = el("line", x1=base, x2=here, y1=middle, y2=middle, class_="thread")
        return join(thread, whisker, el("circle", cx=here, cy=middle, r=5, class_=f"fill c{row.colour}"))
    x, width = min(base, here), abs(here - base)
    return join(el("rect", x=x, y=middle - 7, width=width, height=14, class_=f"fill c{row.colour}"), whisker)


def _whisker(scale: Scale, low: float, high: float, middle: float) -> Html:
    if high <= low:
        return Html("")
    ends = [scale.at(low if shows(scale.kind, low) else scale.low), scale.at(high)]
    path = f"M{short(ends[0])} {short(middle)}H{short(ends[1])}"
    path += "".join(f"M{short(end)} {short(middle - 4)}v8" for end in ends)
    return join(el("path", d=path, class_="halo"), el("path", d=path, class_="whisker"))


def _across(
    scale: Scale, frame: Frame, sides: tuple[float, float], label: str, ticks: Sequence[tuple[float, str]] = ()
) -> Html:
    """A horizontal axis below, with its grid from top to bottom (`sides`). `ticks`: instead of round numbers."""
    top, bottom = sides
    drawn = []
    for value, words in ticks or scale.ticks(CHAR * 9):
        x = scale.at(value)
        zero = " zero" if value == 0 and scale.kind == "linear" else ""
        drawn.append(el("line", x1=x, x2=x, y1=top, y2=bottom, class_=f"grid{zero}"))
        half = len(words) * CHAR / 2
        anchor = "end" if x + half > frame.width else "start" if x - half < 0 else "middle"
        drawn.append(el("text", words, x=x, y=bottom + 17, class_=f"tick {anchor}"))
    drawn.append(el("text", label, x=(scale.start + scale.end) / 2, y=bottom + 36, class_="axis middle"))
    return join(*drawn)


def _limit(scale: Scale, limit: float, top: float, bottom: float) -> Html:
    x = scale.at(limit)
    anchor = "end" if x > (scale.start + scale.end) / 2 else "start"
    return join(
        el("line", x1=x, x2=x, y1=top - 6, y2=bottom, class_="limit"),
        el("text", f"limit {limit:g}", x=x + (-6 if anchor == "end" else 6), y=top - 8, class_=f"limit-text {anchor}"),
    )


def lines(
    series: Sequence[Series],
    frame: Frame,
    *,
    x: tuple[Kind, str],
    y: tuple[Kind, str],
    ticks: Sequence[tuple[float, str]] = (),
) -> Html:
    """`x` and `y`: each axis' kind and label. Whiskers are the spread in y. Points without a place are left out.

    `ticks`: places and words on the x axis, instead of round numbers.
    """
    (x_kind, x_label), (y_kind, y_label) = x, y
    top, height, right = 30.0, 230.0 if frame.width < NARROW else 280.0, frame.width - 22
    points = [p for one in series for p in one.points if shows(x_kind, p.x) and shows(y_kind, p.y)]
    up = Scale.of(y_kind, [v for p in points for v in (p.y, p.low, p.high)], top + height, top)
    marks = up.ticks(34)
    left = max(len(words) for _, words in marks) * CHAR + 12
    places = [p.x for p in points]
    along = Scale.of(x_kind, places, left, right)
    if places and ticks and x_kind != "percentile":
        least, greatest = min(places), max(places)
        if least == greatest:
            x_kind, least, greatest = "linear", least - 1, greatest + 1
        along = Scale(x_kind, least, greatest, left + 16, right - 16)
    drawn = [el("text", y_label, x=0, y=14, class_="axis")]
    for value, words in marks:
        place = up.at(value)
        drawn.append(el("line", x1=left, x2=right, y1=place, y2=place, class_="grid"))
        drawn.append(el("text", words, x=left - 6, y=place + 4, class_="tick end"))
    drawn.append(_across(along, frame, (top, top + height), x_label, _apart(along, ticks)))
    drawn += [_line(one, along, up) for one in series]
    return _svg(frame, top + height + 44, drawn)


def _apart(scale: Scale, ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those ticks, from the right, of which the words don't touch."""
    kept: list[tuple[float, str]] = []
    free = math.inf
    for value, words in sorted(ticks, reverse=True):
        half = len(words) * CHAR / 2
        if scale.low <= value <= scale.high and scale.at(value) + half < free:
            kept.append((value, words))
            free = scale.at(value) - half - 6
    return kept


def _line(series: Series, along: Scale, up: Scale) -> Html:
    """Markers with whiskers, joined; but not across a point that has no place."""
    runs: list[list[tuple[float, float]]] = [[]]
    whiskers = []
    for point in series.points:
        if not (shows(along.kind, point.x) and shows(up.kind, point.y)):
            runs.append([])
            continue
        x, y = along.at(point.x), up.at(point.y)
        runs[-1].append((x, y))
        if point.high > point.low:
            low = up.at(point.low if shows(up.kind, point.low) else up.low)
            whiskers.append(f"M{short(x)} {short(low)}V{short(up.at(point.high))}")
    places = [place for run in runs for place in run]
    marked = places[:: math.ceil(len(places) / MARKERS) or 1]
    markers = "".join(_marker(series.colour, x, y) for x, y in marked)
    return el(
        "g",
        el("path", d="".join(whiskers), class_="bar-of-spread") if whiskers else None,
        *(
            el("polyline", points=" ".join(f"{short(x)},{short(y)}" for x, y in run), class_="line")
            for run in runs if len(run) > 1
        ),
        el("path", d=markers, class_=_filling(series.colour)) if markers else None,
        class_=f"c{series.colour}",
    )  # fmt: skip


def _filling(colour: int) -> str:
    """The class of its markers: there are half as many shapes as colours."""
    return "fill" if colour < COLOURS / 2 else "hollow"


def _marker(colour: int, x: float, y: float) -> str:
    """A closed path, so that colours differ in shape too."""
    r = MARKER
    shapes = (
        f"m{-r} 0a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",  # a dot
        f"m{1 - r} {1 - r}h{2 * r - 2}v{2 * r - 2}h{2 - 2 * r}z",  # a square
        f"m0 {-r - 1}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z",  # a diamond
        f"m0 {-r}l{r} {2 * r - 1}h{-2 * r}z",  # a triangle
        f"m0 {r}l{r} {1 - 2 * r}h{-2 * r}z",  # on its point
        f"m{-r} -1h{r - 1}v{1 - r}h2v{r - 1}h{r - 1}v2h{1 - r}v{r - 1}h-2v{1 - r}h{1 - r}z",  # a plus
    )
    return f"M{short(x)} {short(y)}{shapes[colour % len(shapes)]}"


def swatch(colour: int) -> Html:
    """For a legend."""
    return el(
        "svg",
        el("path", d="M0 6H24", class_="line"),
        el("path", d=_marker(colour, 12, 6), class_=_filling(colour)),
        viewBox="0 0 24 12", width=24, height=12, class_=f"c{colour}", aria_hidden="true",
    )  # fmt: skip


def _svg(frame: Frame, height: float, drawn: Sequence[Html]) -> Html:
    names = [f"{frame.ident}-{part}" for part in ("title", "desc")]
    return el(
        "svg",
        el("title", frame.title, id=names[0]),
        el("desc", frame.description, id=names[1]),
        *drawn,
        viewBox=f"0 0 {short(frame.width)} {short(height)}",
        class_="narrow" if frame.width < NARROW else "wide",
        role="img",
        aria_labelledby=names[0],
        aria_describedby=names[1],
    )
