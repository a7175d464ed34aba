from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sidecar.compose import build, resolve
from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Outcome, Result
from sidecar.errors import Code
from sidecar.policies.choice import _rank, fits
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State
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
    assert state.latency.measured_ms({"gpt-5.5-mini-2026-01-10": 0}) == {}


def test_a_provider_whose_key_cannot_be_read_is_not_chosen(make: Make) -> None:
    snapshot, state = make()
    state.credentials.put("openai", None)
    _, refusal = asked(snapshot, "auto.price")
    assert refusal is not None
    assert refusal.code is Code.NO_TARGET


FACTS = st.fixed_dictionaries(
    {"provider": st.sampled_from(["openai", "azure", "anthropic"])},
    optional={
        "context": st.sampled_from([1000, 2000, 3000]),
        "latency_ms": st.sampled_from([100, 200, 300]),
        "price": st.sampled_from([1, 2]).map(lambda usd: f"{{input: {usd}, output: {usd}}}"),
    },
)
RULES = st.fixed_dictionaries(
    {"prefer": st.sampled_from(["context", "price", "latency"])},
    optional={
        "max_latency_ms": st.sampled_from([100, 250]),
        "max_price": st.just("{input: 1}"),
        "min_context": st.just(2000),
    },
)


def flow(facts: dict[str, object]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in facts.items())


@given(
    st.lists(FACTS, min_size=1, max_size=8), RULES, st.dictionaries(st.integers(0, 8), st.sampled_from([50, 150, 400]))
)
def test_it_is_as_if_all_were_looked_at(
    catalogue: list[dict[str, object]], rule: dict[str, object], measured: dict[int, int]
) -> None:
    models = "".join(f"  m-{n}-2026-01-01: {{{flow(facts)}}}\n" for n, facts in enumerate(catalogue))
    text = f"version: 1\nunlisted: reject\nmodels:\n{models}pins: {{auto: {{policy: {{{flow(rule)}}}}}}}\n"
    pins, state = read_pins(text.encode(), "pins.yaml", None), State()
    state.credentials.put("azure", "secret")
    for n, ms in measured.items():
        for _ in range(ENOUGH_SAMPLES):
            state.latency.observe(f"m-{n}-2026-01-01", ms / 1000)
    x = Exchange("r", Ask("openai", name="auto"), 0.0)
    resolve(build(Parts({}, {"openai": "openai"}, pins, state)), x)

    asked_for = pins.pins["auto"].rule
    assert asked_for is not None
    candidates = [m for m in pins.models.values() if m.dialect == "openai" and m.provider in (x.eligible or ())]
    told = {
        m.id: measured[n]
        for n in range(len(catalogue))
        if (m := pins.models[f"m-{n}-2026-01-01"]) in candidates and n in measured
    }
    latency = {m.id: told.get(m.id, math.inf if m.latency_ms is None else m.latency_ms) for m in candidates}
    fitting = [m for m in candidates if fits(asked_for, m, latency[m.id])]
    best = min(fitting, key=lambda m: _rank(asked_for, m, latency[m.id]), default=None)
    assert x.chosen == (best.id if best is not None else None)
    assert x.latencies_ms == told
    assert list(x.latencies_ms or ()) == list(told), "in the order of the file"
    assert best is None or f"policy: best of {len(fitting)} that fit, by {rule['prefer']}" in x.why
