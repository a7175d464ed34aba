"""What all requests of one process share: the snapshot, the client, the limits, the watchers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Protocol

from sidecar.core.record import Record
from sidecar.errors import Code, Refusal, RefusedError
from sidecar.runtime.body import Buffers, overloaded
from sidecar.runtime.fleet import Fleet
from sidecar.runtime.pinned import Pinned
from sidecar.runtime.upstream import Upstream
from sidecar.runtime.watch import Limit
from sidecar.settings.static import Settings
from sidecar.state import State
from sidecar.telemetry.events import Events
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.spans import SpanIds, Tracing

DRAINING = Refusal(Code.DRAINING, "The sidecar is shutting down.", 1.0, close=True)


class Expirable(Protocol):
    """Something that a shutdown ends from outside: a request's watch, a socket's tunnel."""

    def expire(self, limit: Limit) -> None: ...


class Shared:
    """Built once by `serve`; requests read it and count themselves in and out."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        state: State,
        pinned: Pinned,
        upstream: Upstream,
        metrics: Metrics,
        events: Events,
        tracing: Tracing | None,
    ) -> None:
        self.loop = loop
        self.new_id = _ids().__next__
        self.now = time.monotonic  # uvloop's own clock counts whole milliseconds
        self.settings = settings
        self.state = state
        self.pinned = pinned
        self.upstream = upstream
        self.metrics = metrics
        self.events = events
        self.tracing = tracing
        self.fleet: Fleet | None = None  # set by `serve`, where one is configured
        self.buffers = Buffers(settings.limits.buffered)
        self.dialects = {p.name: p.dialect for p in settings.providers.values()}
        self.watches: set[Expirable] = set()
        self.in_flight = 0
        self.last_request_at = self.now()
        self.draining = False

    def arrived(self, now: float) -> None:
        self.in_flight += 1
        self.last_request_at = now

    def left(self) -> None:
        self.in_flight -= 1
        self.last_request_at = self.now()

    def admit_one(self) -> None:
        """Raises RefusedError where no further request is taken on."""
        if self.draining:
            raise RefusedError(DRAINING)
        limit = self.settings.limits.in_flight
        if self.in_flight > limit and self.in_flight - self.state.flights.waiting > limit:  # who waits asks nobody
            raise overloaded("requests in flight")

    def stop(self) -> None:
        """The drain is over: what still waits or streams is ended, new requests are refused."""
        self.draining = True
        for watch in tuple(self.watches):
            watch.expire(Limit.DRAIN)

    def publish(self, record: Record, span: SpanIds | None) -> None:
        """Events and metrics of a finished request."""
        x = record.exchange
        self.state.recent.add(x.id, x.pin, x.variant, self.now())
        self.metrics.observe(record)
        self.events.request(record)
        if self.tracing is not None and span is not None:
            self.tracing.finish(record, span)


def _ids() -> Iterator[str]:
    """Ids of requests, from chance that is fetched for many at once."""
    while True:
        chance = os.urandom(12 * 256).hex()
        for at in range(0, len(chance), 24):
            yield "req_" + chance[at : at + 24]
