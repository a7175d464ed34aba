"""Metrics: names and labels, what counts what, and that no client can add a series."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import Counter, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.core.charge import charge
from sidecar.core.facts import Attempt, Cause, Fault, Outcome, Result, Target, Usage, Veto
from sidecar.core.record import Record
from sidecar.dialects.registry import DIALECTS
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.table import TABLE

Make = Callable[..., Record]
MODEL = "gpt-5.4-2025-11-02"
GENAI = {
    "gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_original_model": "chat.core",
    "gen_ai_request_model": MODEL, "gen_ai_response_model": MODEL,
}  # fmt: skip
ATTEMPT = {"model": MODEL, "cause": "first", "outcome": "ok"}
ARM = {"pin": "chat.core", "variant": "stable", "fault": ""}


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics("1.2.3")
    made.use([MODEL], ["chat.core", MODEL], {MODEL: 1.8e9}, ["canary"])
    return made


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in parse_text(metrics.render("")[0].decode())}


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(sample, labels)


def series(metrics: Metrics) -> int:
    return sum(not line.startswith(b"#") for line in metrics.render("")[0].splitlines())


def test_a_finished_request_in_numbers(metrics: Metrics, make: Make) -> None:
    metrics.observe(make())
    labels = {"pin": "chat.core", "variant": "stable", "model": MODEL, "dialect": "openai", "code": "2xx", "error": ""}
    assert value(metrics, "sidecar_requests_total", **labels) == 1
    assert value(metrics, "sidecar_attempts_total", **ATTEMPT) == 1
    assert value(metrics, "sidecar_variant_attempts_total", **ATTEMPT, **ARM) == 1
    arm = {"pin": "chat.core", "variant": "stable", "model": MODEL}
    assert value(metrics, "sidecar_cost_usd_total", **arm) == 0.000625
    assert value(metrics, "sidecar_overhead_seconds_sum") == 0.0003
    usage = "gen_ai_client_token_usage"
    tokens = {kind: value(metrics, f"{usage}_sum", gen_ai_token_type=kind, **GENAI) for kind in
              ("input", "output", "cached_input", "cache_creation_input", "reasoning")}  # fmt: skip
    assert tokens == {
        "input": 100, "output": 50, "cached_input": 10, "cache_creation_input": None, "reasoning": 5,
    }  # fmt: skip
    stable = GENAI | {"sidecar_variant": "stable"}
    assert value(metrics, "gen_ai_server_request_duration_seconds_sum", error_type="", **stable) == 1
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_sum", **stable) == 0.199
    per_token = value(metrics, "gen_ai_server_time_per_output_token_seconds_sum", **GENAI)
    assert per_token == pytest.approx(0.8 / 49)


@pytest.mark.parametrize(
    ("status", "error", "code", "label"),
    [
        (200, None, "2xx", ""),
        (529, "overload", "5xx", "provider"),
        (404, "sidecar_unknown_model", "4xx", "sidecar_unknown_model"),
        (None, None, "none", ""),
        (999, "broken", "other", "provider"),
    ],
)
def test_codes_and_errors(
    metrics: Metrics, make: Make, status: int | None, error: str | None, code: str, label: str
) -> None:
    metrics.observe(make(status=status, error=error))
    (sample,) = [s for s in families(metrics)["sidecar_requests"].samples if s.name.endswith("_total")]
    assert (sample.labels["code"], sample.labels["error"]) == (code, label)


def test_refusals_unlisted_and_untouched_are_counted(metrics: Metrics, make: Make) -> None:
    metrics.observe(make(kind="none", name="x", attempted=False, error="sidecar_unknown_model", status=404))
    metrics.observe(make(kind="unlisted", name="y", model="y", served="y"))
    metrics.observe(make(kind="none", name=None, model=None, served=None))
    metrics.refused("sidecar_forbidden")
    metrics.refused("made up")
    assert value(metrics, "sidecar_unlisted_total", dialect="openai") == 2
    assert value(metrics, "sidecar_untouched_total", dialect="openai") == 1
    assert value(metrics, "sidecar_refused_total", code="sidecar_unknown_model") == 1
    assert value(metrics, "sidecar_refused_total", code="sidecar_forbidden") == 1
    assert value(metrics, "sidecar_refused_total", code="other") == 1
    pins = {s.labels["pin"] for s in families(metrics)["sidecar_requests"].samples}
    assert pins == {"other", "none"}


def test_drift_is_counted_for_the_model_asked_for(metrics: Metrics, make: Make) -> None:
    metrics.observe(make(served=f"models/{MODEL}"))
    assert value(metrics, "sidecar_model_drift_total", model=MODEL) == 0
    metrics.observe(make(served="gpt-6-2027-01-01"))
    assert value(metrics, "sidecar_model_drift_total", model=MODEL) == 1
    asked_other = GENAI | {"gen_ai_response_model": "other", "sidecar_variant": "stable"}
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", error_type="", **asked_other) == 1


def test_invented_names_add_no_series(metrics: Metrics, make: Make) -> None:
    def traffic(names: Iterable[str]) -> None:
        for name in names:
            record = make(kind="unlisted", name=name, model=name, served=name)
            metrics.observe(record)
            record.exchange.kind = "none"
            metrics.observe(record)

    traffic(["a"])
    before = series(metrics)
    traffic(f"invented-{i}" for i in range(50_000))
    assert series(metrics) == before


def test_served_models_task_and_variants_add_no_series(metrics: Metrics, make: Make) -> None:
    def odd(i: int) -> Record:
        record = make(served=f"odd-{i}")
        record.exchange.variant = f"variant-{i}"
        record.exchange.pin = f"gone-{i}"
        return record

    metrics.observe(odd(0))
    before = series(metrics)
    for i in range(1000):
        metrics.observe(odd(i))
    assert series(metrics) == before


def test_series_of_removed_models_names_and_variants_go(metrics: Metrics, make: Make) -> None:
    base: int | None = None
    for i in range(20):
        model, pin = f"m-{i}", f"p-{i}"
        metrics.use([model], [pin], {model: 1.0}, [f"v-{i}"])
        metrics.pins(str(i), f"{i:064x}")
        record = make(name=pin, model=model, served="else-2020-01-01")
        record.exchange.variant = f"v-{i}"
        metrics.observe(record)
        if base is None:
            base = series(metrics)
        assert series(metrics) == base
    text = metrics.render("")[0].decode()
    assert 'm-18"' not in text
    assert 'm-19"' in text


def test_a_model_keeps_its_counts_over_a_swap(metrics: Metrics, make: Make) -> None:
    metrics.observe(make())
    metrics.use([MODEL, "new"], ["chat.core"], {}, ["canary"])
    metrics.observe(make())
    assert value(metrics, "sidecar_attempts_total", **ATTEMPT) == 2
    assert value(metrics, "sidecar_variant_attempts_total", **ATTEMPT, **ARM) == 2
    assert value(metrics, "sidecar_model_retires_timestamp_seconds", model=MODEL) is None


def test_pins(metrics: Metrics) -> None:
    for result in ("ok", "rollback", "rejected", "unchanged"):
        assert value(metrics, "sidecar_pins_reloads_total", result=result) == 0
    metrics.pins("7", "aa", at=5.0, degraded=True)
    metrics.pins("7+stop", "aa", at=6.0)
    metrics.reload("ok")
    assert value(metrics, "sidecar_pins_info", generation="7", sha256="aa") is None
    assert value(metrics, "sidecar_pins_info", generation="7+stop", sha256="aa") == 1
    assert value(metrics, "sidecar_pins_last_success_timestamp_seconds") == 6.0
    assert value(metrics, "sidecar_pins_degraded") == 0
    assert value(metrics, "sidecar_pins_reloads_total", result="ok") == 1
    assert value(metrics, "sidecar_model_retires_timestamp_seconds", model=MODEL) == 1.8e9


def test_a_refused_pin_file_is_told_for_as_long_as_it_lies_there(metrics: Metrics) -> None:
    told = []
    for result in ("ok", "rejected", "unchanged", "rejected", "rollback"):
        metrics.reload(result)
        metrics.pins("7+stop", "aa")  # a stop in between doesn't mend the file
        told.append(value(metrics, "sidecar_pins_last_reload_successful"))
    assert told == [1, 0, 1, 0, 1]


def test_what_is_rare_starts_at_zero(metrics: Metrics) -> None:
    """A counter that appears as 1 hasn't risen, for Prometheus: the first one would be missed."""
    assert value(metrics, "sidecar_model_drift_total", model=MODEL) == 0
    assert [value(metrics, "sidecar_unlisted_total", dialect=d) for d in DIALECTS] == [0, 0, 0]


