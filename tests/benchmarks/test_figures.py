"""What a report keeps, and how ratios and percentiles are made of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Figure, Report, System, percentile


def made() -> Report:
    report = Report("abc", "2026-11-23T00:00:00Z", {"cpu": "x"}, {"python": "3.11"})
    report.systems = [System("model-sidecar", "0.1"), System("bifrost", skipped="no Go")]
    report.figures = [
        Figure("cpu_per_request", "model-sidecar", "1 kB", "µs", [200.0, 300.0, 240.0], "a note"),
        Figure("cpu_per_request", "passthrough", "1 kB", "µs", [100.0, 150.0, 200.0]),
        Figure("latency_curve", "model-sidecar", "100/s", "ms", [], curve=[(0.5, 0.2), (0.99, 1.5)]),
    ]
    return report


def test_a_ratio_is_made_pair_by_pair() -> None:
    report = made()
    ratio = report.ratio(report.figures[0])
    assert ratio is not None
    assert ratio.values == [2.0, 2.0, 1.2]
    assert ratio.median == 2.0  # of medians it would be 1.6


def test_there_is_no_ratio_without_a_pair() -> None:
    report = made()
    assert report.ratio(report.figures[1]) is None  # to itself
    assert report.ratio(report.figures[2]) is None
    report.figures[1].values = []
    assert report.ratio(report.figures[0]) is None
    report.figures[1].values = [100.0]  # it failed after one round
    assert (found := report.ratio(report.figures[0])) is not None
    assert found.values == [2.0]


def test_a_report_is_written_and_read_back(tmp_path: Path) -> None:
    report = made()
    report.write(tmp_path / "new" / "report.json")
    back = Report.read(tmp_path / "new" / "report.json")
    assert back.systems == report.systems
    assert [(f.measure, f.values, f.note) for f in back.figures] == [
        (f.measure, f.values, f.note) for f in report.figures
    ]
    assert [tuple(point) for point in back.figures[2].curve] == report.figures[2].curve


def test_what_is_written_is_json_with_medians(tmp_path: Path) -> None:
    """NaN is no JSON: other programs couldn't read it."""
    report = made()
    report.figures.append(Figure("swap_p99", "model-sidecar", "", "ms", [math.nan]))
    report.write(tmp_path / "report.json")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    rows = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)["figures"]
    assert rows[0]["median"] == 240.0
    assert rows[0]["ratio"] == 2.0
    assert rows[2]["median"] is None
    assert rows[3]["values"] == [None]
    assert math.isnan(Report.read(tmp_path / "report.json").figures[3].values[0])


def test_median_and_spread() -> None:
    figure = Figure("m", "s", "", "µs", [3.0, 1.0, 2.0])
    assert (figure.median, figure.spread) == (2.0, (1.0, 3.0))
    assert math.isnan(Figure("m", "s", "", "µs", []).median)


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.01, 1), (0.5, 50), (0.9, 90), (0.99, 99), (0.999, 100), (1, 100)]
)
def test_percentile_of_a_hundred(share: float, expected: float) -> None:
    assert percentile(range(1, 101), share) == expected


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(0, 1))
def test_a_percentile_is_a_value_with_that_many_below_or_at_it(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_a_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))
