"""What a finished request counts in.

Decides the label values, and which metrics a record adds to. Requests that are alike in all their labels share a
`Series`, which holds the children they count in: finding each of a dozen by its labels takes longer than counting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from sidecar.core.facts import Attempt, Cause, Exchange, Fault, Result, Target, Usage
from sidecar.core.record import Record
from sidecar.errors import Code
from sidecar.telemetry.drift import drifted
from sidecar.telemetry.families import Family, Number

OTHER = "other"
NONE = "none"
CODES = frozenset(str(code) for code in Code)
CACHE = ("hit", "miss", "coalesced", "bypass", "off")
HEDGES = {Result.OK: "won", Result.LOST_HEDGE: "lost", Result.FAILED: "failed", Result.CLIENT_GONE: "client_gone"}

_ERRORS = CODES | {str(fault) for fault in Fault}
_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_PROVIDERS = {"gemini": "gcp.gemini"}  # where OTel's name for a provider isn't the dialect's
_MOST_SERIES = 4096  # kept at hand; they are found again when all have been let go
_MOST_NAME = 128  # characters of a model that a provider says it used: with a longer one it isn't kept


class Labels(NamedTuple):
    """Of a request, each value from the pin file, the settings or a set fixed in the code."""

    pin: str
    variant: str
    model: str
    dialect: str
    code: str  # class of the status
    error: str
    error_type: str
    cache: str
    genai: tuple[str, ...]  # those of the GenAI conventions; none without a model


def _tokens(kind: str) -> tuple[str, Callable[[Labels], tuple[str, ...]]]:
    return "gen_ai_client_token_usage", lambda of: (*of.genai, kind)


# A child's name in `Series` → its metric, and its label values in the order of the metric's row.
_CHILDREN: dict[str, tuple[str, Callable[[Labels], tuple[str, ...]]]] = {
    "requests": ("sidecar_requests", lambda of: (of.pin, of.variant, of.model, of.dialect, of.code, of.error)),
    "cached": ("sidecar_cache_requests", lambda of: (of.cache,)),
    "cost": ("sidecar_cost_usd", lambda of: (of.pin, of.variant, of.model)),
    "drift": ("sidecar_model_drift", lambda of: (of.model,)),
    "duration": ("gen_ai_server_request_duration_seconds", lambda of: (*of.genai, of.variant, of.error_type)),
    "ttft": ("gen_ai_server_time_to_first_token_seconds", lambda of: (*of.genai, of.variant)),
    "per_token": ("gen_ai_server_time_per_output_token_seconds", lambda of: of.genai),
    "input": _tokens("input"),
    "output": _tokens("output"),
    "cached_input": _tokens("cached_input"),
    "cache_creation_input": _tokens("cache_creation_input"),
    "reasoning": _tokens("reasoning"),
}


class Series:
    """The children that requests with the same labels count in, each an attribute that is found when first asked for.

    Not before: a series must not appear until something has counted in it.
    """

    __slots__ = (*_CHILDREN, "_families", "arms", "drifts", "labels", "rare")

    def __init__(
        self, families: Mapping[str, Family], labels: Labels, *, drifts: bool = False, rare: bool = False
    ) -> None:
        """`drifts`: another model answered than was asked for. `rare`: refused, unlisted or untouched, perhaps."""
        self._families = families
        self.labels = labels
        self.drifts = drifts
        self.rare = rare
        self.arms: dict[tuple[Any, ...], tuple[Number, Number]] = {}  # of attempts alike, by model and by variant

    def __getattr__(self, name: str) -> Any:
        if name not in _CHILDREN:
            raise AttributeError(name)
        metric, labels = _CHILDREN[name]
        child = self._families[metric].children[labels(self.labels)]
        setattr(self, name, child)
        return child


class Counting:
    """Counts records in `families`, the metrics by their names."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self.models: AbstractSet[str] = frozenset()
        self.names: AbstractSet[str] = frozenset()
        self.variants: AbstractSet[str] | None = None
        self._families = families
        self._overhead = families["sidecar_overhead_seconds"].metric
        self._attempts = families["sidecar_attempts"].children
        self._arms = families["sidecar_variant_attempts"].children
        self._hedges = families["sidecar_hedges"].children
        self._series: dict[tuple[Any, ...], Series] = {}

    def use(self, models: AbstractSet[str], names: AbstractSet[str], variants: AbstractSet[str] | None) -> None:
        """Take a new catalogue: what may be a label's value. Where `variants` is None any name of one may."""
        self.models, self.names, self.variants = models, names, variants
        self._series.clear()

    def count(self, record: Record) -> None:
        """Count one finished request."""
        x, outcome = record.exchange, record.outcome
        attempts = outcome.attempts
        series = self._find(record)
        series.requests.inc()
        series.cached.inc()
        self._overhead.observe(record.overhead_s)
        for attempt in attempts:
            alike = attempt.target, attempt.cause, attempt.result, attempt.fault
            total, arm = series.arms.get(alike) or self._arm(series, alike)
            total.inc()
            arm.inc()
        if record.cost_usd:
            series.cost.inc(record.cost_usd)
        if series.rare:
            self._rare(x, outcome.error, bool(attempts))
        if x.over_budget:
            self._families["sidecar_over_budget"].at(series.labels.pin).inc()
        if x.hedge_after_s is not None:
            self._hedged(record)
        if attempts and series.labels.genai:
            if series.drifts:
                series.drift.inc()
            self._times(record, series)
            self._tokens(record, series)

    def _times(self, record: Record, series: Series) -> None:
        series.duration.observe(record.latency_s)
        winner = record.outcome.winner
        if winner is None or winner.first_at is None or not record.exchange.ask.stream:
            return
        if record.ttft_s is not None:
            series.ttft.observe(record.ttft_s)
        usage = winner.usage
        if usage is not None and usage.output > 1 and winner.ended_at is not None and record.outcome.error is None:
            series.per_token.observe((winner.ended_at - winner.first_at) / (usage.output - 1))

    def _tokens(self, record: Record, series: Series) -> None:
        """Of every attempt: those that lost or broke off were paid for, too."""
        winner = record.outcome.winner
        for attempt, cost in record.priced():
            if cost is None or not (cost.usage.input or cost.usage.output or cost.told(attempt)):
                continue
            if attempt is winner:
                _count_usage(series, cost.usage)
                continue
            operation, _, pin, _, _ = series.labels.genai
            genai = operation, _provider(attempt.target), pin, self._model(attempt.target.model), NONE
            _count_usage(Series(self._families, series.labels._replace(genai=genai)), cost.usage)

    def _hedged(self, record: Record) -> None:
        winner = record.outcome.winner
        for attempt in record.outcome.attempts:
            if attempt.cause is Cause.HEDGE and attempt.result is not None:
                won = attempt is winner and attempt.result is not Result.CLIENT_GONE
                self._hedges["won" if won else HEDGES[attempt.result],].inc()
        if any(veto.cause is Cause.HEDGE for veto in record.exchange.vetoes):
            self._hedges["vetoed",].inc()

    def _rare(self, x: Exchange, error: str | None, attempted: bool) -> None:
        """What most requests are not: refused, unlisted, untouched."""
        of = self._families
        if error is not None and error in CODES:
            of["sidecar_refused"].at(error).inc()
        if x.kind == "unlisted" or error == Code.UNKNOWN_MODEL:
            of["sidecar_unlisted"].at(x.ask.dialect).inc()
        elif x.kind == "none" and attempted:
            of["sidecar_untouched"].at(x.ask.dialect).inc()

    # Labels

    def _find(self, record: Record) -> Series:
        """The series of requests like this one. Not kept for names that a client or a provider may invent."""
        x, outcome = record.exchange, record.outcome
        ask, winner = x.ask, outcome.winner
        target = winner.target if winner is not None else record.given or (x.targets[0] if x.targets else None)
        served = winner.served if winner is not None else None
        alike = (
            x.pin, x.kind, x.variant, ask.name is None, ask.dialect, ask.operation, target, served, outcome.status,
            outcome.error, record.cache,
        )  # fmt: skip
        series = self._series.get(alike)
        if series is None:
            series = self._build(record, target, winner)
            catalogued = target is None or target.model is None or target.model in self.models
            if catalogued and (x.pin is None or x.pin in self.names) and len(served or "") <= _MOST_NAME:
                if len(self._series) >= _MOST_SERIES:
                    self._series.clear()
                self._series[alike] = series
        return series

    def _build(self, record: Record, target: Target | None, winner: Attempt | None) -> Series:
        x, status, error = record.exchange, record.outcome.status, record.outcome.error
        pin, model, drifts = self._name(x), NONE if target is None else self._model(target.model), False
        genai: tuple[str, ...] = ()
        if target is not None and target.model is not None:
            answered = NONE
            if winner is not None and winner.served is not None:
                drifts = drifted(target.model, winner.served)
                answered = self._model(winner.served) if drifts else model
            genai = x.ask.operation, _provider(target), pin, model, answered
        labels = Labels(
            pin=pin,
            variant=self._variant(x),
            model=model,
            dialect=x.ask.dialect,
            code=NONE if status is None else _CLASSES.get(status // 100, OTHER),
            error="" if error is None else error if error in CODES else "provider",
            error_type="" if error is None else error if error in _ERRORS else OTHER,
            cache=record.cache if record.cache in CACHE else OTHER,
            genai=genai,
        )
        return Series(self._families, labels, drifts=drifts, rare=x.pin is None or error in CODES)

    def _arm(self, series: Series, alike: tuple[Target, Cause, Result | None, Fault | None]) -> tuple[Number, Number]:
        """What an attempt counts in: by model, and by variant."""
        target, cause, result, fault = alike
        model, ended = self._model(target.model), result or NONE
        found = (
            self._attempts[model, cause, ended],
            self._arms[series.labels.pin, series.labels.variant, model, cause, ended, fault or ""],
        )
        series.arms[alike] = found
        return found

    def _model(self, model: str | None) -> str:
        return NONE if model is None else model if model in self.models else OTHER

    def _name(self, x: Exchange) -> str:
        if x.pin is not None:
            return x.pin if x.pin in self.names else OTHER
        return NONE if x.ask.name is None else OTHER

    def _variant(self, x: Exchange) -> str:
        if x.kind in {"none", "undecided"}:
            return NONE
        return x.variant if self.variants is None or x.variant in self.variants else OTHER


def _count_usage(series: Series, usage: Usage) -> None:
    series.input.observe(usage.input)
    series.output.observe(usage.output)
    if usage.cached_input:
        series.cached_input.observe(usage.cached_input)
    if usage.cache_write:
        series.cache_creation_input.observe(usage.cache_write)
    if usage.reasoning:
        series.reasoning.observe(usage.reasoning)


def _provider(target: Target) -> str:
    return _PROVIDERS.get(target.provider, target.provider)
