"""Another target? When this one is down, gone, spent, refuses our credential or is too slow: the next untried one.

The caller's own faults end the race, as every target would refuse them too. A refused credential leads on only where it
was ours, and only to another provider. Which targets there are, and that none is away from provider-held state, was
settled before anything was sent (`targets`).
"""

from __future__ import annotations

from typing import Self

from sidecar.core.facts import Attempt, Cause, Exchange, Fault
from sidecar.core.policy import Next, Policy
from sidecar.policies.parts import Parts
from sidecar.state.credentials import Credentials

ELSEWHERE = frozenset(
    {
        Fault.OVERLOAD,
        Fault.RATE_LIMIT,
        Fault.CONNECT,
        Fault.STALE,
        Fault.TIMEOUT,
        Fault.SLOW,
        Fault.BROKEN,
        Fault.MODEL_GONE,
        Fault.QUOTA,
        Fault.REFUSED,
    }
)


class Fallback(Policy):
    __slots__ = ("_credentials",)

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        """None where no pin has a second target."""
        if not any(pin.fallback or pin.arms for pin in parts.pins.pins.values()):
            return None
        return cls(parts.state.credentials)

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:  # noqa: ARG002
        if attempt.fault not in ELSEWHERE:
            return None
        refused = attempt.target.provider if attempt.fault is Fault.REFUSED else None
        if refused is not None and not self._injects(x, refused):
            return None
        tried = {a.target for a in x.attempts}
        for target in x.targets:
            if target not in tried and target.provider != refused:
                return Next(target, Cause.FALLBACK)
        return None

    def _injects(self, x: Exchange, provider: str) -> bool:
        """Whether the credential that it refused was ours."""
        if x.injects is None:
            x.injects = {}
        return x.injects.setdefault(provider, self._credentials.injects(provider))
