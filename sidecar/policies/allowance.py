"""May this extra attempt go, or would it add too much load? One token bucket for each first target.

A request earns its first target `extra_load.ratio` when it is sent there; a retry or a hedge takes one from the bucket
of the target that its request was sent to first, and is vetoed when there is none: at most 5 % more load by default,
however slow or broken a provider is. Failures alone would be the wrong thing to count (as gRPC A6 does): a provider
that is slow but succeeds would be hedged for every request.

Three kinds of attempts don't draw. A fallback is another target's load, and there it is the only attempt. A resend
follows a kept connection that was dead, where no work was done. An attempt without `stream_options` mends what we
ourselves had added to the request.
"""

from __future__ import annotations

from typing import Self

from sidecar.core.facts import Attempt, Cause, Exchange
from sidecar.core.policy import Policy
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Pins, Tries
from sidecar.state.allowance import Allowance as Buckets
from sidecar.state.allowance import Key

_DRAWING = frozenset({Cause.RETRY, Cause.HEDGE})


class Allowance(Policy):
    __slots__ = ("_buckets", "_defaults", "_models", "_tries")

    def __init__(self, pins: Pins, buckets: Buckets) -> None:
        self._models = pins.models
        self._tries: dict[str | None, Tries] = {name: pin.tries for name, pin in pins.pins.items()}
        self._defaults = pins.defaults_tries
        self._buckets = buckets

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        """None where nothing is ever tried twice."""
        pins = parts.pins
        if max(pins.defaults_tries.max_attempts, *(p.tries.max_attempts for p in pins.pins.values()), 1) == 1:
            return None
        return cls(pins, parts.state.allowance)

    def enter(self, x: Exchange, attempt: Attempt, now: float) -> bool:  # noqa: ARG002
        if attempt.cause is Cause.FIRST:
            if x.ask.generates:
                tries = self._tries.get(x.pin, self._defaults)
                self._buckets.earn(self._key(x, attempt), tries.extra_ratio, tries.extra_burst)
            return True
        if attempt.cause not in _DRAWING or self._buckets.take(self._key(x, attempt), self._burst(x)):
            return True
        if _NONE_LEFT not in x.why:
            x.why.append(_NONE_LEFT)
        return False

    def leave(self, x: Exchange, attempt: Attempt, now: float) -> None:  # noqa: ARG002
        if attempt.result is None and attempt.cause in _DRAWING:
            self._buckets.give_back(self._key(x, attempt), self._burst(x))

    def _burst(self, x: Exchange) -> int:
        return self._tries.get(x.pin, self._defaults).extra_burst

    def _key(self, x: Exchange, attempt: Attempt) -> Key:
        """The bucket of the request's first target. Names that only clients know share one at each provider."""
        first = x.attempts[0].target if x.attempts else attempt.target
        return first if first.model in self._models else (first.provider, None)


_NONE_LEFT = "no extra load left"