def test_attempts_tell_their_arm_and_what_went_wrong(metrics: Metrics, make: Make) -> None:
    record = make(status=400, error="caller", cost_usd=None)
    record.exchange.variant = "canary"
    record.outcome.attempts[0].fault = Fault.CALLER
    metrics.observe(record)
    labels = ATTEMPT | ARM | {"variant": "canary", "outcome": "failed", "fault": "caller"}
    assert value(metrics, "sidecar_variant_attempts_total", **labels) == 1
    assert not families(metrics)["sidecar_cost_usd"].samples


def test_variants_tell_their_times_apart(metrics: Metrics, make: Make) -> None:
    record = make()
    record.exchange.variant = "canary"
    metrics.observe(record)
    for name, more in (
        ("gen_ai_server_request_duration_seconds_count", {"error_type": ""}),
        ("gen_ai_server_time_to_first_token_seconds_count", {}),
    ):
        assert value(metrics, name, sidecar_variant="canary", **GENAI, **more) == 1
        assert value(metrics, name, sidecar_variant="stable", **GENAI, **more) is None
    metrics.use([MODEL], ["chat.core", MODEL], {}, [])
    assert 'variant="canary"' not in metrics.render("")[0].decode()


def test_gauges_sinks_and_the_rest(metrics: Metrics) -> None:
    metrics.gauges(in_flight=lambda: 3, connections=lambda: 4, buffered_bytes=lambda: 5)
    metrics.watch(SimpleNamespace(name="events", dropped=6, errors=7), None)
    metrics.poisoned()
    metrics.feedback(None)
    metrics.feedback(True)
    assert value(metrics, "sidecar_in_flight") == 3
    assert value(metrics, "sidecar_connections") == 4
    assert value(metrics, "sidecar_buffered_bytes") == 5
    assert value(metrics, "sidecar_events_dropped_total", sink="events") == 6
    assert value(metrics, "sidecar_sink_errors_total", sink="events") == 7
    assert value(metrics, "sidecar_poisoned_connections_total") == 1
    assert value(metrics, "sidecar_feedback_total", success="true") == 1
    assert value(metrics, "sidecar_feedback_total", success="none") == 1
    assert value(metrics, "sidecar_build_info", version="1.2.3") == 1


