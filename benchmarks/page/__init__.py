"""The page of a run: one HTML file with plots, that needs no network and nothing beside it.

Equal reports give equal pages. What is plotted is in `sections.py`, how in `plots.py`, the looks in `style.css`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Report
from benchmarks.page.markup import Content, Html, el, join
from benchmarks.page.panels import Panel
from benchmarks.page.plots import Frame, swatch
from benchmarks.page.sections import Section, sections
from benchmarks.page.words import WORDS
from benchmarks.summary import (
    MINUS,
    MISSING,
    OURS,
    compared,
    finite,
    measure_name,
    number,
    own,
    spread,
    times_yardstick,
    told,
)
from benchmarks.table import READING, Notes, bands, footer
from benchmarks.targets import Target, Verdict, targets

WIDE, NARROW = 640, 340  # px
_MARKS = {Verdict.MET: "✓", Verdict.MISSED: "✗", Verdict.UNKNOWN: "?"}


def write(report: Report, path: Path) -> None:
    """Make the page, and the folder for it where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The whole page."""
    title = f"Benchmarks of {OURS}"
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    found = sections(report)
    body = join(
        el("header", el("h1", title), el("p", _run(report), class_="run"), _warning(report), el("p", READING)),
        _targets(report),
        _navigation(found),
        *_summary(report),
        *(_section(section) for section in found),
        _systems(report),
        _everything(report),
        el("footer", *(el("p", line) for line in footer(report))),
    )
    head = join(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        el("title", title),
        el("style", Html(style)),
    )
    return f"<!doctype html>\n{el('html', el('head', head), el('body', el('main', body)), lang='en')}\n"


def _run(report: Report) -> str:
    machine = (f"{name} {fact}" for name, fact in report.machine.items() if name != "warning")
    return " · ".join([f"Commit {report.commit}", report.date, *machine])


def _warning(report: Report) -> Html | None:
    """What may have spoilt the figures."""
    words = report.machine.get("warning")
    return el("p", f"Warning: {words}", class_="warning") if words else None


def _targets(report: Report) -> Html:
    """What was promised, each with how far this run is from it."""
    return el("section", el("h2", "Targets"), el("ul", *map(_target, targets(report)), class_="cards"), id="targets")


def _target(target: Target) -> Html:
    figure, verdict = target.figure, target.verdict
    value = MISSING if figure is None else f"{number(figure.median)} {target.unit}"
    range_ = "" if figure is None else spread(figure)
    return el(
        "li",
        el("h3", target.name),
        el("p", value, class_="value"),
        el("p", f"{range_} over {len(figure.values)} repetitions" if figure and range_ else "", class_="promise"),
        el("p", f"promised {target.promise}", class_="promise"),
        _gauge(target),
        el("p", el("span", _MARKS[verdict], aria_hidden="true"), f" {target.words}", class_="verdict"),
        class_=verdict.name.lower(),
    )


def _gauge(target: Target) -> Html:
    """The median on a bar on which the limit stands at two thirds."""
    share = 0.0 if target.figure is None else min(max(target.figure.median / target.limit / 1.5, 0.0), 1.0)
    return el(
        "svg",
        el("rect", x=0, y=4, width=150, height=6, class_="track"),
        el("rect", x=0, y=4, width=150 * share, height=6, class_="filled"),
        el("line", x1=100, x2=100, y1=0, y2=14, class_="mark"),
        viewBox="0 0 150 14", preserveAspectRatio="none", class_="gauge", aria_hidden="true",
    )  # fmt: skip


def _navigation(found: Sequence[Section]) -> Html:
    places = [("summary", "Summary"), *((s.ident, WORDS[s.ident][0]) for s in found)]
    places += [("systems", "Systems"), ("figures", "All figures")]
    links = (el("li", el("a", words, href=f"#{ident}")) for ident, words in places)
    return el("nav", el("ul", *links), aria_label="Sections")


def _summary(report: Report) -> list[Html]:
    """The tables that `make bench` prints."""
    notes = Notes()
    made = []
    for title, columns in bands(report).items():
        rows = notes.rows(report, columns)
        heads = ["system", *(column.name for column in columns)]
        missing = el("p", "Not measured in this run.", class_="missing")
        made += [el("h3", title), _table(heads, rows, f"Summary: {title}") if rows else missing]
    for title, found in own(report).items():
        name = f"{OURS}: {title}"
        cells = [[r.label, r.figure.unit, notes.cell(r.figure), compared(r.compared)] for r in found]
        made.append(el("details", el("summary", name), _table(["", "unit", "measured", "compared"], cells, name)))
    words = [el("p", line, class_="note") for line in notes.lines()]
    return [el("section", el("h2", "Summary"), *made, *words, id="summary")]


def _section(section: Section) -> Html:
    title, text = WORDS[section.ident]
    head = (el("h2", title), el("p", text))
    if not section.panels:
        return el("section", *head, el("p", "Not measured in this run.", class_="missing"), id=section.ident)
    legend = (el("li", swatch(colour), name) for name, colour in section.legend)
    plots = (
        el("div", _figure(f"{section.ident}-{n}", title, panel), _table(panel.heads, panel.rows, panel.caption))
        for n, panel in enumerate(section.panels)
    )
    return el(
        "section",
        *head,
        el("ul", *legend, class_="legend") if section.legend else None,
        el("div", *plots, class_="plots"),
        id=section.ident,
    )


def _figure(ident: str, title: str, panel: Panel) -> Html:
    """Drawn for two widths, of which the style sheet shows one."""
    frames = (Frame(f"{ident}-{width}", f"{title}: {panel.caption}", panel.words, width) for width in (WIDE, NARROW))
    return el("figure", el("figcaption", panel.caption), *map(panel.draw, frames))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> Html:
    """In a box of its own that scrolls, by keys too. The first cell of a row is its head."""
    aligned = [None, *(_numeric([row[n] for row in rows]) for n in range(1, len(heads)))]
    head = el("tr", *(el("th", words, scope="col", class_=c) for words, c in zip(heads, aligned, strict=True)))
    lines = (
        el(
            "tr",
            el("th", row[0], scope="row"),
            *(el("td", cell, class_=c) for cell, c in zip(row[1:], aligned[1:], strict=True)),
            class_="ours" if row[0] == OURS else None,
        )
        for row in rows
    )
    table = el("table", el("thead", head), el("tbody", join(*lines)))
    return el("div", table, class_="table", role="region", aria_label=name, tabindex="0")


def _numeric(cells: Sequence[str]) -> str | None:
    """The class of a column of numbers."""
    filled = [cell for cell in cells if cell]
    return (
        "number" if filled and all(cell[0].isdigit() or cell[0] in {MISSING, MINUS, "+"} for cell in filled) else None
    )


def _systems(report: Report) -> Html:
    rows = [[s.name, s.version, s.setup, f"skipped: {s.skipped}" if s.skipped else "measured"] for s in report.systems]
    table = _table(["system", "version", "setup", ""], rows, "Systems")
    return el("section", el("h2", "Systems"), table, id="systems")


def _everything(report: Report) -> Html:
    """Each figure of the report, whether or not it is plotted, with the values of all repetitions."""
    heads = ["measure", "system", "case", "unit", "median", "least–greatest", "compared", "all repetitions", "note"]
    rows = []
    for figure in report.figures:
        clean = finite(figure)
        values: list[str] = [number(value) for value in figure.values]
        points = f"{len(figure.curve)} points" if figure.curve else ""
        times = times_yardstick(report, figure.measure, figure.system, figure.case)
        rows.append(
            [measure_name(figure.measure), figure.system, figure.case, figure.unit,
             MISSING if clean is None else number(clean.median), "" if clean is None else spread(clean),
             told(times) if times else "", " · ".join(values) or points, figure.note]
        )  # fmt: skip
    closed: Content = el("details", el("summary", f"{len(rows)} figures"), _table(heads, rows, "All figures"))
    return el("section", el("h2", "All figures"), closed, id="figures")
