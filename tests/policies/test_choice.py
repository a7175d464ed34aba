from __future__ import annotations

from sidecar.core.facts import Attempt, Cause, Outcome, Result
from sidecar.errors import Code
from sidecar.state.latency import ENOUGH_SAMPLES

from .conftest import Make, asked


def chosen(make: Make, name: str) -> str | None:
    return asked(make()[0], name)[0].chosen


def test_filter_then_prefer(make: Make) -> None:
    assert chosen(make, "auto.context") == "gpt-5.4-2025-11-02", (
        "5.5 is too slow and too dear, mini's context is smaller"
    )
    assert chosen(make, "auto.price") == "gpt-5.5-mini-2026-01-10"
    assert chosen(make, "auto.latency") == "gpt-5.5-mini-2026-01-10"


def test_ties_and_no_preference_go_by_file_order(make: Make) -> None:
    assert chosen(make, "auto.first") == "gpt-5.4-2025-11-02"


def test_nothing_fits(make: Make) -> None:
    x, refusal = asked(make()[0], "auto.never")
    assert refusal is not None
    assert (refusal.code, refusal.status) == (Code.NO_TARGET, 503)
    assert x.targets == ()


def test_only_models_of_the_callers_dialect_fit(make: Make) -> None:
    x, _ = asked(make()[0], "auto.price", dialect="anthropic")
    assert x.chosen == "claude-sonnet-5-20260112"


def test_measured_latency_replaces_the_typical_one_once_there_is_enough(make: Make) -> None:
    snapshot, _ = make()

    def serve(seconds: float) -> None:
        x, _ = asked(snapshot, "auto.latency")
        won = Attempt(1, x.targets[0], Cause.FIRST, 0.0, first_at=seconds, result=Result.OK)
        snapshot.pipeline.settle(x, Outcome((won,), won, None, 200), seconds)

    for _ in range(ENOUGH_SAMPLES - 1):
        serve(5.0)
    assert asked(snapshot, "auto.latency")[0].chosen == "gpt-5.5-mini-2026-01-10"
    serve(5.0)
    x, _ = asked(snapshot, "auto.latency")
    assert x.chosen == "gpt-5.4-2025-11-02"
    assert x.latencies_ms == {"gpt-5.5-mini-2026-01-10": 5000}


def test_a_failed_answer_is_no_sample(make: Make) -> None:
    snapshot, state = make()
    x, _ = asked(snapshot, "auto.latency")
    lost = Attempt(1, x.targets[0], Cause.FIRST, 0.0, first_at=9.0, result=Result.FAILED)
    for _ in range(ENOUGH_SAMPLES):
        snapshot.pipeline.settle(x, Outcome((lost,), lost, "broken", 200), 9.0)
    assert state.latency.measured_ms(["gpt-5.5-mini-2026-01-10"]) == {}


def test_a_provider_whose_key_cannot_be_read_is_not_chosen(make: Make) -> None:
    snapshot, state = make()
    state.credentials.put("openai", None)
    _, refusal = asked(snapshot, "auto.price")
    assert refusal is not None
    assert refusal.code is Code.NO_TARGET