def test_every_family_is_well_formed(metrics: Metrics, make: Make) -> None:
    metrics.observe(make())
    metrics.pins("7", "aa")
    seen = families(metrics)
    assert set(seen) == {row.name for row in TABLE}
    for row in TABLE:
        assert re.fullmatch(r"(gen_ai|sidecar)_[a-z_]+", row.name)
        assert not row.name.endswith("_total")
        assert row.help.endswith(".")
        assert seen[row.name].documentation == row.help
    assert not [line for line in metrics.render("")[0].splitlines() if b"_created" in line]


def test_openmetrics_on_request(metrics: Metrics, make: Make) -> None:
    metrics.observe(make())
    body, kind = metrics.render("application/openmetrics-text;version=9\r\nx: y,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    parsed = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in parsed} == {row.name for row in TABLE}
    assert metrics.render("*/*")[1].startswith("text/plain; version=0.0.4")


def test_rendering_in_a_thread_while_counting(metrics: Metrics, make: Make) -> None:
    failed: list[Exception] = []

    def scrape() -> None:
        try:
            for _ in range(20):
                metrics.render("")
        except Exception as exc:  # noqa: BLE001
            failed.append(exc)

    thread = threading.Thread(target=scrape)
    thread.start()
    i = 0
    while thread.is_alive():
        i += 1
        metrics.use([f"m-{i}"], ["chat.core"], {})
        metrics.observe(make(model=f"m-{i}"))
    thread.join()
    assert not failed


def test_no_count_is_lost_while_it_is_rendered_elsewhere(metrics: Metrics, make: Make) -> None:
    record, over = make(), threading.Event()

    def scrape() -> None:
        while not over.is_set():
            metrics.render("")

    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(5000):
        metrics.observe(record)
    over.set()
    thread.join()
    assert value(metrics, "sidecar_attempts_total", **ATTEMPT) == 5000
    assert value(metrics, "sidecar_overhead_seconds_count") == 5000


def test_records_that_wait_are_counted_before_anybody_looks(make: Make) -> None:
    metrics = Metrics("1.2.3", later=lambda _delay_s, _call: None)
    metrics.use([MODEL], ["chat.core"], {})
    metrics.observe(make())
    assert b'sidecar_attempts_total{model="%s",cause="first",outcome="ok"} 1.0' % MODEL.encode() in metrics.render()[0]
    metrics.observe(make())
    assert value(metrics, "sidecar_attempts_total", **ATTEMPT) == 2
    metrics.observe(make())
    metrics.use(["another"], [], {})  # counted as what it was, and gone with it
    assert value(metrics, "sidecar_attempts_total", **ATTEMPT) is None
    assert value(metrics, "sidecar_attempts_total", **ATTEMPT | {"model": "other"}) is None


def test_odd_usage_does_not_break_counting(metrics: Metrics, make: Make) -> None:
    record = make()
    assert record.outcome.winner is not None
    record.outcome.winner.usage = Usage()
    record.outcome.winner.first_at = None
    metrics.observe(record)


def test_hedges_are_told_by_how_they_ended(metrics: Metrics, make: Make) -> None:
    def hedged(result: Result, *, won: bool = False, vetoed: bool = False) -> Record:
        record = make()
        first = record.outcome.attempts[0]
        hedge = Attempt(2, first.target, Cause.HEDGE, 10.1, ended_at=10.2, result=result)
        record.exchange.hedge_after_s = 0.1
        if vetoed:
            record.exchange.vetoes = [Veto(2, Cause.HEDGE, "allowance", ())]
            return record
        first.result = Result.LOST_HEDGE if won else Result.OK
        return record._replace(outcome=Outcome((first, hedge), hedge if won else first, None, 200), charges=())

    for record in (
        hedged(Result.OK, won=True),
        hedged(Result.FAILED, won=True),  # broke off after its commit
        hedged(Result.LOST_HEDGE),
        hedged(Result.FAILED),
        hedged(Result.CLIENT_GONE),
        hedged(Result.OK, vetoed=True),
    ):
        metrics.observe(record)
    outcomes = ("won", "lost", "failed", "client_gone", "vetoed")
    assert [value(metrics, "sidecar_hedges_total", outcome=o) for o in outcomes] == [2, 1, 1, 1, 1]


def test_the_cache_and_the_cheaper_model(metrics: Metrics, make: Make) -> None:
    hit = make(attempted=False, cache="hit", given_usage=Usage(9, 9), cost_usd=0.0)
    metrics.observe(hit)
    metrics.observe(make(cache="made up"))
    cheaper = make()
    cheaper.exchange.over_budget = True
    metrics.observe(cheaper)
    assert value(metrics, "sidecar_cache_requests_total", result="hit") == 1
    assert value(metrics, "sidecar_cache_requests_total", result="other") == 1
    assert value(metrics, "sidecar_over_budget_total", pin="chat.core") == 1
    usage = "gen_ai_client_token_usage_count"
    assert value(metrics, usage, gen_ai_token_type="input", **GENAI) == 2  # not what was given again


def test_an_answer_given_again_counts_for_the_model_that_made_it(metrics: Metrics, make: Make) -> None:
    """A leader's fallback may have made it."""
    metrics.use([MODEL, "stand-in"], ["chat.core"], {})
    metrics.observe(make(attempted=False, cache="coalesced", given=Target("openai", "stand-in"), cost_usd=0.0))
    labels = {"pin": "chat.core", "variant": "stable", "dialect": "openai", "code": "2xx", "error": ""}
    assert value(metrics, "sidecar_requests_total", model="stand-in", **labels) == 1


def test_the_tokens_of_every_attempt_count(metrics: Metrics, make: Make) -> None:
    record = make()
    won = record.outcome.attempts[0]
    lost = Attempt(2, Target("openai", MODEL), Cause.HEDGE, 10.1, ended_at=10.2, result=Result.LOST_HEDGE)
    costs = (charge(won, 25, 1024), charge(lost, 25, 1024))
    metrics.observe(make(outcome=Outcome((won, lost), won, None, 200), charges=costs))
    usage, unseen = "gen_ai_client_token_usage_sum", GENAI | {"gen_ai_response_model": "none"}
    assert value(metrics, usage, gen_ai_token_type="output", **GENAI) == 50
    assert value(metrics, usage, gen_ai_token_type="output", **unseen) == 1024


def test_every_metric_is_explained() -> None:
    text = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
    for row in TABLE:
        shown = f"{row.name}_total" if row.kind is Counter else row.name
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{shown}`")]
        assert [f"`{label}`" in line for label in row.labels] == [True] * len(row.labels), shown
