"""Leave a failing target alone for a while: tripped ones go to the back of the order, one probe finds out.

Decided here: which outcome speaks against a target, in which order the targets are tried, and which further attempts
may go to one that isn't healthy. Counting and resting is `state/breakers.py`'s. Nothing is ever refused for a tripped
target: when all are, the least bad is tried, for that may work where a refusal can't ("panic", as Envoy has it).

`x.health` keeps what was read, and alone decides the order: model id → `half_open` (healthy as far as the order goes:
it is due for a probe) or `open:12.5` (seconds until the next probe; `open:0.0` while one is under way). Models that
aren't in it are closed. The tripped go by those seconds, equal ones as they stood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from sidecar.core.facts import Attempt, Cause, Exchange, Fault, Result, Target
from sidecar.core.policy import Policy
from sidecar.policies.parts import Parts
from sidecar.settings.schema import BreakerSpec
from sidecar.state.breakers import Breakers, Verdict

MAX_REST_S = 300.0
"""The longest pause that a provider gets by asking for it; Envoy discards longer ones (`max_interval`, 300 s)."""

# The target's own doing. The caller's errors, a refused credential and what we added to the request (STREAM_OPTIONS)
# say nothing about it, nor does a kept connection that had died; a rate limit is no failure but a pause.
_FAILURES = frozenset({Fault.OVERLOAD, Fault.CONNECT, Fault.TIMEOUT, Fault.SLOW, Fault.BROKEN})
# One answer is enough: neither comes back within seconds.
_TRIPS = frozenset({Fault.MODEL_GONE, Fault.QUOTA})
# More load for a target, where the app would have been served without it.
_EXTRA = frozenset({Cause.RETRY, Cause.HEDGE})


class Breaker(Policy):
    __slots__ = ("_breakers", "_specs")

    def __init__(self, specs: Mapping[str | None, BreakerSpec], breakers: Breakers) -> None:
        self._specs = specs
        self._breakers = breakers

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        """None where no model has a breaker."""
        sources = ((m.id, m.source) for m in parts.pins.models.values())
        specs: dict[str | None, BreakerSpec] = {
            model: source.breaker for model, source in sources if source is not None and source.breaker
        }
        return cls(specs, parts.state.breakers) if specs else None

    def admit(self, x: Exchange, now: float) -> None:
        if not x.ask.generates:
            return
        if x.health is None:
            x.health = self._health(x.targets, now)
        if not x.health:
            return
        rests_s = {t: _rest_s(x.health.get(t.model or "", "")) for t in x.targets}
        tripped = sorted((t for t, rest_s in rests_s.items() if rest_s is not None), key=lambda t: rests_s[t] or 0.0)
        if not tripped:
            return
        x.why.extend(f"breaker: {t.model} open" for t in tripped)
        if len(tripped) == len(rests_s):
            x.why.append("breaker: all open, the least bad is tried")
        before, x.targets = x.targets[0], (*(t for t in x.targets if t not in tripped), *tripped)
        if x.targets[0] != before:
            x.why.append(f"to {x.targets[0].model} at {x.targets[0].provider}")

    def enter(self, x: Exchange, attempt: Attempt, now: float) -> bool:
        target = attempt.target
        if target.model not in self._specs or not x.ask.generates:
            return True
        if attempt.cause in _EXTRA and self._breakers.state(target, now) != "closed":
            x.why.append(f"breaker: no {attempt.cause} to {target.model}")
            return False
        return self._breakers.enter(target, id(attempt), now, panic=True)

    def leave(self, x: Exchange, attempt: Attempt, now: float) -> None:
        spec = self._specs.get(attempt.target.model)
        if spec is None or not x.ask.generates:
            return
        self._breakers.leave(attempt.target, id(attempt), verdict(attempt, spec), spec, now)
        asked_s = attempt.retry_after_s
        if attempt.result is Result.FAILED and attempt.fault is Fault.RATE_LIMIT and asked_s is not None:
            self._breakers.rest(attempt.target, now + min(asked_s, MAX_REST_S))

    def _health(self, targets: tuple[Target, ...], now: float) -> dict[str, str]:
        found = {}
        for target in targets:
            if target.model is None or target.model not in self._specs:
                continue
            state = self._breakers.state(target, now)
            if state == "closed":
                continue
            if state == "open" or (state == "half_open" and not self._breakers.probe_free(target)):
                left_s = max(0.0, self._breakers.reopens_at(target) - now)
                found[target.model] = f"open:{left_s:.1f}"
            else:
                found[target.model] = state
        return found


def verdict(attempt: Attempt, spec: BreakerSpec) -> Verdict:
    """What an attempt's end says about its target. One that merely lost, or whose client left, says nothing."""
    if attempt.result is Result.OK:
        limit_s, first_at = spec.slow_first_event, attempt.first_at
        slow = limit_s is not None and first_at is not None and first_at - attempt.started_at > limit_s
        return "failure" if slow else "success"
    if attempt.result is Result.FAILED and attempt.fault in _FAILURES:
        return "failure"
    if attempt.result is Result.FAILED and attempt.fault in _TRIPS:
        return "trip"
    return "neutral"


def _rest_s(health: str) -> float | None:
    """The seconds of `open:12.5`; None for a healthy one."""
    return float(health.removeprefix("open:")) if health.startswith("open:") else None
