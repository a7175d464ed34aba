"""One request as the runtime holds it: where it stands, what was decided, and what is said of it at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp.web_request import BaseRequest

from sidecar.compose import Snapshot
from sidecar.core.facts import Ask, Attempt, Exchange, Outcome, Usage
from sidecar.core.race import Race
from sidecar.core.record import Record
from sidecar.dialects.base import Dialect, Draft, Route
from sidecar.errors import Refusal
from sidecar.runtime.body import Held
from sidecar.settings.pins import Model
from sidecar.telemetry.spans import SpanIds


@dataclass(slots=True, repr=False)  # the request's path and headers may hold a key
class Call:
    """Filled from top to bottom as the request goes on; times are the loop's."""

    request: BaseRequest
    id: str
    ts: float
    arrived_at: float
    held: Held
    dialect: Dialect
    snapshot: Snapshot | None = None
    route: Route | None = None
    draft: Draft | None = None
    exchange: Exchange | None = None
    models: Mapping[str, str] = field(default_factory=dict)  # name asked for → id to send
    head: bytes = b""  # the beginning of a body that streams through, where it was looked at
    upload_refusal: Refusal | None = None  # what was wrong with a body that streamed through
    read_at: float = 0.0  # the request was read
    launched_at: float | None = None
    answered_at: float | None = None  # the answer's first useful part (or all of it) was read
    first_sent_at: float | None = None
    race: Race | None = None
    refusal: Refusal | None = None
    status: int | None = None  # what the client was sent
    client_gone: bool = False
    span: SpanIds | None = None
    traceparent: str | None = None  # ours, sent upstream, if spans are made

    @property
    def ask(self) -> Ask:
        if self.exchange is not None:
            return self.exchange.ask
        return Ask(dialect=self.dialect.NAME)

    def sent_first(self, now: float) -> None:
        """The first byte of the answer's body was handed to the client's socket."""
        if self.first_sent_at is None:
            self.first_sent_at = now

    def says(self) -> list[tuple[str, str]]:
        """Our headers of the answer (DESIGN 3.4)."""
        headers = [("x-sidecar-request-id", self.id)]
        generation = self.snapshot.pins.label if self.snapshot is not None else "none"
        headers.append(("x-sidecar-generation", generation))
        x = self.exchange
        if x is None:
            return headers
        attempts = self.race.attempts if self.race is not None else []
        if x.pin is not None and x.targets:
            target = attempts[-1].target if attempts else x.targets[0]
            headers += [
                ("x-sidecar-model", target.model or ""),
                ("x-sidecar-pin", x.pin),
                ("x-sidecar-variant", x.variant),
                ("x-sidecar-cache", "off"),
                ("x-sidecar-attempts", str(len(attempts))),
            ]
        if len(attempts) > 1 and self.refusal is not None:
            headers.append(("x-should-retry", "false"))
        if self.request.headers.get("x-sidecar-explain") == "1":
            headers.append(("x-sidecar-why", "; ".join(x.why)[:1024]))
        return headers

    def outcome(self, error: str | None) -> Outcome:
        """What it came to, once it is over."""
        attempts = tuple(self.race.attempts) if self.race is not None else ()
        winner = self.race.winner if self.race is not None else None
        return Outcome(attempts, winner, error, None if self.client_gone and not self.first_sent_at else self.status)

    def record(self, now: float, outcome: Outcome) -> Record:
        """The frozen record of this request. Call it once, when it is over."""
        assert self.snapshot is not None
        assert self.exchange is not None
        winner = outcome.winner
        pins = self.snapshot.pins
        return Record(
            ts=self.ts,
            exchange=self.exchange,
            outcome=outcome,
            generation=pins.shown,
            sha256=pins.sha256,
            stopped=tuple(sorted(pins.stopped)),
            latency_s=now - self.arrived_at,
            ttft_s=winner.first_at - winner.started_at if winner is not None and winner.first_at is not None else None,
            overhead_s=self._overhead_s(now),
            cost_usd=total_cost_usd(outcome.attempts, pins.models),
            traceparent=self.request.headers.get("traceparent"),
        )

    def _overhead_s(self, now: float) -> float:
        """Time that was ours: from the request read to the launch, and from the answer read to its first byte sent."""
        deciding = (self.launched_at or now) - (self.read_at or self.arrived_at)
        sending = self.first_sent_at - self.answered_at if self.first_sent_at and self.answered_at else 0.0
        return max(0.0, deciding) + max(0.0, sending)


def total_cost_usd(attempts: tuple[Attempt, ...], models: Mapping[str, Model]) -> float | None:
    """What the attempts cost together; None where a price or a usage is unknown."""
    costs = [cost_usd(a.usage, models.get(a.target.model or "")) for a in attempts if a.usage is not None]
    known = [c for c in costs if c is not None]
    return sum(known) if known and len(known) == len(costs) else None


def cost_usd(usage: Usage, model: Model | None) -> float | None:
    """USD of one usage. Cached input and cache writes are part of `input` (see Usage) and priced by themselves."""
    price = model.price if model is not None else None
    if price is None:
        return None
    cached_price = price.cached_input if price.cached_input is not None else price.input
    write_price = price.cache_write if price.cache_write is not None else price.input
    plain = max(0, usage.input - usage.cached_input - usage.cache_write)
    return (
        plain * price.input
        + usage.cached_input * cached_price
        + usage.cache_write * write_price
        + usage.output * price.output
    ) / 1e6
