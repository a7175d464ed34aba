"""One request as the runtime holds it: where it stands, what was decided, and what is said of it at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp.web_request import BaseRequest

from sidecar.compose import Snapshot
from sidecar.core.answers import Stored
from sidecar.core.charge import Charge, charge
from sidecar.core.facts import Ask, Attempt, Exchange, Outcome, Result, Target
from sidecar.core.race import Race
from sidecar.core.record import Record
from sidecar.dialects.base import Dialect, Draft, Route
from sidecar.errors import Refusal
from sidecar.runtime.body import Held
from sidecar.settings.pins import Model
from sidecar.settings.prices import cost_usd
from sidecar.state.sizes import Sizes
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
    models: dict[str, str] = field(default_factory=dict)  # name asked for → id to send
    head: bytes = b""  # the beginning of a body that streams through, where it was looked at
    upload_refusal: Refusal | None = None  # what was wrong with a body that streamed through
    read_at: float = 0.0  # the request was read
    launched_at: float | None = None
    answered_at: float | None = None  # the answer's first useful part (or all of it) was read
    first_sent_at: float | None = None
    race: Race | None = None
    answer: Attempt | None = None  # whose answer the client gets
    stored: Stored | None = None  # the answer that was given again: from the cache, or another request's
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
        if x.pin is not None:
            shown = self.answer or (attempts[0] if attempts else None)
            target = shown.target if shown is not None else next(iter(x.targets), None)
            if target is not None:
                model = self.stored.model if self.stored is not None else target.model or ""
                headers.append(("x-sidecar-model", model))
            headers += [
                ("x-sidecar-pin", x.pin),
                ("x-sidecar-variant", x.variant),
                ("x-sidecar-cache", x.cache),
                ("x-sidecar-attempts", str(len(attempts))),
            ]
        if len(attempts) > 1 and (self.refusal is not None or (self.status or 0) >= 400):
            headers.append(("x-should-retry", "false"))
        if self.request.headers.get("x-sidecar-explain") == "1":
            headers.append(("x-sidecar-why", "; ".join([*x.why, *raced(x)])[:1024]))
        return headers

    def forget_body(self) -> None:
        """Once it is over. Body and ask hold each other, so they would stay until the garbage collector came."""
        if self.draft is not None:
            self.draft.ask.identity = self.draft.ask.prompt = None

    def outcome(self, error: str | None) -> Outcome:
        """What it came to, once it is over."""
        attempts = tuple(self.race.attempts) if self.race is not None else ()
        winner = self.race.winner if self.race is not None else None
        return Outcome(attempts, winner, error, None if self.client_gone and not self.first_sent_at else self.status)

    def record(self, now: float, outcome: Outcome, sizes: Sizes) -> Record:
        """The frozen record of this request. Call it once, when it is over."""
        assert self.snapshot is not None
        assert self.exchange is not None
        x, pins, stored, winner = self.exchange, self.snapshot.pins, self.stored, outcome.winner
        costs = charges(x, pins.models, sizes)
        ttft_s = winner.first_at - winner.started_at if winner is not None and winner.first_at is not None else None
        return Record(  # by position: names take as long again
            self.ts,
            x,
            outcome,
            pins.shown,
            pins.sha256,
            tuple(sorted(pins.stopped)) if pins.stopped else (),
            now - self.arrived_at,
            ttft_s,
            self._overhead_s(now),
            total_cost_usd(outcome.attempts, costs, pins.models),
            x.cache,
            costs,
            Target(stored.provider, stored.model or None) if stored is not None else None,
            stored.usage if stored is not None else None,
        )

    def _overhead_s(self, now: float) -> float:
        """Time that was ours: from the request read to the launch, and from the answer read to its first byte sent."""
        deciding = (self.launched_at or now) - (self.read_at or self.arrived_at)
        sending = self.first_sent_at - self.answered_at if self.first_sent_at and self.answered_at else 0.0
        return max(0.0, deciding) + max(0.0, sending)


def raced(x: Exchange) -> Iterator[str]:
    """The attempts in words, where there was more than one: `retry gpt-x: overload`. Never an unlisted name."""
    for attempt in x.attempts if len(x.attempts) > 1 else ():
        ended = attempt.fault or (attempt.result if attempt.result is Result.LOST_HEDGE else None)
        where = attempt.target.model if x.chosen is not None else attempt.target.provider
        yield f"{attempt.cause} {where}" + (f": {ended}" if ended else "")


def charges(x: Exchange, models: Mapping[str, Model], sizes: Sizes) -> list[Charge | None]:
    """What each attempt cost, with or without a budget; None for what tells no tokens and isn't known to have any."""
    return [_charge(attempt, x, models, sizes) for attempt in x.attempts]


def _charge(attempt: Attempt, x: Exchange, models: Mapping[str, Model], sizes: Sizes) -> Charge | None:
    usage, reserved = attempt.usage, attempt.reserved
    if attempt.result is Result.OK and usage is not None and not usage.odd:
        return Charge(usage, kept=False)  # as told: no estimate is asked for
    if reserved is None:
        model = models.get(attempt.target.model or "")
        if x.ask.generates and model is not None:
            reserved = sizes.expected(model, x)
        elif usage is None and attempt.result is not Result.FAILED:
            return None  # a lookup, an upload, a model whose sizes nobody knows
    return charge(attempt, *(reserved or (0, 0)))


def total_cost_usd(
    attempts: tuple[Attempt, ...], costs: Sequence[Charge | None], models: Mapping[str, Model]
) -> float | None:
    """What the attempts cost together; None where a price or a usage is unknown. 0 where nothing was sent."""
    total = 0.0
    for attempt, cost in zip(attempts, costs, strict=True):
        if cost is None:
            return None
        if cost.usage.input or cost.usage.output:
            usd = cost_usd(cost.usage, models.get(attempt.target.model or ""))
            if usd is None:
                return None
            total += usd
    return total
