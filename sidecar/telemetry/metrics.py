"""Metrics in Prometheus form: projections of finished records, plus a few gauges that are read when scraped.

Decides names, help texts, labels and label values. Every label value comes from the pin file, the settings or a set
fixed in the code; a name that isn't catalogued is `other`, no name at all is `none`. So a client can't add series.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics

from sidecar.core.facts import Attempt, Cause, Exchange, Fault, Result, Target, Usage
from sidecar.core.record import Record
from sidecar.dialects.registry import DIALECTS
from sidecar.errors import Code
from sidecar.settings.pins import Pins
from sidecar.state import State
from sidecar.telemetry.drift import drifted
from sidecar.telemetry.families import Counted, Family, Sinks
from sidecar.telemetry.levels import READ, Levels
from sidecar.telemetry.table import TABLE

OTHER = "other"
NONE = "none"
RELOADS = ("ok", "rollback", "rejected", "unchanged")

_BY_NAME = {row.name: row for row in TABLE}
# Labels whose values come from the pin file: their children go when the catalogue no longer has the value.
_OF_MODELS = frozenset({"model", "gen_ai_request_model", "gen_ai_response_model"})
_OF_NAMES = frozenset({"pin", "gen_ai_original_model"})
_OF_VARIANTS = frozenset({"variant", "sidecar_variant"})
_CODES = frozenset(str(code) for code in Code)
_ERRORS = _CODES | {str(fault) for fault in Fault}
_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_PROVIDERS = {"gemini": "gcp.gemini"}  # where OTel's name for a provider isn't the dialect's


_READ_AT_SCRAPE: dict[str, Callable[[Counted], int]] = {
    "sidecar_events_dropped": lambda sink: sink.dropped,
    "sidecar_sink_errors": lambda sink: sink.errors,
}
_HEDGES = {Result.OK: "won", Result.LOST_HEDGE: "lost", Result.FAILED: "failed", Result.CLIENT_GONE: "client_gone"}
CACHE = ("hit", "miss", "coalesced", "bypass", "off")
DRILLS = ("ok", "failed")


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        self.registry = CollectorRegistry()
        read = {*_READ_AT_SCRAPE, *READ}
        self._of = {r.name: Family(r, self.registry) for r in TABLE if r.name not in read}
        self._sinks = Sinks(_BY_NAME, _READ_AT_SCRAPE)
        self.registry.register(self._sinks)
        self._state = Levels({name: _BY_NAME[name] for name in READ})
        self.registry.register(self._state)
        self._models: AbstractSet[str] = frozenset()
        self._names: AbstractSet[str] = frozenset()
        self._variants: AbstractSet[str] | None = None
        self._of["sidecar_build_info"].at(version).set(1)
        for result in RELOADS:
            self._of["sidecar_pins_reloads"].at(result)
        for code in sorted(_CODES):
            self._of["sidecar_refused"].at(code)
        for outcome in (*_HEDGES.values(), "vetoed"):
            self._of["sidecar_hedges"].at(outcome)
        for result in DRILLS:
            self._of["sidecar_drills"].at(result)
        for dialect in DIALECTS:
            self._of["sidecar_unlisted"].at(dialect)
        self._bind()

    def _bind(self) -> None:
        of = self._of
        self._tokens = of["gen_ai_client_token_usage"].at
        self._duration = of["gen_ai_server_request_duration_seconds"].at
        self._ttft = of["gen_ai_server_time_to_first_token_seconds"].at
        self._per_token = of["gen_ai_server_time_per_output_token_seconds"].at
        self._requests = of["sidecar_requests"].at
        self._attempts = of["sidecar_attempts"].at
        self._arms = of["sidecar_variant_attempts"].at
        self._cached = of["sidecar_cache_requests"].at
        self._overhead = of["sidecar_overhead_seconds"].metric.observe

    # What the pin file says

    def use(
        self,
        models: Iterable[str],
        names: Iterable[str],
        retires: Mapping[str, float],
        variants: Iterable[str] | None = None,
    ) -> None:
        """Take a new catalogue: the ids of its models, every name an app may use, retirement as seconds of the epoch.

        Series of models, names and variants that it no longer has are dropped. Without `variants` a variant's name
        is taken from the record as it is. What is rare starts at 0: a counter that appears as 1 hasn't risen.
        """
        self._models = frozenset(models)
        self._names = frozenset(names)
        fixed = {OTHER, NONE}
        allowed: dict[str, AbstractSet[str]] = dict.fromkeys(_OF_MODELS, self._models | fixed)
        allowed.update(dict.fromkeys(_OF_NAMES, self._names | fixed))
        if variants is not None:
            self._variants = frozenset(variants) | {"stable"}
            allowed.update(dict.fromkeys(_OF_VARIANTS, self._variants | fixed))
        for family in self._of.values():
            family.keep(allowed)
        gauge = self._of["sidecar_model_retires_timestamp_seconds"]
        gauge.keep({"model": frozenset(retires)})
        for model, at in retires.items():
            if model in self._models:
                gauge.at(model).set(at)
        for model in self._models:
            self._of["sidecar_model_drift"].at(model)

    def pins(self, generation: str, sha256: str, *, at: float | None = None, degraded: bool = False) -> None:
        """The snapshot that is in use from now on; `at` (epoch, now by default) only moves with a successful load."""
        info = self._of["sidecar_pins_info"]
        info.keep({"generation": frozenset()})
        info.at(generation, sha256).set(1)
        self._of["sidecar_pins_last_success_timestamp_seconds"].metric.set(time.time() if at is None else at)
        self.degraded(degraded)

    def degraded(self, value: bool) -> None:
        """Whether the last good copy stands in for an unusable pin file."""
        self._of["sidecar_pins_degraded"].metric.set(int(value))

    def reload(self, result: str) -> None:
        """A reload ended: ok, rollback, rejected or unchanged."""
        self._of["sidecar_pins_reloads"].at(result if result in RELOADS else OTHER).inc()
        self._of["sidecar_pins_last_reload_successful"].metric.set(int(result != "rejected"))

    # What happens outside of records

    def look(self, state: State, pins: Pins | None, now: float) -> None:
        """Read budgets, breakers and cache, for the next scrape. On the loop's thread: it moves windows on."""
        self._state.look(state, pins, now)

    def drilled(self, pin: str, model: str, ok: bool, at: float) -> None:
        """A drill of this pin's fallback ended; `at` in seconds of the epoch."""
        self._of["sidecar_drills"].at("ok" if ok else "failed").inc()
        if ok and pin in self._names and model in self._models:  # else the file was swapped meanwhile
            self._of["sidecar_drill_last_success_timestamp_seconds"].at(pin, model).set(at)

    def fleet(self, up: bool) -> None:
        """Whether the fleet's server answers. Where no fleet is set, nobody says, and there is no series."""
        self._state.fleet_up = up

    def gauges(
        self,
        *,
        in_flight: Callable[[], float] | None = None,
        connections: Callable[[], float] | None = None,
        buffered_bytes: Callable[[], float] | None = None,
    ) -> None:
        """Functions that are asked at each scrape."""
        for name, read in (
            ("sidecar_in_flight", in_flight),
            ("sidecar_connections", connections),
            ("sidecar_buffered_bytes", buffered_bytes),
        ):
            if read is not None:
                self._of[name].metric.set_function(read)

    def watch(self, *sinks: Counted | None) -> None:
        """Show the drops and errors of these sinks."""
        self._sinks.watched.extend(s for s in sinks if s is not None)

    def refused(self, code: str) -> None:
        """A request refused before it could have a record; `observe` counts the others."""
        self._of["sidecar_refused"].at(code if code in _CODES else OTHER).inc()

    def poisoned(self) -> None:
        """An idle upstream connection brought bytes, and was dropped."""
        self._of["sidecar_poisoned_connections"].metric.inc()

    def feedback(self, success: bool | None) -> None:
        """An app reported an outcome."""
        self._of["sidecar_feedback"].at(NONE if success is None else str(bool(success)).lower()).inc()

    # What a record says

    def observe(self, record: Record) -> None:
        """Count one finished request."""
        x, outcome = record.exchange, record.outcome
        winner, error = outcome.winner, outcome.error
        target = winner.target if winner is not None else record.given or (x.targets[0] if x.targets else None)
        model = self._model(target.model) if target is not None else NONE
        pin, variant = self._name(x), self._variant(x)
        ours = error in _CODES
        code = NONE if outcome.status is None else _CLASSES.get(outcome.status // 100, OTHER)
        label = "" if error is None else error if error is not None and ours else "provider"
        self._requests(pin, variant, model, x.ask.dialect, code, label).inc()
        self._overhead(record.overhead_s)
        for attempt in outcome.attempts:
            asked, result = self._model(attempt.target.model), attempt.result or NONE
            self._attempts(asked, attempt.cause, result).inc()
            self._arms(pin, variant, asked, attempt.cause, result, attempt.fault or "").inc()
        if record.cost_usd:
            self._of["sidecar_cost_usd"].at(pin, variant, model).inc(record.cost_usd)
        self._cached(record.cache if record.cache in CACHE else OTHER).inc()
        if ours or x.pin is None:
            self._rare(x, error, bool(outcome.attempts))
        if x.over_budget:
            self._of["sidecar_over_budget"].at(pin).inc()
        if x.hedge_after_s is not None:
            self._hedges(record)
        if outcome.attempts and target is not None and target.model is not None:
            served = self._served(winner, model)
            self._genai(record, winner, (x.ask.operation, _provider(target), pin, model, served), variant)
            self._tokens_of(record, pin, served)

    def _tokens_of(self, record: Record, pin: str, served: str) -> None:
        """Of every attempt: those that lost or broke off were paid for, too."""
        for attempt, cost in record.priced():
            if cost is None or not (cost.usage.input or cost.usage.output or cost.told(attempt)):
                continue
            seen = served if attempt is record.outcome.winner else NONE
            target = attempt.target
            operation = record.exchange.ask.operation
            self._usage((operation, _provider(target), pin, self._model(target.model), seen), cost.usage)

    def _hedges(self, record: Record) -> None:
        winner = record.outcome.winner
        for attempt in record.outcome.attempts:
            if attempt.cause is Cause.HEDGE and attempt.result is not None:
                won = attempt is winner and attempt.result is not Result.CLIENT_GONE
                self._of["sidecar_hedges"].at("won" if won else _HEDGES[attempt.result]).inc()
        if any(veto.cause is Cause.HEDGE for veto in record.exchange.vetoes):
            self._of["sidecar_hedges"].at("vetoed").inc()

    def _genai(self, record: Record, winner: Attempt | None, genai: tuple[str, ...], variant: str) -> None:
        error = record.outcome.error
        label = "" if error is None else error if error in _ERRORS else OTHER
        self._duration(*genai, variant, label).observe(record.latency_s)
        if winner is None:
            return
        usage = winner.usage
        if record.exchange.ask.stream and winner.first_at is not None:
            if record.ttft_s is not None:
                self._ttft(*genai, variant).observe(record.ttft_s)
            if usage is not None and usage.output > 1 and winner.ended_at is not None and error is None:
                self._per_token(*genai).observe((winner.ended_at - winner.first_at) / (usage.output - 1))

    def _usage(self, genai: tuple[str, ...], usage: Usage) -> None:
        self._tokens(*genai, "input").observe(usage.input)
        self._tokens(*genai, "output").observe(usage.output)
        if usage.cached_input:
            self._tokens(*genai, "cached_input").observe(usage.cached_input)
        if usage.cache_write:
            self._tokens(*genai, "cache_creation_input").observe(usage.cache_write)
        if usage.reasoning:
            self._tokens(*genai, "reasoning").observe(usage.reasoning)

    def _rare(self, x: Exchange, error: str | None, attempted: bool) -> None:
        """What most requests are not: refused, unlisted, untouched."""
        if error is not None and error in _CODES:
            self._of["sidecar_refused"].at(error).inc()
        if x.kind == "unlisted" or error == Code.UNKNOWN_MODEL:
            self._of["sidecar_unlisted"].at(x.ask.dialect).inc()
        elif x.kind == "none" and attempted:
            self._of["sidecar_untouched"].at(x.ask.dialect).inc()

    def _model(self, model: str | None) -> str:
        return NONE if model is None else model if model in self._models else OTHER

    def _name(self, x: Exchange) -> str:
        if x.pin is not None:
            return x.pin if x.pin in self._names else OTHER
        return NONE if x.ask.name is None else OTHER

    def _variant(self, x: Exchange) -> str:
        if x.kind in {"none", "undecided"}:
            return NONE
        return x.variant if self._variants is None or x.variant in self._variants else OTHER

    def _served(self, winner: Attempt | None, model: str) -> str:
        """The model that the answer names, by its catalogued id; counts drift."""
        if winner is None or winner.served is None:
            return NONE
        if not drifted(winner.target.model, winner.served):
            return model
        self._of["sidecar_model_drift"].at(model).inc()
        return self._model(winner.served)

    # What is scraped

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and content type of a scrape, as things stand now. May run in a thread."""
        if "application/openmetrics-text" in accept:
            body: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return text.generate_latest(self.registry), text.CONTENT_TYPE_PLAIN_0_0_4


def _provider(target: Target) -> str:
    return _PROVIDERS.get(target.provider, target.provider)
