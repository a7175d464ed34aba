"""What stands in the state, as metrics: budgets, breakers, the cache, shares. Read by `look`, shown by the next scrape.

Decides names and labels. A budget's account is a model or a pin of the file in use, so no client can add one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import Counter, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from sidecar.core.facts import Target
from sidecar.settings.pins import BUCKETS, STABLE, Pin, Pins
from sidecar.state import State
from sidecar.state.ledger import Level
from sidecar.telemetry.families import Row

CIRCUIT = {"closed": 0, "half_open": 1, "open": 2}

_LABELS = ("kind", "name", "limit", "scope")
_OF_UNIT = {"tokens": "tokens", "requests": "requests", "usd": "USD"}


def unit(limit: str) -> str:
    """What a limit counts: tokens, requests or usd."""
    return "usd" if limit.startswith("usd") else "requests" if limit.startswith("requests") else "tokens"


def budget_rows() -> tuple[Row, ...]:
    """`kind` is model or pin, `name` its name, `limit` the key of the pin file, `scope` pod or fleet."""
    rows = []
    for name, words in _OF_UNIT.items():
        used = f"{words} used in this window, with those set aside and with debt; of a fleet's budget by this pod."
        rows.append(Row(Gauge, f"sidecar_budget_{name}_used", used[0].upper() + used[1:], _LABELS))
        rows.append(Row(Gauge, f"sidecar_budget_{name}_limit", f"The whole limit, in {words}.", _LABELS))
    refused = "Reservations that didn't fit: refused requests, and further attempts that weren't launched."
    rows.append(Row(Counter, "sidecar_budget_refused", refused, _LABELS))
    return tuple(rows)


READ = (
    "sidecar_cache_bytes",
    "sidecar_cache_evicted",
    "sidecar_circuit_state",
    "sidecar_pin_share",
    "sidecar_fleet_up",
    *(row.name for row in budget_rows()),
)
"""The metrics that are read of the state."""


def shares(pin: Pin) -> Iterator[tuple[str, str, float]]:
    """Variant, model and share of each arm of a pin; of none where a rule chooses. A stopped one is no arm anymore."""
    if pin.stable is None:
        return
    for arm in pin.arms:
        yield arm.name, arm.model.id, (arm.end - arm.start) / BUCKETS
    yield STABLE, pin.stable.id, 1 - sum(arm.end - arm.start for arm in pin.arms) / BUCKETS


class Levels:
    """A collector of what was last looked at. `fleet_up` is None where no fleet is set."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows
        self._levels: list[Level] = []
        self._circuits: dict[str, int] = {}
        self._shares: list[tuple[str, str, str, float]] = []
        self._cache_bytes = 0
        self._cache_evicted = 0
        self.fleet_up: bool | None = None

    def look(self, state: State, pins: Pins | None, now: float) -> None:
        """Read it all. Only models with a breaker have a circuit."""
        self._levels = list(state.ledger.levels(now))
        self._cache_bytes, self._cache_evicted = state.answers.bytes_used, state.answers.evicted
        models = pins.models.values() if pins is not None else ()
        named = pins.pins.values() if pins is not None else ()
        self._shares = [(pin.name, *share) for pin in named for share in shares(pin)]
        self._circuits = {
            m.id: CIRCUIT[state.breakers.state(Target(m.provider, m.id), now)]
            for m in models
            if m.source is not None and m.source.breaker is not None
        }

    def collect(self) -> Iterator[Metric]:
        """One family for each row, with or without samples."""
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            name: (CounterMetricFamily if row.kind is Counter else GaugeMetricFamily)(name, row.help, labels=row.labels)
            for name, row in self._rows.items()
        }
        families["sidecar_cache_bytes"].add_metric([], self._cache_bytes)
        families["sidecar_cache_evicted"].add_metric([], self._cache_evicted)
        if self.fleet_up is not None:
            families["sidecar_fleet_up"].add_metric([], int(self.fleet_up))
        for pin, variant, model, share in self._shares:
            families["sidecar_pin_share"].add_metric([pin, variant, model], share)
        for model, value in self._circuits.items():
            families["sidecar_circuit_state"].add_metric([model], value)
        for level in self._levels:
            labels = [*level.account, level.limit, level.scope]
            what = unit(level.limit)
            families[f"sidecar_budget_{what}_used"].add_metric(labels, level.used)
            families[f"sidecar_budget_{what}_limit"].add_metric(labels, level.whole)
            families["sidecar_budget_refused"].add_metric(labels, level.refused)
        yield from families.values()
