"""The page of a run: what must be on it, and what must never be."""

import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import page
from benchmarks.figures import Report
from benchmarks.page.markup import el, short
from benchmarks.page.plots import CHAR, Bar, Frame, Point, Series, bars, lines
from benchmarks.page.scale import Kind, Scale, fitting, shows
from benchmarks.page.sections import sections
from benchmarks.page.words import WORDS
from benchmarks.summary import finite, measure_name, number, spread
from benchmarks.targets import targets
from tests.benchmarks import sample

REPORTS = {
    "whole": sample.whole,
    "one repetition": lambda: sample.whole(1),
    "holes": sample.holes,
    "empty": sample.empty,
}
VOID = {"meta"}
PLACES = {"x", "x1", "x2", "cx", "y", "y1", "y2", "cy"}


class Outline(HTMLParser):
    """What a browser would find: tags that match, words, attributes, rows of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


@pytest.fixture(params=REPORTS, name="report")
def _report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]()


def drawings(text: str) -> list[ElementTree.Element]:
    """Each SVG, which must be well-formed by itself."""
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def test_every_figure_is_on_it(report: Report) -> None:
    rows = Outline(page.render(report)).rows
    for figure in report.figures:
        clean = finite(figure)
        median, range_ = ("–", "") if clean is None else (number(clean.median), spread(clean))
        wanted = [measure_name(figure.measure), figure.system, figure.case, figure.unit, median, range_]
        found = [row for row in rows if row[:6] == wanted]
        assert found, wanted
        if figure.values:
            assert any(" · ".join(map(number, figure.values)) in row for row in found)
        assert any(row[-1] == figure.note for row in found)


def test_who_took_part_and_who_did_not_is_on_it(report: Report) -> None:
    rows = Outline(page.render(report)).rows
    for system in report.systems:
        last = f"skipped: {system.skipped}" if system.skipped else "measured"
        assert [system.name, system.version, system.setup, last] in rows


def test_where_it_comes_from_is_on_it(report: Report) -> None:
    words = "".join(Outline(page.render(report)).words)
    for fact in [report.commit, report.date, *report.machine.values(), *report.versions.values()]:
        assert fact in words
    for target in targets(report):
        assert target.promise in words
        assert target.words in words


def test_every_section_is_on_it_measured_or_not() -> None:
    shown = {section.ident for section in sections(sample.whole()) if section.panels}
    assert shown == set(WORDS) - {"connections"}
    empty = page.render(sample.empty())
    assert (
        empty.count("Not measured in this run.") == len(WORDS) - 2 + 2
    )  # two are optional; two are tables of the summary
    holes = {section.ident: section for section in sections(sample.holes())}
    assert not holes["chunk"].panels
    assert holes["cpu"].panels


def test_equal_reports_give_equal_pages(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "report.json")
    assert page.render(report) == page.render(Report.read(tmp_path / "report.json"))
    page.write(report, tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == page.render(report)


def test_everything_is_escaped() -> None:
    text = page.render(sample.holes())
    assert "<script" not in text
    assert escape(sample.NASTY) in text
    assert sample.NASTY in Outline(text).words


def test_nothing_is_printed_that_is_no_number(report: Report) -> None:
    found = Outline(page.render(report))
    said = [*found.words, *(value for _, attributes in found.tags for value in attributes.values() if value)]
    assert not [words for words in said if re.search(r"(?i:\bnan\b|\binf)|None", words)]


def test_it_needs_nothing_beside_it(report: Report) -> None:
    text = page.render(report)
    assert not re.search(
        r"https?:|//[a-z]|url\(|@import|\bsrc=|<link|<script|<img", text.replace(escape(sample.NASTY), "")
    )
    assert all(str(a["href"]).startswith("#") for tag, a in Outline(text).tags if tag == "a")


def test_ids_are_unique_and_each_reference_has_its_target(report: Report) -> None:
    tags = Outline(page.render(report)).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    references = [a[key] for _, a in tags for key in ("aria-labelledby", "aria-describedby") if key in a]
    references += [str(a["href"])[1:] for tag, a in tags if tag == "a"]
    assert set(references) <= set(ids)


def test_each_plot_has_words_and_a_table_for_those_who_do_not_see_it(report: Report) -> None:
    text = page.render(report)
    plots = [svg for svg in drawings(text) if svg.get("role") == "img"]
    panels = [panel for section in sections(report) for panel in section.panels]
    assert len(plots) == 2 * len(panels)  # for two widths
    for svg in plots:
        assert svg[0].tag == "title"
        assert svg[1].tag == "desc"
        assert svg[0].text
        assert svg[1].text
    for panel in panels:
        assert panel.rows
        assert {len(row) for row in panel.rows} == {len(panel.heads)}


def test_plots_stay_in_their_frames(report: Report) -> None:
    for svg in drawings(page.render(report)):
        assert_in_frame(svg)


def assert_in_frame(svg: ElementTree.Element) -> None:
    _, _, width, height = map(float, str(svg.get("viewBox")).split())
    for element in svg.iter():
        for name in PLACES & set(element.keys()):
            most = width if "x" in name else height
            assert -0.01 <= float(str(element.get(name))) <= most + 0.01, ElementTree.tostring(element)
        for pair in (element.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
        if element.tag == "text" and svg.get("role") == "img":
            assert_text_fits(element, width)


def assert_text_fits(text: ElementTree.Element, width: float) -> None:
    if text.text:
        length, x = len(text.text) * (CHAR - 0.7), float(str(text.get("x")))
        kind = str(text.get("class") or "")
        start = x - length if "end" in kind else x - length / 2 if "middle" in kind else x
        assert start >= -1, text.text
        assert start + length <= width + 1, text.text


values = st.floats(-1e9, 1e9) | st.floats(1e-6, 1e3)
KINDS: tuple[Kind, ...] = ("linear", "log")


@given(
    st.lists(st.tuples(values, values, values), min_size=1, max_size=9),
    st.sampled_from(KINDS),
    st.sampled_from([640, 340]),
)
def test_any_bars_can_be_drawn(found: list[tuple[float, float, float]], kind: Kind, width: int) -> None:
    rows = [Bar(f"name {n}", sorted(v)[1], min(v), max(v), number(sorted(v)[1]), n) for n, v in enumerate(found)]
    assert_in_frame(ElementTree.fromstring(bars(rows, Frame("p", "t", "d", width), kind=kind, label="µs")))


@pytest.mark.parametrize("width", [640, 340])
def test_long_names_are_cut(width: int) -> None:
    name = "a body of 1 MB in 10,000 messages with tools, of every policy that there is"
    rows = [Bar(name, 3, 2, 4, "3.00 ms · 1.25×", 0), Bar("short", 50, 40, 60, "50.0 ms", 1)]
    svg = ElementTree.fromstring(bars(rows, Frame("p", "t", "d", width), kind="linear", label="ms"))
    assert_in_frame(svg)
    said = [text.text or "" for text in svg.iter("text")]
    assert any(words.endswith("…") and name.startswith(words[:-1]) for words in said)
    assert "short" in said


@given(
    st.lists(st.lists(st.tuples(values, values), max_size=5), max_size=4),
    st.sampled_from((*KINDS, "percentile")), st.sampled_from(KINDS), st.booleans(),
)  # fmt: skip
def test_any_lines_can_be_drawn(found: list[list[tuple[float, float]]], x: Kind, y: Kind, ticked: bool) -> None:
    series = [Series(f"s{n}", n, [Point(a, b, b, b) for a, b in sorted(points)]) for n, points in enumerate(found)]
    ticks = sorted({(a, number(a)) for points in found for a, _ in points}) if ticked else []
    for width in (640, 340):
        drawn = lines(series, Frame("p", "t", "d", width), x=(x, "load"), y=(y, "ms"), ticks=ticks)
        assert_in_frame(ElementTree.fromstring(drawn))


@given(st.sampled_from((*KINDS, "percentile")), st.lists(values | st.floats(0, 1, exclude_max=True), max_size=6))
def test_a_scale_keeps_the_order_and_holds_its_ticks(kind: Kind, found: list[float]) -> None:
    scale = Scale.of(kind, found, 50, 600)
    shown = sorted(value for value in found if shows(kind, value))
    places = [scale.at(value) for value in shown]
    assert places == sorted(places)
    assert all(49.99 <= place <= 600.01 for place in places)
    ticks = [scale.at(value) for value, _ in scale.ticks(63)]
    assert len(ticks) <= 10
    assert all(49.99 <= tick <= 600.01 for tick in ticks)


def test_axes_are_logarithmic_where_sizes_differ() -> None:
    assert fitting([40, 400, 21_900]) == "log"
    assert fitting([400, 500, 700]) == "linear"
    assert fitting([0.1, 1, 10, -0.01]) == "log"  # one in four is noise about nothing
    assert fitting([100, -1, 2]) == "linear"
    assert fitting([]) == "linear"


def test_markup_is_escaped_but_once() -> None:
    inner = el("b", "a < b & c", title='"q"')
    assert inner == '<b title="&quot;q&quot;">a &lt; b &amp; c</b>'
    assert el("p", inner, "<i>", None, 1.50, class_="x", data_n=2.004, hidden=True, off=None) == (
        f'<p class="x" data-n="2" hidden>{inner}&lt;i&gt;1.5</p>'
    )
    assert [short(value) for value in (-0.001, 1.0, 2.346, 100)] == ["0", "1", "2.35", "100"]
