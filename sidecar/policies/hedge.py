"""A second attempt beside a slow one: when, where to, and whether it is worth it.

When: after a fixed delay, or after a live quantile of the first target's times, clamped; a quantile says nothing until
there are 50 samples. A first target that fails early launches the hedge at once. At most one for a request.

Where to: the pin's hedge model, or the same target again. Only calls that may be answered twice without doing
something twice; only where the model can hold the request and a credential is there; not away from a provider that the
path names or that holds state which the request refers to. An over-budget request has no money for a copy.

Worth it: if an answer can be expected before the request's deadline. Whether the hedge's target is well, and whether
extra load and money allow it, is for others to veto (`breaker`, `allowance`, `budget`).

What is measured: the winner's time, and for a first target that lost to its hedge the time it had had already. That is
less than it would have taken, but more than the delay, so it counts on the right side of the quantile. Without it the
slow ones would vanish from the samples, the quantile would sink, and hedges would breed hedges. How long a hedge that
lost had run says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Self

from sidecar.core.facts import Attempt, Cause, Exchange, Fault, Outcome, Result, Target
from sidecar.core.policy import Next, Policy
from sidecar.errors import Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Model, Pin
from sidecar.state import State
from sidecar.state.quantiles import Kind

OPERATIONS = frozenset({"chat", "text_completion", "embeddings", "generate_content"})
"""Those that leave nothing behind. Images and sound are no mere copies: their bytes are large and dear."""

DEFAULT_QUANTILE = 0.95

_ANYWHERE = frozenset({Fault.OVERLOAD, Fault.CONNECT, Fault.TIMEOUT, Fault.BROKEN, Fault.STALE})
_ELSEWHERE = _ANYWHERE | {Fault.RATE_LIMIT, Fault.QUOTA, Fault.MODEL_GONE}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a pin says of its hedges. Delays in seconds; `fixed_s` is None where a quantile decides."""

    model: Model | None  # None: the same again
    target: Target | None
    fixed_s: float | None
    quantile: float
    low_s: float
    high_s: float
    room: bool  # for a second attempt at all

    @classmethod
    def of(cls, pin: Pin) -> Self | None:
        """None where it doesn't hedge."""
        spec, model = pin.source.hedge, pin.hedge_model
        if spec is None:
            return None
        after = spec.after
        return cls(
            model=model,
            target=Target(model.provider, model.id) if model is not None else None,
            fixed_s=after.delay_s if after is not None else None,
            quantile=DEFAULT_QUANTILE if after is None or after.quantile is None else after.quantile,
            low_s=0.0 if spec.min is None else spec.min,
            high_s=math.inf if spec.max is None else spec.max,
            room=pin.tries.max_attempts > 1,
        )


class Hedge(Policy):
    __slots__ = ("_models", "_plans", "_state")

    def __init__(self, plans: dict[str | None, _Plan], models: Container[str], state: State) -> None:
        self._plans = plans
        self._models = models
        self._state = state

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        """None where no pin hedges: then nothing is measured either."""
        plans: dict[str | None, _Plan] = {
            name: plan for name, pin in parts.pins.pins.items() if (plan := _Plan.of(pin)) is not None
        }
        return cls(plans, parts.pins.models, parts.state) if plans else None

    def admit(self, x: Exchange, now: float) -> Refusal | None:
        plan = self._plans.get(x.pin)
        if plan is None:
            return None
        if x.hedge_after_s is None and plan.room and _may(x) and self._takes(x, plan.model):
            x.hedge_after_s = plan.fixed_s if plan.fixed_s is not None else self._delay_s(x, plan, now)
        if x.hedge_after_s is not None:
            if x.hedge_least_s is None:
                x.hedge_least_s = self._least_s(x, plan.target or x.targets[0], x.hedge_after_s, now)
            x.why.append(f"hedge after {round(x.hedge_after_s * 1000)} ms")
        return None

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:
        plan = self._plans.get(x.pin)
        if x.hedge_after_s is None or plan is None or attempt.target != x.targets[0]:
            return None
        if any(a.cause is Cause.HEDGE for a in x.attempts):
            return None
        target = plan.target or x.targets[0]
        if not (_slow(attempt) or _failed_early(attempt, target, x.hedge_after_s, now)):
            return None
        if x.deadline - now < (x.hedge_least_s or 0.0):
            return None
        return Next(target, Cause.HEDGE)

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:
        if x.ask.operation not in OPERATIONS:
            return
        kind = _kind(x)
        for attempt in outcome.attempts:
            model = attempt.target.model
            if model is None or model not in self._models:
                continue
            seconds = _measured_s(attempt, kind, won=attempt is outcome.winner)
            if seconds is not None:
                self._state.quantiles.observe(model, kind, seconds, now)

    def _takes(self, x: Exchange, model: Model | None) -> bool:
        """Whether that model can be asked as well: the rules of every target that stands in (`targets`)."""
        first = x.targets[0]
        if model is None or model.id == first.model:
            return True
        if model.provider != first.provider and (x.ask.bound or x.ask.provider is not None):
            return False
        return model.provider in (x.usable or ()) and self._holds(model, x)

    def _holds(self, model: Model, x: Exchange) -> bool:
        cap = x.ask.max_output or 0
        if model.id in x.left_out or (model.max_output is not None and cap > model.max_output):
            return False
        if model.context is None:
            return True
        return self._state.sizes.of(model.id, x) + cap <= model.context

    def _delay_s(self, x: Exchange, plan: _Plan, now: float) -> float | None:
        """By the live quantile. Whole microseconds, so that an event keeps it exactly."""
        model = x.targets[0].model
        measured = None if model is None else self._state.quantiles.quantile(model, _kind(x), plan.quantile, now)
        return None if measured is None else round(min(max(measured, plan.low_s), plan.high_s), 6)

    def _least_s(self, x: Exchange, target: Target, delay_s: float, now: float) -> float:
        """How much time must be left. Twice the median: then most hedges make it."""
        median = None if target.model is None else self._state.quantiles.median(target.model, _kind(x), now)
        return delay_s if median is None else 2 * median


def _may(x: Exchange) -> bool:
    ask = x.ask
    if ask.no_hedge or ask.side_effects or not ask.generates or not ask.repeatable or x.over_budget:
        return False
    return ask.operation in OPERATIONS


def _kind(x: Exchange) -> Kind:
    return "first" if x.ask.stream else "total"


def _slow(attempt: Attempt) -> bool:
    return attempt.result is None and attempt.first_at is None


def _failed_early(attempt: Attempt, target: Target, delay_s: float, now: float) -> bool:
    """To the same target only after what passes by itself, and not against the provider's wish."""
    if attempt.result is not Result.FAILED or now >= attempt.started_at + delay_s:
        return False
    if target != attempt.target:
        return attempt.fault in _ELSEWHERE
    return attempt.fault in _ANYWHERE and attempt.retryable and attempt.retry_after_s is None


def _measured_s(attempt: Attempt, kind: Kind, *, won: bool) -> float | None:
    if attempt.result is Result.LOST_HEDGE and attempt.cause is not Cause.HEDGE:
        end = attempt.ended_at
    elif won and attempt.result is Result.OK:
        # A whole answer is held until it is complete: then `first_at` is its end, without the time its client took.
        end = attempt.first_at if kind == "first" or attempt.first_at is not None else attempt.ended_at
    else:
        return None
    return None if end is None else end - attempt.started_at
