"""The same target once more? Only for what passes by itself, after a wait.

The wait doubles from `retry.base` to `retry.max`, with full jitter in its upper half. Where the provider says how long
(Retry-After and its kin), that is the wait, with jitter only upward; longer than `retry.max` is not waited for. The
caller's own time is the limit of everything: the race drops a retry that would start after the deadline.

A hedge that fails is dropped: what is retried then is the first target, if what it failed with passes by itself.

Not retried: an attempt given up as slow, since the time it left is another target's; money that is gone, a model that
is gone, a refused credential, and the caller's own faults, which waiting doesn't mend.
"""

from __future__ import annotations

from typing import Self

from sidecar.core.dice import dice
from sidecar.core.facts import Attempt, Cause, Exchange, Fault
from sidecar.core.policy import Next, Policy
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Pins, Tries

TRANSIENT = frozenset({Fault.OVERLOAD, Fault.RATE_LIMIT, Fault.CONNECT, Fault.TIMEOUT, Fault.BROKEN})
UPWARD_S = 1.0
"""The most that jitter adds to a wait which the provider asked for."""


class Retry(Policy):
    __slots__ = ("_pins",)

    def __init__(self, pins: Pins) -> None:
        self._pins = pins

    @classmethod
    def build(cls, parts: Parts) -> Self:
        return cls(parts.pins)

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:
        if attempt.cause is Cause.HEDGE:
            first = next((a for a in reversed(x.attempts) if a.target == x.targets[0]), attempt)
            attempt = first if _passes(first) else attempt
        if not (_passes(attempt) and x.ask.generates and x.ask.repeatable):
            return None
        tries = self._pins.tries(x.pin)
        before = sum(a.target == attempt.target and a is not attempt for a in x.attempts)
        wait_s = wait(x.id, attempt, before, tries)
        return None if wait_s is None else Next(attempt.target, Cause.RETRY, now + wait_s)


def _passes(attempt: Attempt) -> bool:
    return attempt.fault in TRANSIENT and attempt.retryable


def wait(request_id: str, attempt: Attempt, before: int, tries: Tries) -> float | None:
    """Seconds until the next attempt at the same target, the `before`-th after its first; None if that is too long."""
    chance = dice(request_id, "retry", attempt.number)
    asked = attempt.retry_after_s
    if asked is not None:
        return None if asked > tries.retry_max_s else asked + chance * min(0.5 * asked, UPWARD_S)
    longest = min(tries.retry_max_s, tries.retry_base_s * (1 << before))
    return longest * (0.5 + 0.5 * chance)
