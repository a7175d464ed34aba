from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings.schema import BudgetSpec
from sidecar.state.limits import COUNTED, LIMITS, NANO, amounts, counted, fits, named, shown, whole


def test_each_limit_of_the_file_counts_something_over_some_time() -> None:
    assert set(LIMITS) == set(COUNTED) == set(BudgetSpec.__struct_fields__) - {"scope"}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("requests_per_minute", 1),
        ("tokens_per_minute", 12),
        ("tokens_per_day", 12),
        ("input_tokens_per_minute", 10),
        ("output_tokens_per_minute", 2),
        ("usd_per_day", NANO // 4),
    ],
)
def test_what_a_limit_counts(limit: str, expected: int) -> None:
    assert amounts(1, 10, 2, 0.25)[COUNTED[limit]] == expected


def test_money_is_rounded_up_but_not_for_the_noise_of_a_float() -> None:
    assert amounts(1, 0, 0, 0.1 + 0.2)[COUNTED["usd_per_day"]] == 300_000_000
    assert amounts(1, 0, 0, 1.5 / NANO)[COUNTED["usd_per_day"]] == 2


def test_units_of_the_file_and_of_the_ledger() -> None:
    spec = BudgetSpec(usd_per_day=2.5, tokens_per_minute=100)
    assert (whole(spec, "usd_per_day"), whole(spec, "tokens_per_minute"), whole(spec, "tokens_per_day")) == (
        2_500_000_000, 100, None,
    )  # fmt: skip
    assert (shown("usd_per_day", 2_500_000_000), shown("tokens_per_minute", 100)) == (2.5, 100)


@given(st.sampled_from(LIMITS), st.integers(0, 10**14))
def test_an_amount_survives_the_file_s_units(limit: str, amount: int) -> None:
    assert counted(limit, shown(limit, amount)) == amount


def test_what_fits() -> None:
    assert fits(0, -5, 100), "nothing fits always"
    assert [fits(amount, 60, 100) for amount in (60, 61, 200)] == [True, False, False]
    assert fits(200, 100, 100), "more than the whole limit, alone"


def test_its_name_in_an_event() -> None:
    assert named(("model", "gpt-x"), "tokens_per_minute") == "model gpt-x tokens_per_minute"
