"""Policy pins: which catalogued model fits? Filter by dialect, credential, latency, price and context, then prefer.

A fact that the catalogue doesn't state can't satisfy a rule that asks for it. Measured latency replaces the typical
one once there are enough samples; what was used is kept on the exchange, so that the choice can be replayed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

from sidecar.core.facts import Exchange, Outcome, Result
from sidecar.core.policy import Policy
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Model, Pins, Rule
from sidecar.state.credentials import Credentials
from sidecar.state.latency import Latency

_PREFER: dict[str, Callable[[Model, float], float]] = {
    "context": lambda m, _: -(m.context or 0),
    "price": lambda m, _: m.price.input + m.price.output if m.price else math.inf,
    "latency": lambda _, latency_ms: latency_ms,
}


def _in_file_order(model: Model, latency_ms: float) -> float:  # noqa: ARG001
    return 0


class Choice(Policy):
    __slots__ = ("_credentials", "_default", "_latency", "_pins")

    def __init__(self, pins: Pins, default: dict[str, str], credentials: Credentials, latency: Latency) -> None:
        self._pins = pins
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
        addressed = x.ask.provider or self._default.get(x.ask.dialect)
        if x.eligible is None:
            x.eligible = tuple(
                sorted({m.provider for m in self._pins.models.values() if self._usable(m, x, addressed)})
            )
        candidates = [
            m
            for m in self._pins.models.values()
            if m.dialect == x.ask.dialect
            and m.provider in x.eligible
            and (pin.providers is None or m.provider in pin.providers)
        ]
        if x.latencies_ms is None:
            x.latencies_ms = self._latency.measured_ms(m.id for m in candidates)
        fitting = [(m, self._latency_ms(m, x.latencies_ms)) for m in candidates]
        fitting = [(m, latency_ms) for m, latency_ms in fitting if fits(pin.rule, m, latency_ms)]
        if not fitting:
            return Refusal(Code.NO_TARGET, f"No catalogued model fits the policy of `{x.pin}` for {x.ask.dialect}.")
        rank = _PREFER.get(pin.rule.prefer or "", _in_file_order)
        best = min(fitting, key=lambda pair: rank(*pair))  # min keeps the first of equals: file order
        x.chosen = best[0].id
        x.why.append(
            f"policy: best of {len(fitting)} that fit" + (f", by {pin.rule.prefer}" if pin.rule.prefer else "")
        )
        return None

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:  # noqa: ARG002
        won = outcome.winner
        if won is None or won.result is not Result.OK or won.first_at is None:
            return
        if won.target.model is not None and won.target.model in self._pins.models:
            self._latency.observe(won.target.model, won.first_at - won.started_at)

    def _usable(self, model: Model, x: Exchange, addressed: str | None) -> bool:
        if x.ask.provider is not None and model.provider != x.ask.provider:
            return False
        return model.dialect == x.ask.dialect and (
            self._credentials.usable(model.provider, addressed=model.provider == addressed)
        )

    @staticmethod
    def _latency_ms(model: Model, measured: dict[str, int]) -> float:
        typical = model.latency_ms if model.latency_ms is not None else math.inf
        return measured.get(model.id, typical)


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
