"""The kept connection was dead: send the same request again, on a fresh one.

aiohttp resends only idempotent methods by itself, and every model call is a POST. It is safe as far as HTTP allows:
the runtime calls a fault STALE only if the connection was a reused one, no byte of an answer came, and the body can
be sent again (RFC 9112 section 9.3.1).
"""

from __future__ import annotations

from typing import Self

from sidecar.core.facts import Attempt, Cause, Exchange, Fault
from sidecar.core.policy import Next, Policy
from sidecar.policies.parts import Parts


class Resend(Policy):
    __slots__ = ()

    @classmethod
    def build(cls, parts: Parts) -> Self:  # noqa: ARG003
        return cls()

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:  # noqa: ARG002
        if attempt.fault is Fault.STALE:
            return Next(attempt.target, Cause.RESEND)
        return None
