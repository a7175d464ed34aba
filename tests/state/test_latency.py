from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.state.latency import ENOUGH_SAMPLES, Latency


def observed(*seconds: float) -> dict[str, int]:
    latency = Latency()
    for value in seconds:
        latency.observe("m", value)
    return latency.measured_ms({"m": 0, "unknown": 1})


def test_nothing_is_said_before_there_is_enough() -> None:
    assert observed(*[1.0] * (ENOUGH_SAMPLES - 1)) == {}
    assert observed(*[1.0] * ENOUGH_SAMPLES) == {"m": 1000}


def test_a_model_that_got_slower_is_noticed() -> None:
    fast, slow = observed(*[0.1] * 50)["m"], observed(*[0.1] * 50, *[2.0] * 20)["m"]
    assert fast == 100
    assert slow > 1500


@given(st.lists(st.floats(0.001, 100), min_size=ENOUGH_SAMPLES, max_size=60))
def test_the_mean_stays_among_what_was_seen(seconds: list[float]) -> None:
    assert round(min(seconds) * 1000) - 1 <= observed(*seconds)["m"] <= round(max(seconds) * 1000) + 1
