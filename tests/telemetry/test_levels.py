"""What is read of the state at each look: budgets, breakers, the cache, shares, drills, the fleet."""

from __future__ import annotations

import pytest

from sidecar.compose import build
from sidecar.core.facts import Target
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.settings.schema import BreakerSpec
from sidecar.state import State
from sidecar.state.ledger import Claim
from sidecar.telemetry.metrics import Metrics
from tests.telemetry.test_metrics import MODEL, families, value


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics("1.2.3")
    made.use([MODEL], ["chat.core", MODEL], {MODEL: 1.8e9}, ["canary"])
    return made


def shares(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    samples = families(metrics)["sidecar_pin_share"].samples
    return {(s.labels["pin"], s.labels["variant"], s.labels["model"]): s.value for s in samples}


def test_the_shares_of_a_pin_add_up(metrics: Metrics) -> None:
    text = SHARES.format(canary=12.5)
    pins = read_pins(text.encode(), "pins.yaml", None)
    metrics.look(State(), pins, 0.0)
    assert shares(metrics) == {("chat.core", "stable", "a-001"): 0.875, ("chat.core", "canary", "b-002"): 0.125}
    metrics.look(State(), pins.stop("chat.core", "canary"), 0.0)
    assert shares(metrics) == {("chat.core", "stable", "a-001"): 1}
    metrics.look(State(), None, 0.0)
    assert shares(metrics) == {}


SHARES = """\
generation: 1
unlisted: reject
models: {{a-001: {{provider: openai}}, b-002: {{provider: openai}}}}
pins:
  chat.core: {{stable: a-001, variants: {{canary: {{model: b-002, percent: {canary}}}}}}}
  by.rule: {{policy: {{prefer: context}}}}
"""

PINS = f"""\
generation: 1
unlisted: reject
models:
  {MODEL}: {{provider: openai, budget: {{tokens_per_minute: 1000, usd_per_day: 5}}, price: {{input: 1, output: 1}},
    breaker: {{failures: 1}}}}
  b-002: {{provider: openai, breaker: {{}}}}
  c-002: {{provider: openai}}
pins:
  chat.core: {{stable: {MODEL}, budget: {{requests_per_minute: 3}}}}
"""


def test_budgets_breakers_and_the_cache_are_read_at_each_look(metrics: Metrics) -> None:
    pins, state = read_pins(PINS.encode(), "pins.yaml", None), State()
    build(Parts({}, {"openai": "openai"}, pins, state))
    metrics.look(state, pins, 0.0)
    spec = BreakerSpec(failures=1)
    target = Target("openai", MODEL)
    state.breakers.enter(target, 1, 0.0)
    state.breakers.leave(target, 1, "failure", spec, 0.0)
    claims = [Claim(("model", MODEL), 1, 300, 400, 0.5), Claim(("pin", "chat.core"), 1, 300, 400, 0.5)]
    state.ledger.reserve(claims, 0.0)
    state.ledger.reserve(claims, 0.0)
    assert value(metrics, "sidecar_circuit_state", model=MODEL) == 0  # as it was looked at
    metrics.look(state, pins, 1.0)
    assert value(metrics, "sidecar_circuit_state", model=MODEL) == 2
    assert value(metrics, "sidecar_circuit_state", model="b-002") == 0
    assert value(metrics, "sidecar_circuit_state", model="c-002") is None
    metrics.look(state, pins, 20.0)
    assert value(metrics, "sidecar_circuit_state", model=MODEL) == 1
    tokens = {"kind": "model", "name": MODEL, "limit": "tokens_per_minute", "scope": "pod"}
    assert value(metrics, "sidecar_budget_tokens_used", **tokens) == 700
    assert value(metrics, "sidecar_budget_tokens_limit", **tokens) == 1000
    assert value(metrics, "sidecar_budget_refused_total", **tokens) == 1
    usd = tokens | {"limit": "usd_per_day"}
    assert value(metrics, "sidecar_budget_usd_used", **usd) == 0.5
    requests = {"kind": "pin", "name": "chat.core", "limit": "requests_per_minute", "scope": "pod"}
    assert value(metrics, "sidecar_budget_requests_used", **requests) == 1
    assert value(metrics, "sidecar_cache_bytes") == value(metrics, "sidecar_cache_evicted_total") == 0
    metrics.look(state, read_pins(PINS.replace("breaker: {}", "").encode(), "pins.yaml", None), 20.0)
    assert value(metrics, "sidecar_circuit_state", model="b-002") is None


def test_drills_and_the_fleet(metrics: Metrics) -> None:
    metrics.drilled("chat.core", MODEL, True, 5.0)
    metrics.drilled("chat.core", MODEL, False, 9.0)
    metrics.drilled("gone", MODEL, True, 9.0)
    assert value(metrics, "sidecar_fleet_up") is None  # no fleet is set: nothing that could be down
    metrics.fleet(True)
    last = "sidecar_drill_last_success_timestamp_seconds"
    assert value(metrics, last, pin="chat.core", model=MODEL) == 5.0
    assert value(metrics, last, pin="gone", model=MODEL) is None
    assert value(metrics, "sidecar_drills_total", result="ok") == 2
    assert value(metrics, "sidecar_drills_total", result="failed") == 1
    assert value(metrics, "sidecar_fleet_up") == 1
    metrics.fleet(False)
    assert value(metrics, "sidecar_fleet_up") == 0
    metrics.use([MODEL], ["else"], {})
    assert value(metrics, last, pin="chat.core", model=MODEL) is None
