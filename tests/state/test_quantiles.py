from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.state import quantiles
from sidecar.state.quantiles import ENOUGH_SAMPLES, KEPT, WINDOW_S, Quantiles


def filled(samples: list[float], *, now: float = 0.0) -> Quantiles:
    measured = Quantiles()
    for seconds in samples:
        measured.observe("m", "first", seconds, now)
    return measured


def test_nothing_is_said_of_fewer_than_fifty() -> None:
    measured = filled([0.1] * (ENOUGH_SAMPLES - 1))
    assert measured.quantile("m", "first", 0.95, 0.0) is None
    measured.observe("m", "first", 0.1, 0.0)
    assert measured.quantile("m", "first", 0.95, 0.0) == 0.1


def test_models_and_kinds_are_apart() -> None:
    measured = filled([0.1] * ENOUGH_SAMPLES)
    assert measured.quantile("m", "total", 0.95, 0.0) is None
    assert measured.quantile("n", "first", 0.95, 0.0) is None


@pytest.mark.parametrize(("q", "expected"), [(0.5, 50.0), (0.95, 95.0), (0.951, 96.0), (0.99, 99.0), (0.999, 100.0)])
def test_the_nearest_rank(q: float, expected: float) -> None:
    assert filled([float(n) for n in range(100, 0, -1)]).quantile("m", "first", q, 0.0) == expected


def test_the_median() -> None:
    assert filled([1.0] * 30 + [9.0] * 29).median("m", "first", 0.0) == 1.0


def test_samples_older_than_ten_minutes_do_not_count() -> None:
    measured = filled([5.0] * 60, now=0.0)
    for _ in range(60):
        measured.observe("m", "first", 1.0, WINDOW_S - 1)
    assert measured.quantile("m", "first", 0.99, WINDOW_S - 1) == 5.0
    assert measured.quantile("m", "first", 0.99, WINDOW_S + 1) == 1.0
    assert measured.quantile("m", "first", 0.99, 3 * WINDOW_S) is None, "all are old: it is off again"


def test_the_newest_512_count() -> None:
    measured = filled([9.0] * KEPT + [1.0] * KEPT)
    assert measured.quantile("m", "first", 0.999, 0.0) == 1.0


def test_it_is_not_sorted_at_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts = 0

    def counting(values: object) -> list[float]:
        nonlocal sorts
        sorts += 1
        return sorted(values)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(quantiles, "sorted", counting, raising=False)
    measured = filled([0.1] * 100)
    for n in range(1000):
        measured.observe("m", "first", 0.2, n / 1000)
        assert measured.quantile("m", "first", 0.95, n / 1000) in (0.1, 0.2)
    assert sorts <= 1000 / quantiles.REFRESH_SAMPLES + 2
    assert measured.quantile("m", "first", 0.5, 3.0) == 0.2, "what came since is seen a second later"


def test_only_so_many_are_kept() -> None:
    measured = Quantiles()
    for n in range(2 * quantiles.MOST_KEYS):
        measured.observe(f"m{n}", "first", 0.1, 0.0)
    assert len(measured._rings) == quantiles.MOST_KEYS


@given(st.lists(st.floats(0, 100), min_size=50, max_size=700), st.floats(0.51, 0.99))
def test_it_is_the_smallest_within_which_that_share_came(samples: list[float], q: float) -> None:
    kept = samples[-KEPT:]
    answer = filled(samples).quantile("m", "first", q, 0.0)
    assert answer in kept
    assert sum(s <= answer for s in kept) >= q * len(kept) - 1e-6
    assert sum(s < answer for s in kept) < math.ceil(q * len(kept))
