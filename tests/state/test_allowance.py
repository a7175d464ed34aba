from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.state import allowance
from sidecar.state.allowance import Allowance

KEY = ("openai", "m")


def drained(burst: int = 10) -> Allowance:
    bucket = Allowance()
    while bucket.take(KEY, burst):
        pass
    return bucket


def test_it_starts_full() -> None:
    bucket = Allowance()
    assert [bucket.take(KEY, 3) for _ in range(4)] == [True, True, True, False]


def test_twenty_earnings_of_a_twentieth_make_one() -> None:
    bucket = drained()
    for _ in range(19):
        bucket.earn(KEY, 0.05, 10)
    assert not bucket.take(KEY, 10)
    bucket.earn(KEY, 0.05, 10)
    assert bucket.take(KEY, 10)
    assert not bucket.take(KEY, 10)


def test_it_never_holds_more_than_the_burst() -> None:
    bucket = drained(2)
    for _ in range(1000):
        bucket.earn(KEY, 0.05, 2)
    assert bucket.level(KEY, 2) == 2


def test_targets_are_apart() -> None:
    bucket = drained()
    assert bucket.take(("openai", "n"), 10)
    assert bucket.take(("other", "m"), 10)


def test_what_was_not_used_comes_back() -> None:
    bucket = Allowance()
    bucket.take(KEY, 1)
    bucket.give_back(KEY, 1)
    assert bucket.level(KEY, 1) == 1


def test_a_burst_of_none_forbids_all_and_takes_nothing_from_others() -> None:
    bucket = Allowance()
    assert not bucket.take(KEY, 0)
    bucket.earn(KEY, 0.05, 0)
    assert bucket.level(KEY, 10) == 10


def test_a_swap_applies_at_once_and_the_level_survives() -> None:
    bucket = Allowance()
    for _ in range(5):
        bucket.take(KEY, 10)
    assert bucket.level(KEY, 20) == 5, "a larger bucket is not filled by that"
    assert bucket.level(KEY, 2) == 2, "a smaller one holds less"
    assert [bucket.take(KEY, 2) for _ in range(3)] == [True, True, False]


def test_earnings_of_a_smaller_burst_lower_nobodys_level() -> None:
    bucket = Allowance()
    bucket.take(KEY, 10)
    bucket.earn(KEY, 0.05, 1)
    assert bucket.level(KEY, 10) == 9


def test_only_so_many_are_kept() -> None:
    bucket = Allowance()
    for n in range(2 * allowance.MOST_BUCKETS):
        bucket.take(("openai", f"m{n}"), 10)
    assert len(bucket._levels) == allowance.MOST_BUCKETS


@given(st.lists(st.sampled_from(["request", "extra"]), max_size=400), st.integers(0, 5))
def test_extras_never_pass_the_burst_and_what_was_earned(happens: list[str], burst: int) -> None:
    bucket = Allowance()
    requests = extras = 0
    for what in happens:
        if what == "request":
            bucket.earn(KEY, 0.05, burst)
            requests += 1
        else:
            extras += bucket.take(KEY, burst)
        assert extras <= burst + requests * 0.05 + 1e-9
        assert 0 <= bucket.level(KEY, burst) <= burst
