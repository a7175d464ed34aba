"""From a request's bytes to what was decided of it. No await: everything here is known or in the process."""

from __future__ import annotations

from dataclasses import replace

from sidecar.core.facts import Exchange
from sidecar.core.policy import Follow, Hit
from sidecar.dialects import registry
from sidecar.errors import Refusal, RefusedError, bad_request
from sidecar.runtime.call import Call


def read(call: Call, body: bytes | None) -> None:
    """Read what is asked. Raises RefusedError."""
    route, request = call.route, call.request
    assert route is not None
    content_type = request.headers.get("Content-Type", "")
    draft = call.draft = registry.read(route, request.headers, body, content_type=content_type)
    draft.ask.repeatable = body is not None or not request.body_exists


def admit(call: Call, now: float) -> Hit | Follow | None:
    """Decide where it goes, or that it needn't go anywhere. Raises RefusedError."""
    snapshot, draft = call.snapshot, call.draft
    assert snapshot is not None
    assert draft is not None
    x = call.exchange = Exchange(call.id, draft.ask, call.arrived_at)
    verdict = snapshot.pipeline.admit(x, now)
    if isinstance(verdict, Refusal):
        raise RefusedError(verdict)
    call.models = {draft.ask.name: x.targets[0].model} if draft.ask.name and x.targets[0].model else {}
    for name in draft.names:
        if name == draft.ask.name:
            continue
        other = decide(call, name, now)
        if other.targets[0].provider != x.targets[0].provider:
            raise bad_request("The models of this request live at different providers; send one request for each.")
        call.models[name] = other.targets[0].model or name
    return verdict


def decide(call: Call, name: str, now: float) -> Exchange:
    """What a further name in the same request means: nothing is set aside for it. Raises RefusedError."""
    snapshot, draft = call.snapshot, call.draft
    assert snapshot is not None
    assert draft is not None
    x = Exchange(call.id, replace(draft.ask, name=name, generates=False), now)
    verdict = snapshot.pipeline.admit(x, now)
    if isinstance(verdict, Refusal):
        raise RefusedError(verdict)
    return x
