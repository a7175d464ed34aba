"""Is there budget for it? Set aside before sending, settled after, for the model of each attempt and for the pin.

* Set aside is an estimate (`state/sizes`): the input, and for each choice the least of the caller's cap, the model's
  `max_output` and the learned 95th percentile of its outputs (1,024 at first).
* The first attempt is decided on at admission: where its budget is spent the pin's `over_budget` model serves if it
  can, else the request is refused. The fallback is for a target that fails, never for one that is spent.
* Each further attempt needs budget of its own, or isn't launched. Each that was sent counts as a request of its model,
  since the provider counts it so; a pin's requests are the app's, so further attempts only add tokens there.
* The `over_budget` model is charged to its own account only: the pin's may be the one that is spent.

Once it is over an attempt costs what `core/charge` says. Not decided here: what fits a model's context (`targets`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Self

from sidecar.core.charge import charge
from sidecar.core.facts import Attempt, Cause, Exchange, Outcome, Purse, Result, Target
from sidecar.core.policy import Policy
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Model, Pin, Pins
from sidecar.settings.prices import cost_usd, highest_usd
from sidecar.settings.schema import BudgetSpec
from sidecar.state import State
from sidecar.state.ledger import Account, Claim, Level, Short
from sidecar.state.limits import counted, fits, named, whole

MENDING = frozenset({Cause.RESEND, Cause.WITHOUT_USAGE})
"""These mend what was our own doing, so they are never refused: without us the app would not have needed them."""
ADMITTED = 0
"""Where the purse of the first attempt lies until it is launched; attempts count from 1."""


class _Need(NamedTuple):
    """What one attempt is expected to use, and of which accounts."""

    model: str
    input: int
    output: int
    usd: float
    claims: tuple[Claim, ...]


_NOTHING = _Need("", 0, 0, 0.0, ())


class Budget(Policy):
    __slots__ = ("_budgets", "_of_model", "_of_pin", "_pins", "_state")

    def __init__(self, pins: Pins, budgets: Mapping[Account, BudgetSpec], state: State) -> None:
        self._pins = pins
        self._budgets = budgets
        self._of_model: dict[str | None, Account] = {a[1]: a for a in budgets if a[0] == "model"}
        self._of_pin: dict[str, Account] = {a[1]: a for a in budgets if a[0] == "pin"}
        self._state = state

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        """None where no budget is set and no context is known, so that no size need be learned either."""
        pins = parts.pins
        budgets: dict[Account, BudgetSpec] = {}
        for model in pins.models.values():
            if model.source is not None and model.source.budget is not None:
                budgets["model", model.id] = model.source.budget
        for pin in pins.pins.values():
            if pin.source.budget is not None:
                budgets["pin", pin.name] = pin.source.budget
        parts.state.ledger.configure(budgets)
        if not budgets and all(model.context is None for model in pins.models.values()):
            return None
        return cls(pins, budgets, parts.state)

    def admit(self, x: Exchange, now: float) -> Refusal | None:
        if not x.ask.generates or not self._budgets:
            return None
        pin = self._pins.pin(x.pin)
        need = self._need(x, x.targets[0], pin, requests=1)
        if not need.claims:
            return None
        replayed = x.budget is not None
        short = self._take(x, need, now, replayed=replayed)
        if short is None:
            return None
        cheaper = self._cheaper(x, pin)
        if cheaper is not None:
            instead = self._need(x, cheaper, None, requests=1)
            if self._take(x, instead, now, replayed=replayed) is None:
                x.targets = (cheaper, *(t for t in x.targets[1:] if t != cheaper))
                x.over_budget = True
                x.why.append(f"budget: {short.account[0]} {short.limit} spent, {cheaper.model} serves")
                return None
        x.why.append(f"budget: {short.account[0]} {short.limit} spent")
        return self._refusal(short, now)

    def enter(self, x: Exchange, attempt: Attempt, now: float) -> bool:
        if attempt.cause is Cause.FIRST:
            if (purse := x.purses.pop(ADMITTED, None)) is not None:
                x.purses[attempt.number] = purse
                attempt.reserved = purse.input, purse.output
            return True
        if not x.ask.generates or not self._budgets:
            return True
        pin = self._pins.pin(x.pin)
        cheaper = x.over_budget and attempt.target == x.targets[0]
        need = self._need(x, attempt.target, None if cheaper else pin, requests=0)
        if not need.claims:
            return True
        hold = self._state.ledger.reserve(need.claims, now, force=attempt.cause in MENDING)
        if isinstance(hold, Short):
            x.why.append(f"budget: no {attempt.cause.value}, {hold.account[0]} {hold.limit} spent")
            return False
        x.purses[attempt.number] = Purse(need.input, need.output, need.usd, hold)
        attempt.reserved = need.input, need.output
        return True

    def leave(self, x: Exchange, attempt: Attempt, now: float) -> None:  # noqa: ARG002
        purse = x.purses.pop(attempt.number, None)
        model = self._pins.models.get(attempt.target.model or "")
        if purse is not None:
            if attempt.result is None:
                purse.hold.release()
            else:
                self._settle(purse, attempt, model)
        if model is None or x.drill or not x.ask.generates:
            return
        if attempt.result is Result.OK and attempt.usage is not None:
            self._state.sizes.learn(model.id, x.ask, attempt.usage)

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:  # noqa: ARG002
        """Admitted, but never launched: all of it back."""
        if (purse := x.purses.pop(ADMITTED, None)) is not None:
            purse.hold.release()

    @staticmethod
    def _settle(purse: Purse, attempt: Attempt, model: Model | None) -> None:
        cost = charge(attempt, purse.input, purse.output)
        usd = cost_usd(cost.usage, model) or 0.0
        usd = max(usd, purse.usd) if cost.kept else usd
        purse.hold.settle(input=cost.usage.input, output=cost.usage.output, usd=usd, sent=cost.sent)

    def _take(self, x: Exchange, need: _Need, now: float, *, replayed: bool) -> Short | None:
        """Set aside what is needed, or say what is short. `x.budget` keeps what a replay decides by instead."""
        if not need.claims:  # a cheaper model that has no budget
            return None
        if replayed:
            return self._replay(need, x.budget or {})
        left = {} if x.budget is None else x.budget
        left[f"model {need.model} input"] = need.input
        left[f"model {need.model} output"] = need.output
        x.budget = left
        hold = self._state.ledger.reserve(need.claims, now, left=left)
        if isinstance(hold, Short):
            return hold
        x.purses[ADMITTED] = Purse(need.input, need.output, need.usd, hold)
        return None

    def _replay(self, need: _Need, budget: Mapping[str, float]) -> Short | None:
        for claim in need.claims:
            spec = self._budgets[claim.account]
            for limit in spec.__struct_fields__:
                left = budget.get(named(claim.account, limit))
                total = None if left is None else whole(spec, limit)
                if left is None or total is None:
                    continue
                if not fits(claim.of(limit), counted(limit, left), total):
                    return Short(claim.account, limit, 1.0)
        return None

    def _need(self, x: Exchange, target: Target, pin: Pin | None, *, requests: int) -> _Need:
        """Of an attempt at that target. `requests`: how many of the pin's it counts as."""
        of_model = self._of_model.get(target.model)
        of_pin = self._of_pin.get(pin.name) if pin is not None else None
        model = self._pins.models.get(target.model or "")
        if (of_model is None and of_pin is None) or model is None:
            return _NOTHING
        tokens, output = self._estimate(x, model)
        usd = highest_usd(model.price, tokens, output)
        claims: list[Claim] = []
        if of_model is not None:
            claims.append(Claim(of_model, 1, tokens, output, usd))
        if of_pin is not None:
            claims.append(Claim(of_pin, requests, tokens, output, usd))
        return _Need(model.id, tokens, output, usd, tuple(claims))

    def _estimate(self, x: Exchange, model: Model) -> tuple[int, int]:
        """Input and output tokens; those that were decided by are kept with what was left."""
        if x.budget:
            tokens, output = x.budget.get(f"model {model.id} input"), x.budget.get(f"model {model.id} output")
            if tokens is not None and output is not None:
                return int(tokens), int(output)
        return self._state.sizes.expected(model, x)

    def _cheaper(self, x: Exchange, pin: Pin | None) -> Target | None:
        """The pin's `over_budget` model, if it can take this request."""
        model = pin.over_budget if pin is not None else None
        if model is None or x.ask.no_fallback or not x.ask.repeatable or model.dialect != x.ask.dialect:
            return None
        first = x.targets[0]
        if model.id == first.model:
            return None
        if model.provider != first.provider:
            if x.ask.bound or x.ask.provider is not None:
                return None
            if model.provider not in (x.usable or ()):
                return None
        cap = x.ask.max_output or 0
        if model.max_output is not None and cap > model.max_output:
            return None
        if model.context is not None and self._state.sizes.of(model.id, x) + cap > model.context:
            return None
        return Target(model.provider, model.id)

    def _refusal(self, short: Short, now: float) -> Refusal:
        kind, name = short.account
        levels = {level.limit: level for level in self._state.ledger.levels(now, [short.account])}
        message = f"The budget of {kind} `{name}` is spent: {short.limit}"
        if (level := levels.get(short.limit)) is not None:
            message += f" {level.whole:g}, of which {max(0.0, level.allowance - level.used):g} are left"
        return Refusal(
            Code.BUDGET_EXCEEDED,
            f"{message}. This request fits again in {math.ceil(short.retry_after_s)} s.",
            retry_after_s=short.retry_after_s,
            headers=rate_limit_headers(levels, short.limit),
        )


def rate_limit_headers(levels: Mapping[str, Level], spent: str) -> tuple[tuple[str, str], ...]:
    """OpenAI's `x-ratelimit-*` for our own limits of one account. Several limits count tokens: the spent one is told.

    https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers": the reset is a Go duration.
    """
    tokens = [limit for limit in levels if "tokens" in limit]
    shown = {"requests": levels.get("requests_per_minute")}
    shown["tokens"] = levels[spent] if spent in tokens else next((levels[limit] for limit in tokens), None)
    return tuple(
        header
        for unit, level in shown.items()
        if level is not None
        for header in (
            (f"x-ratelimit-limit-{unit}", f"{level.allowance:.0f}"),
            (f"x-ratelimit-remaining-{unit}", f"{max(0.0, level.allowance - level.used):.0f}"),
            (f"x-ratelimit-reset-{unit}", go_duration(level.ends_in_s)),
        )
    )


def go_duration(seconds: float) -> str:
    """As Go's time.Duration prints whole milliseconds: `150ms`, `59.9s`, `6m0s`, `23h59m59.5s`."""
    ms = max(0, round(seconds * 1000))
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    out = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        out = f"{minutes}m{out}"
    return f"{hours}h{out}" if hours else out
