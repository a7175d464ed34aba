"""USD of a usage: each kind of token once, at its own price."""

from __future__ import annotations

import pytest

from sidecar.core.facts import Usage
from sidecar.settings.pins import Model, Price
from sidecar.settings.prices import cost_usd, highest_usd


def model(price: Price | None) -> Model:
    return Model("m", "p", "openai", None, None, None, price, None, floating=False)


@pytest.mark.parametrize(
    ("price", "usage", "usd_per_million"),
    [
        (Price(2, 10, None, None), Usage(100, 10), 300),
        (Price(2, 10, 0.5, None), Usage(100, 10, cached_input=40), 60 * 2 + 40 * 0.5 + 100),
        (Price(2, 10, 0.5, 2.5), Usage(100, 10, 40, 20), 40 * 2 + 40 * 0.5 + 20 * 2.5 + 100),
        (Price(2, 10, None, None), Usage(100, 10, 40, 20), 300),
        (Price(2, 10, None, None), Usage(0, 50, reasoning=45), 500),  # reasoning is inside output
        (Price(2, 10, 0, 0), Usage(10, 0, 40, 20), 0),  # more cached than there is: nonsense, never negative
    ],
)
def test_cost(price: Price, usage: Usage, usd_per_million: float) -> None:
    assert cost_usd(usage, model(price)) == pytest.approx(usd_per_million / 1e6)


def test_no_price_no_cost() -> None:
    assert cost_usd(Usage(1, 1), model(None)) is None
    assert cost_usd(Usage(1, 1), None) is None
    assert highest_usd(None, 1, 1) == 0


def test_the_most_that_it_may_cost() -> None:
    assert highest_usd(Price(2, 10, 0.5, 2.5), 100, 10) == pytest.approx(350 / 1e6)
    assert highest_usd(Price(2, 10, 0.5, None), 100, 10) == pytest.approx(300 / 1e6)
