"""The order of the policies, once, with a reason a line; and the snapshot that a request lives under."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.facts import Exchange, Outcome
from sidecar.core.pipeline import Pipeline
from sidecar.errors import Refusal
from sidecar.policies.allowance import Allowance
from sidecar.policies.breaker import Breaker
from sidecar.policies.budget import Budget
from sidecar.policies.cache import Cache
from sidecar.policies.choice import Choice
from sidecar.policies.fallback import Fallback
from sidecar.policies.hedge import Hedge
from sidecar.policies.name import Name
from sidecar.policies.parts import Parts
from sidecar.policies.resend import Resend
from sidecar.policies.retry import Retry
from sidecar.policies.stream_usage import StreamUsage
from sidecar.policies.targets import Targets
from sidecar.policies.variant import Variant
from sidecar.settings.pins import Pins

ORDER = (
    Name,  # what was asked for: everything else depends on it
    Variant,  # which arm of a pin with a stable model
    Choice,  # which model of a pin with a policy
    Targets,  # a model is chosen: where may it be reached
    Cache,  # whom it would be asked is known: an answer at hand costs nothing, so it comes before all that costs
    Breaker,  # the targets are known: tripped ones go last, before anything is set aside for the first
    Allowance,  # the target is known: may a retry or a hedge add to its load
    StreamUsage,  # the provider is known: may we ask its stream for usage
    Budget,  # all that may still change the first target has spoken: what it may cost is set aside last
    Resend,  # from here on they only react, the cheapest remedy first: a dead connection did no work
    Hedge,  # a copy now before a retry that waits: who hedges minds time
    Retry,  # the same model before another one
    Fallback,  # last, when the target itself won't do
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pins and the pipeline made for them. A request takes one at its start and keeps it, whatever is swapped."""

    pins: Pins
    pipeline: Pipeline


def build(parts: Parts) -> Snapshot:
    """A snapshot whose pipeline holds only the policies that this pin file switches on."""
    policies = [policy.build(parts) for policy in ORDER]
    return Snapshot(parts.pins, Pipeline([p for p in policies if p is not None]))


def resolve(snapshot: Snapshot, x: Exchange) -> Refusal | None:
    """Decide where a request would go, without sending it: for /resolve, `pins explain` and `replay`.

    The same pipeline as for a real request. What an event has kept (bucket, latencies, eligible providers) may stand
    on `x` already; it is then used instead of being worked out again.
    """
    verdict = snapshot.pipeline.admit(x, x.received_at)
    snapshot.pipeline.settle(x, _NEVER_SENT, x.received_at)
    return verdict if isinstance(verdict, Refusal) else None


_NEVER_SENT = Outcome((), None, None, None)
