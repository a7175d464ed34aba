"""Metrics in Prometheus form: projections of finished records, plus a few gauges that are read when scraped.

Decides what is counted beside requests (those: `counting.py`), and what a new pin file does to the series. Names and
help texts are in `table.py`. Every label value comes from the pin file, the settings or a set fixed in the code; a name
that isn't catalogued is `other`, no name at all is `none`. So a client can't add series.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS

from sidecar.core.record import Record
from sidecar.dialects.registry import DIALECTS
from sidecar.settings.pins import Pins
from sidecar.state import State
from sidecar.telemetry.batch import Batch, Later
from sidecar.telemetry.counting import CODES, HEDGES, NONE, OTHER, Counting
from sidecar.telemetry.exposition import pieces
from sidecar.telemetry.families import Counted, Family, Sinks
from sidecar.telemetry.levels import READ, Levels
from sidecar.telemetry.table import TABLE

RELOADS = ("ok", "rollback", "rejected", "unchanged")

_BY_NAME = {row.name: row for row in TABLE}
# Labels whose values come from the pin file: their children go when the catalogue no longer has the value.
_OF_MODELS = frozenset({"model", "gen_ai_request_model", "gen_ai_response_model"})
_OF_NAMES = frozenset({"pin", "gen_ai_original_model"})
_OF_VARIANTS = frozenset({"variant", "sidecar_variant"})

_READ_AT_SCRAPE: dict[str, Callable[[Counted], int]] = {
    "sidecar_events_dropped": lambda sink: sink.dropped,
    "sidecar_sink_errors": lambda sink: sink.errors,
}
DRILLS = ("ok", "failed")


class Metrics:
    """All metrics of one process, in a registry of their own. With `later` records may wait for others (`batch.py`)."""

    def __init__(self, version: str, later: Later | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        self._registry = CollectorRegistry()
        read = {*_READ_AT_SCRAPE, *READ}
        self._of = {r.name: Family(r, self._registry) for r in TABLE if r.name not in read}
        self._sinks = Sinks(_BY_NAME, _READ_AT_SCRAPE)
        self._registry.register(self._sinks)
        self._state = Levels({name: _BY_NAME[name] for name in READ})
        self._registry.register(self._state)
        self._counting = Counting(self._of)
        self._batch = Batch(self._counting.count, later)
        self._of["sidecar_build_info"].at(version).set(1)
        for result in RELOADS:
            self._of["sidecar_pins_reloads"].at(result)
        for code in sorted(CODES):
            self._of["sidecar_refused"].at(code)
        for outcome in (*HEDGES.values(), "vetoed"):
            self._of["sidecar_hedges"].at(outcome)
        for result in DRILLS:
            self._of["sidecar_drills"].at(result)
        for dialect in DIALECTS:
            self._of["sidecar_unlisted"].at(dialect)

    @property
    def registry(self) -> CollectorRegistry:
        """With all that has finished counted."""
        self._batch.flush()
        return self._registry

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
        self._batch.flush()  # by the catalogue that they ran under
        used, named = frozenset(models), frozenset(names)
        arms = frozenset(variants) | {"stable"} if variants is not None else self._counting.variants
        self._counting.use(used, named, arms)
        fixed = {OTHER, NONE}
        allowed: dict[str, AbstractSet[str]] = dict.fromkeys(_OF_MODELS, used | fixed)
        allowed.update(dict.fromkeys(_OF_NAMES, named | fixed))
        if variants is not None and arms is not None:
            allowed.update(dict.fromkeys(_OF_VARIANTS, arms | fixed))
        for family in self._of.values():
            family.keep(allowed)
        gauge = self._of["sidecar_model_retires_timestamp_seconds"]
        gauge.keep({"model": frozenset(retires)})
        for model, at in retires.items():
            if model in used:
                gauge.at(model).set(at)
        for model in used:
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
        for _ in self.looking(state, pins, now):
            pass

    def looking(self, state: State, pins: Pins | None, now: float) -> Iterator[None]:
        """The same, a little at each step."""
        return self._state.look(state, pins, now)

    def drilled(self, pin: str, model: str, ok: bool, at: float) -> None:
        """A drill of this pin's fallback ended; `at` in seconds of the epoch."""
        self._of["sidecar_drills"].at("ok" if ok else "failed").inc()
        if ok and pin in self._counting.names and model in self._counting.models:  # else the file was swapped meanwhile
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
        self._of["sidecar_refused"].at(code if code in CODES else OTHER).inc()

    def poisoned(self) -> None:
        """An idle upstream connection brought bytes, and was dropped."""
        self._of["sidecar_poisoned_connections"].metric.inc()

    def feedback(self, success: bool | None) -> None:
        """An app reported an outcome."""
        self._of["sidecar_feedback"].at(NONE if success is None else str(bool(success)).lower()).inc()

    # What a record says

    def observe(self, record: Record) -> None:
        """Count one finished request, soon."""
        self._batch.add(record)

    # What is scraped

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and content type of a scrape, as things stand now. May run in any thread."""
        found, kind = self.scrape(accept)
        return "".join(found).encode(), kind

    def scrape(self, accept: str = "") -> tuple[Iterator[str], str]:
        """The same body in pieces, each as things stand when it is asked for."""
        self._batch.flush()
        openmetrics = "application/openmetrics-text" in accept
        families = chain((family.shown() for family in self._of.values()), self._sinks.shown(), self._state.shown())
        kind = CONTENT_TYPE_OPENMETRICS if openmetrics else CONTENT_TYPE_PLAIN_0_0_4
        return pieces(families, openmetrics=openmetrics), kind
