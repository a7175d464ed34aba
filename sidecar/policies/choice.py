"""Policy pins: which catalogued model fits? Filter by dialect, credential, latency, price and context, then prefer.

A fact that the catalogue doesn't state can't satisfy a rule that asks for it. Measured latency replaces the typical
one once there are enough samples; what was used is kept on the exchange, so that the choice can be replayed.

What holds without a measurement is worked out once for all requests that may use the same providers (`_Field`), so a
choice takes as long as there are measured models, however large the catalogue is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from sidecar.core.facts import Exchange, Outcome, Result
from sidecar.core.policy import Policy
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Model, Pin, Pins, Rule
from sidecar.state.credentials import Credentials
from sidecar.state.latency import Latency

_PREFER: dict[str, Callable[[Model, float], float]] = {
    "context": lambda m, _: -(m.context or 0),
    "price": lambda m, _: m.price.input + m.price.output if m.price else math.inf,
    "latency": lambda _, latency_ms: latency_ms,
}


def _in_file_order(model: Model, latency_ms: float) -> float:  # noqa: ARG001
    return 0


def _rank(rule: Rule, model: Model, latency_ms: float) -> float:
    return _PREFER.get(rule.prefer or "", _in_file_order)(model, latency_ms)


@dataclass(frozen=True, slots=True)
class _Field:
    """Which models a rule may choose from, for one dialect and some providers."""

    rule: Rule
    dialect: str
    providers: frozenset[str]
    fitting: tuple[Model, ...]  # with their typical latency, the best first

    def has(self, model: Model) -> bool:
        return model.dialect == self.dialect and model.provider in self.providers


MOST_FIELDS = 128
"""There is one for each policy pin, dialect and set of providers that can be reached."""


class Choice(Policy):
    __slots__ = ("_credentials", "_default", "_fields", "_latency", "_pins", "_places", "_providers")

    def __init__(self, pins: Pins, default: dict[str, str], credentials: Credentials, latency: Latency) -> None:
        self._pins = pins
        self._fields: dict[tuple[str, str, tuple[str, ...]], _Field] = {}
        self._places = {model: place for place, model in enumerate(pins.models)}
        self._providers: dict[str, list[str]] = {}  # dialect → those that have a model
        for provider, dialect in sorted({(m.provider, m.dialect) for m in pins.models.values()}):
            self._providers.setdefault(dialect, []).append(provider)
        self._default = default
        self._credentials = credentials
        self._latency = latency

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        """None where no pin is a policy pin: then nothing is measured either."""
        if not any(p.rule for p in parts.pins.pins.values()):
            return None
        state = parts.state
        return cls(parts.pins, dict(parts.default_provider), state.credentials, state.latency)

    def admit(self, x: Exchange, now: float) -> Refusal | None:  # noqa: ARG002
        pin = self._pins.pin(x.pin)
        if pin is None or pin.rule is None:
            return None
        if x.eligible is None:
            x.eligible = self._eligible(x)
        field = self._field(pin, pin.rule, x.ask.dialect, x.eligible)
        if x.latencies_ms is None:
            measured = self._latency.measured_ms(self._places)
            x.latencies_ms = {m: ms for m, ms in measured.items() if field.has(self._pins.models[m])}
        best, fitting = self._best(field, x.latencies_ms)
        if best is None:
            return Refusal(Code.NO_TARGET, f"No catalogued model fits the policy of `{x.pin}` for {x.ask.dialect}.")
        x.chosen = best.id
        x.why.append(f"policy: best of {fitting} that fit" + (f", by {pin.rule.prefer}" if pin.rule.prefer else ""))
        return None

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:  # noqa: ARG002
        won = outcome.winner
        if won is None or won.result is not Result.OK or won.first_at is None:
            return
        if won.target.model is not None and won.target.model in self._pins.models:
            self._latency.observe(won.target.model, won.first_at - won.started_at)

    def _eligible(self, x: Exchange) -> tuple[str, ...]:
        only, usable = x.ask.provider, self._credentials.usable
        addressed = only or self._default.get(x.ask.dialect)
        providers = self._providers.get(x.ask.dialect, ())
        return tuple([p for p in providers if only in (None, p) and usable(p, addressed=p == addressed)])

    def _field(self, pin: Pin, rule: Rule, dialect: str, eligible: tuple[str, ...]) -> _Field:
        field = self._fields.get((pin.name, dialect, eligible))
        if field is None:
            if len(self._fields) >= MOST_FIELDS:
                self._fields.clear()
            providers = frozenset(eligible) if pin.providers is None else pin.providers.intersection(eligible)
            field = self._drawn(rule, dialect, providers)
            self._fields[pin.name, dialect, eligible] = field
        return field

    def _drawn(self, rule: Rule, dialect: str, providers: frozenset[str]) -> _Field:
        field = _Field(rule, dialect, providers, ())
        fitting = [m for m in self._pins.models.values() if field.has(m) and fits(rule, m, _typical_ms(m))]
        fitting.sort(key=lambda m: _rank(rule, m, _typical_ms(m)))
        return replace(field, fitting=tuple(fitting))

    def _best(self, field: _Field, latencies_ms: Mapping[str, int]) -> tuple[Model | None, int]:
        """The one to choose, and how many fit. Of equals the first in the file is the best."""
        rule, models = field.rule, self._pins.models
        measured = [(models[m], ms) for m, ms in latencies_ms.items() if m in models and field.has(models[m])]
        typical = sum(fits(rule, m, _typical_ms(m)) for m, _ in measured)  # how many would fit, if it counted
        among: list[tuple[Model, float]] = [(m, ms) for m, ms in measured if fits(rule, m, ms)]
        count = len(field.fitting) - typical + len(among)
        first = next((m for m in field.fitting if m.id not in latencies_ms), None)
        if first is not None:
            among.append((first, _typical_ms(first)))
        best = min(among, key=lambda pair: (_rank(rule, *pair), self._places[pair[0].id]), default=(None, 0.0))
        return best[0], count


def _typical_ms(model: Model) -> float:
    return model.latency_ms if model.latency_ms is not None else math.inf


def fits(rule: Rule, model: Model, latency_ms: float) -> bool:
    """Whether a model satisfies a rule; an unstated fact satisfies nothing."""
    price = model.price
    if rule.max_latency_ms is not None and latency_ms > rule.max_latency_ms:
        return False
    if rule.max_input_price is not None and (price is None or price.input > rule.max_input_price):
        return False
    if rule.max_output_price is not None and (price is None or price.output > rule.max_output_price):
        return False
    return rule.min_context is None or (model.context is not None and model.context >= rule.min_context)
