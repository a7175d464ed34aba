"""Taking a request's body in: read whole where a model stands in it, streamed through where none does."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sidecar.dialects import registry
from sidecar.dialects.base import Place, Route
from sidecar.errors import Code, Refusal, RefusedError
from sidecar.runtime.body import pieces, read_until
from sidecar.runtime.call import Call
from sidecar.runtime.headers import is_encoded
from sidecar.settings.options import LimitsSpec

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def take_in(call: Call, route: Route, limits: LimitsSpec) -> bytes | None:
    """The body, if the request must be rewritten; None if it may stream through (see `upload`). Raises RefusedError."""
    request = call.request
    expect = request.headers.get("Expect")
    if expect is not None:
        if expect.lower() != "100-continue":
            raise RefusedError(Refusal(Code.BAD_REQUEST, "This Expect is not known.", close=True, http_status=417))
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # nothing of the answer was sent: aiohttp's own handler does the same
    content_type = request.headers.get("Content-Type", "")
    if not request.body_exists or not registry.needs_body(route, content_type):
        return None
    if is_encoded(request.headers):
        message = "A body that names a model must not be encoded: send it as it is."
        raise RefusedError(Refusal(Code.BAD_REQUEST, message, http_status=415, close=True))

    def head_passes(head: bytes) -> bool:
        return registry.may_stream(route, content_type, head)

    body, complete = await read_until(
        request,
        call.held,
        limit=limits.body,
        idle_s=limits.body_idle,
        passes=head_passes if route.endpoint.place is Place.UPLOAD else None,
    )
    if complete:
        return body
    call.head = body
    return None


async def upload(call: Call, idle_s: float) -> AsyncIterator[bytes]:
    """A body that streams through. What the client did wrong is kept, since it must not look like the provider's."""
    if call.head:
        yield call.head
    try:
        async for piece in pieces(call.request, idle_s=idle_s):
            yield piece
    except RefusedError as exc:
        call.upload_refusal = exc.refusal
        raise
