"""What stands in the state, as metrics: budgets, breakers, the cache, shares. Read by `look`, shown by the next scrape.

Decides names and labels. A budget's account is a model or a pin of the file in use, so no client can add one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from prometheus_client import Counter, Gauge
from prometheus_client.metrics_core import Metric

from sidecar.core.facts import Target
from sidecar.settings.pins import BUCKETS, STABLE, Pin, Pins
from sidecar.state import State
from sidecar.state.ledger import Level
from sidecar.telemetry.families import Row, Shown, metric_of

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
    """What was last looked at. `fleet_up` is None where no fleet is set."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows
        self._levels: dict[str, list[Level]] = {what: [] for what in _OF_UNIT}
        self._circuits: dict[str, int] = {}
        self._shares: list[tuple[str, str, str, float]] = []
        self._cache_bytes = 0
        self._cache_evicted = 0
        self.fleet_up: bool | None = None

    def look(self, state: State, pins: Pins | None, now: float) -> Iterator[None]:
        """Read it all; yields after each thing that was read. What was read before is shown until the end."""
        levels: dict[str, list[Level]] = {what: [] for what in _OF_UNIT}
        found: list[tuple[str, str, str, float]] = []
        circuits: dict[str, int] = {}
        for level in state.ledger.levels(now):
            levels[unit(level.limit)].append(level)
            yield
        for pin in pins.pins.values() if pins is not None else ():
            found.extend((pin.name, *share) for share in shares(pin))
            yield
        for model in pins.models.values() if pins is not None else ():
            if model.source is not None and model.source.breaker is not None:
                circuits[model.id] = CIRCUIT[state.breakers.state(Target(model.provider, model.id), now)]
                yield
        self._levels, self._shares, self._circuits = levels, found, circuits
        self._cache_bytes, self._cache_evicted = state.answers.bytes_used, state.answers.evicted

    def shown(self) -> Iterator[Shown]:
        """One family for each row, with or without children."""
        found: dict[str, Iterable[tuple[tuple[str, ...], float]]] = {
            "sidecar_cache_bytes": [((), self._cache_bytes)],
            "sidecar_cache_evicted": [((), self._cache_evicted)],
            "sidecar_fleet_up": [] if self.fleet_up is None else [((), int(self.fleet_up))],
            "sidecar_pin_share": (((pin, variant, model), share) for pin, variant, model, share in self._shares),
            "sidecar_circuit_state": (((model,), value) for model, value in self._circuits.items()),
            "sidecar_budget_refused": (
                (_labels(level), level.refused) for level in chain.from_iterable(self._levels.values())
            ),
        }
        for what, levels in self._levels.items():
            found[f"sidecar_budget_{what}_used"] = ((_labels(level), level.used) for level in levels)
            found[f"sidecar_budget_{what}_limit"] = ((_labels(level), level.whole) for level in levels)
        for name, row in self._rows.items():
            yield Shown(row, found[name])

    def collect(self) -> Iterator[Metric]:
        """The same for the library's registry."""
        yield from map(metric_of, self.shown())


def _labels(level: Level) -> tuple[str, ...]:
    return *level.account, level.limit, level.scope
