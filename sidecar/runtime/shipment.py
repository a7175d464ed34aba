"""What to send for an attempt: the request written for its target, anew from the original bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sidecar.core.facts import Attempt
from sidecar.runtime.call import Call
from sidecar.runtime.headers import meterable_encoding
from sidecar.runtime.intake import upload
from sidecar.runtime.shared import Shared
from sidecar.runtime.upstream import Shipment


def shipment(call: Call, body: bytes | None, attempt: Attempt, shared: Shared) -> Shipment:
    """`body` is None where there is none, or where it streams through: then it can be sent only once."""
    draft, x, route, request = call.draft, call.exchange, call.route, call.request
    assert draft is not None
    assert x is not None
    assert route is not None
    if call.launched_at is None:
        call.launched_at = shared.now()
    models = call.models
    if draft.ask.name is not None and attempt.target.model is not None:
        models = {**models, draft.ask.name: attempt.target.model}
    metered = route.endpoint.operation != "other"
    encoding = None
    if metered:
        encoding = "identity" if x.ask.stream else meterable_encoding(request.headers.get("Accept-Encoding"))
    payload: bytes | AsyncIterator[bytes] | None = None
    length = None
    if body is not None:
        payload = draft.body(models, add_usage=attempt.add_usage)
    elif request.body_exists:
        payload = upload(call, shared.settings.limits.body_idle)
        length = request.content_length
    if shared.tracing is not None and call.span is None:
        call.span, call.traceparent = shared.tracing.child(request.headers.get("traceparent"))
    return Shipment(
        method=request.method,
        path=draft.path(models),
        headers=request.headers,
        raw_headers=request.raw_headers,
        body=payload,
        content_length=length,
        encoding=encoding,
        traceparent=call.traceparent,
    )
