"""The table of a run, and how a report is read for it: `benchmarks/summary.py`, `targets.py`, `table.py`."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import summary, table
from benchmarks.figures import Figure, Report
from benchmarks.summary import MINUS
from benchmarks.targets import Verdict, targets
from tests.benchmarks import sample

REPORTS = {
    "whole": sample.whole,
    "one repetition": lambda: sample.whole(1),
    "holes": sample.holes,
    "empty": sample.empty,
}


@pytest.fixture(params=REPORTS, name="report")
def _report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]()


def report_of(*figures: Figure) -> Report:
    report = sample.empty()
    report.figures = list(figures)
    return report


def cpu(system: str, case: str, *values: float) -> Figure:
    return Figure("cpu_per_request", system, case, "µs", list(values))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (-0.0, "0"), (1e-9, "0"), (0.00471, "0.0047"), (0.0994, "0.099"), (0.0996, "0.10"), (0.5, "0.50"),
        (9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"), (441.2, "441"), (21_934.4, "21,934"),
        (99_999.6, "100k"), (1_234_567, "1.23M"), (-12.34, f"{MINUS}12.3"), (math.nan, "–"), (math.inf, "–"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_that_count(value: float, words: str) -> None:
    assert summary.number(value) == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0], ""), ([430, 441, 450], "430–450"), ([91.2, 94.4, 102.2], "91.2–102.2"),
        ([0.092, 0.101, 0.11], "0.09–0.11"),
        ([-17.75, 9.51, 45.3], f"{MINUS}17.8…45.3"), ([-0.0004, 0.12, 0.3], "0–0.30"), ([2.0, 2.0, 2.0], "2.00–2.00"),
    ],
)  # fmt: skip
def test_a_spread_is_about_as_fine_as_its_median(values: list[float], words: str) -> None:
    assert summary.spread(Figure("m", "s", "", "ms", values)) == words


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=4))
def test_any_figure_can_be_told(values: list[float]) -> None:
    words = summary.told(Figure("m", "s", "", "ms", values))
    value = rf"{MINUS}?[\d.,]+[kM]?"
    assert re.fullmatch(rf"{value}( \({value}[–…]{value}\))?", words), words


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("1 kB", (1_000, "body")), ("16 kB body", (16_000, "body")), ("1 MB", (1e6, "body")), ("100/s", (100, "/s")),
        ("1 stream", (1, "streams")), ("1000 streams", (1000, "streams")), ("2,000 pins json", (2000, "pins json")),
        ("policy: retry", None), ("", None),
    ],
)  # fmt: skip
def test_a_case_begins_with_its_magnitude(case: str, found: tuple[float, str] | None) -> None:
    assert summary.magnitude(case) == found


def test_systems_stand_in_order() -> None:
    names = summary.order(sample.whole())
    assert names[:3] == ["direct", "passthrough", "model-sidecar"]
    assert names[3:] == ["haproxy", "nginx", "tensorzero", "portkey", "litellm"]  # by CPU


def test_the_main_case_is_the_greatest_that_most_have() -> None:
    figures = [
        Figure("added_latency_p50", system, f"{rate}/s", "ms", [1.0])
        for system, rates in {"model-sidecar": (50, 400, 800), "nginx": (50, 400, 800), "a": (50,), "b": (400,)}.items()
        for rate in rates
    ]  # fmt: skip
    report = report_of(*figures)
    assert summary.main_case(report, "added_latency_p50") == "400/s"  # 800/s: two of four are not most
    assert summary.main_case(report, "added_latency_p50", "50/s") == "50/s"
    assert summary.main_case(report, "added_latency_p50", "77/s") == "400/s"
    assert summary.main_case(report, "swap_p99") == ""


def test_ratios_are_made_pair_by_pair() -> None:
    report = report_of(cpu("passthrough", "1 kB", 100, 200, math.nan), cpu("model-sidecar", "1 kB", 120, 200, 130))
    found = summary.times_yardstick(report, "cpu_per_request", "model-sidecar", "1 kB")
    assert found is not None
    assert found.values == [1.2, 1.0]


def test_there_is_no_ratio_to_what_was_measured_in_another_case() -> None:
    report = report_of(cpu("passthrough", "1 kB", 100), cpu("model-sidecar", "policy: all", 150))
    assert summary.times_yardstick(report, "cpu_per_request", "model-sidecar", "policy: all") is None


def test_more_pins_are_compared_with_the_least_of_their_kind() -> None:
    figures = [cpu("model-sidecar", case, us) for case, us in
               {"2000 pins json": 30, "10 pins json": 20, "10 pins yaml": 40, "200 pins yaml": 44}.items()]  # fmt: skip
    rows = summary.own(report_of(*figures))["CPU per request"]
    assert [(row.label, row.compared and (row.compared.values, row.compared.unit)) for row in rows] == [
        ("10 pins json", None),
        ("2000 pins json", ([1.5], "× 10 pins json")),
        ("10 pins yaml", None),
        ("200 pins yaml", ([1.1], "× 10 pins yaml")),
    ]


def test_a_policy_is_told_by_what_it_adds() -> None:
    base, retry = cpu("model-sidecar", "1 kB", 100, 110), cpu("model-sidecar", "policy: retry", 103, 112)
    everything = cpu("model-sidecar", "policy: all", 150, 150)
    rows = summary.policies(report_of(base, everything, retry))
    assert [(row.label, row.compared.values if row.compared else None) for row in rows] == [
        ("retry", [3, 2]),
        ("all", [50, 40]),
    ]


def test_a_cache_hit_is_compared_with_the_nearest_thing_to_a_miss() -> None:
    hit, plain, cached, miss = (
        cpu("model-sidecar", case, 1) for case in ("cache hit", "1 kB", "policy: cache", "cache miss")
    )
    assert summary.cache_miss(report_of(hit)) is None
    assert summary.cache_miss(report_of(hit, plain)) is plain
    assert summary.cache_miss(report_of(hit, plain, cached)) is cached
    assert summary.cache_miss(report_of(hit, plain, cached, miss)) is miss


def test_targets_are_judged_by_the_median() -> None:
    report = report_of(
        cpu("passthrough", "1 kB", 100, 100, 100),
        cpu("model-sidecar", "1 kB", 120, 125, 140),
        cpu("model-sidecar", "policy: all", 140, 180, 180),
        cpu("passthrough", "policy: all", 100, 100, 100),
        Figure("loop_stall", "model-sidecar", "swap, 2000 pins yaml", "ms", [40]),
        Figure("loop_stall", "model-sidecar", "scrape, 100 series", "ms", [2]),
        Figure("loop_stall", "model-sidecar", "1 MB body, tools", "ms", [11]),
        Figure("loop_stall", "model-sidecar", "under load", "ms", [99]),
    )
    plain, everything, chunk, *_, stall, yaml = targets(report)
    assert (plain.verdict, plain.words) == (Verdict.MET, "met by 0.0 % (missed in 1 of 3)")
    assert (everything.verdict, everything.words) == (Verdict.MISSED, "missed by 20 % (met in 1 of 3)")
    assert (chunk.verdict, chunk.words) == (Verdict.UNKNOWN, "not measured")
    assert stall.figure is not None
    assert (stall.figure.case, stall.verdict) == ("1 MB body, tools", Verdict.MISSED)
    assert yaml.verdict is Verdict.MET


def test_text_fits_a_terminal(report: Report) -> None:
    lines = table.text(report).splitlines()
    assert max(map(len, lines)) <= 110
    assert all(line == line.rstrip() for line in lines)


@settings(max_examples=30)
@given(st.floats(0.01, 5_000), st.floats(0.5, 3))
def test_text_fits_a_terminal_with_any_figures(size: float, apart: float) -> None:
    report = sample.whole()
    for figure in report.figures:
        if figure.measure not in {"rps_saturated", "cpu_per_request"}:
            figure.values = [size, size * apart, size / apart]
    assert max(map(len, table.text(report).splitlines())) <= 110


def test_text_and_markdown_tell_the_same() -> None:
    report = sample.whole()
    told, marked = table.text(report), table.markdown(report)
    for columns in table.bands(report).values():
        for column in columns:
            for system in summary.order(report):
                if (figure := column.of(report, system)) is not None:
                    assert summary.number(figure.median) in told
                    assert summary.spread(figure) in told
                    assert f"({summary.spread(figure)})" in marked
    for title, rows in summary.own(report).items():
        assert f"\nmodel-sidecar: {title} " in told
        assert f"**model-sidecar: {title}**" in marked
        for row in rows:
            pattern = rf"^{re.escape(row.label)} +{re.escape(summary.number(row.figure.median))} "
            assert re.search(pattern, told, re.MULTILINE)
            assert summary.compared(row.compared) in told
            assert f"| {row.label} | {row.figure.unit} | {summary.told(row.figure)} | " in marked
    for target in targets(report):
        assert target.words in told
        assert target.words in marked


def test_what_was_not_measured_is_said() -> None:
    report = sample.whole()
    for told in (table.text(report), table.markdown(report)):
        assert "bifrost: no Go toolchain is at hand" in told
        assert re.search(r"litellm +(\| )?[\d.]+¹", told)
        assert "\n¹ one worker of four answered\n" in told
        assert "Commit 1a2b3c4, 2026-11-23T09:30:00Z, run of 13 min" in told
        assert "1000/s is more than 70 % of what it can do (41/s)" in told
        assert "kernel 6.8" in told
        assert "nginx 1.22.1" in told


def test_a_missing_figure_says_why() -> None:
    found = Figure("added_latency_p50", "model-sidecar", "100/s", "ms", [1.0])
    other = Figure("added_latency_p50", "litellm", "20/s", "ms", [])
    slow = Figure("added_latency_p50", "litellm", "100/s", "ms", [], "too slow")
    report = report_of(found, other, slow, Figure("ttft_added_p50", "litellm", "1 stream", "ms", [2.0]))
    told = table.text(report)
    assert re.search(r"^litellm +–¹ +–", told, re.MULTILINE)
    assert "\n¹ too slow\n" in told


def test_a_swap_is_compared_with_the_second_before() -> None:
    after, before = (Figure("swap_p99", "model-sidecar", f"10 pins yaml{w}", "ms", [3 * n, 8 * n]) for w, n in
                     (("", 2), (", before", 1)))  # fmt: skip
    (row,) = summary.swaps(report_of(before, after))
    assert row.figure is not before
    assert row.compared is not None
    assert row.compared.values == [2, 2]


def test_a_warning_stands_before_the_figures() -> None:
    report = sample.whole()
    report.machine["warning"] = "the load average is 5.5"
    assert "\nWarning: the load average is 5.5\n\nCost" in table.text(report)


def test_nothing_is_printed_that_is_no_number(report: Report) -> None:
    for told in (table.text(report), table.markdown(report)):
        assert not re.search(r"(?i:\bnan\b|\binf)|None", told)


def test_markdown_tables_are_even(report: Report) -> None:
    for block in table.markdown(report).split("\n\n"):
        if block.startswith("|"):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, block


def test_markdown_is_escaped() -> None:
    told = table.markdown(sample.holes())
    assert "<script>" not in told.replace("\\<script\\>", "")
    assert "\\<script\\>alert(\"1\")\\</script\\> &amp; 'x' \\| \\`y\\`" in told
