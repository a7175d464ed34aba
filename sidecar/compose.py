"""The order of the policies, once, with a reason a line; and the snapshot that a request lives under."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.facts import Exchange
from sidecar.core.pipeline import Pipeline
from sidecar.errors import Refusal
from sidecar.policies.choice import Choice
from sidecar.policies.name import Name
from sidecar.policies.parts import Parts
from sidecar.policies.resend import Resend
from sidecar.policies.stream_usage import StreamUsage
from sidecar.policies.targets import Targets
from sidecar.policies.variant import Variant
from sidecar.settings.pins import Pins

ORDER = (
    Name,  # what was asked for: everything else depends on it
    Variant,  # which arm of a pin with a stable model
    Choice,  # which model of a pin with a policy
    Targets,  # a model is chosen: where may it be reached
    StreamUsage,  # the provider is known: may we ask its stream for usage
    Resend,  # reacts only; last, since a provider's own answer says more than a dead connection
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
    return snapshot.pipeline.admit(x, x.received_at)
