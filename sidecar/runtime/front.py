"""The listener's side of HTTP, where aiohttp's server defaults are wrong for a proxy.

What is changed, and why, stands in docs/architecture.md under "Hardening". Malformed HTTP is answered with a bare 400
or 431 that echoes nothing: aiohttp's page repeats the offending line, which may be an Authorization header.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from sidecar.errors import Code
from sidecar.runtime.reply import Reply
from sidecar.settings.options import LimitsSpec

Handler = Callable[[BaseRequest], Awaitable[web.StreamResponse]]

LINGER_S = 2.0
"""How long unread request bytes are drained after an early answer, so that the client gets to read it."""

_SHED_BODY = json.dumps(
    {"error": {"message": "Too many connections.", "type": "server_error", "param": None, "code": Code.OVERLOADED}}
).encode()
_SHED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"x-sidecar-error: " + Code.OVERLOADED.encode() + b"\r\nconnection: close\r\n"
    b"content-length: " + str(len(_SHED_BODY)).encode() + b"\r\n\r\n" + _SHED_BODY
)


class FrontProtocol(RequestHandler):
    """One client connection: a header phase with a limit of its own, and error pages that say nothing."""

    __slots__ = ("_header_timer", "_headers_s", "_shed", "outlives")

    def __init__(self, manager: Front, *, loop: asyncio.AbstractEventLoop, headers_s: float, **kwargs: Any) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._headers_s = headers_s
        self._header_timer: asyncio.TimerHandle | None = None
        self._shed = False
        self.outlives: Callable[[Callable[[], object]], bool] | None = None
        """Asked when the client leaves, and told how to end its request: True if that goes on, because others need
        its answer. Whoever says so must end it when they don't any more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        manager = self._manager
        assert isinstance(manager, Front)
        if len(manager.connections) > manager.limit:
            manager.on_shed()
            self._shed = True
            tcp = cast("asyncio.Transport", transport)  # uvloop's doesn't inherit from it
            tcp.write(_SHED)
            tcp.write_eof()
            self._loop.call_later(LINGER_S, tcp.abort)
            return
        self._expect_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._drop_header_timer()
        task = self._task_handler
        if task is not None and self.outlives is not None and self.outlives(task.cancel):
            self._task_handler = None  # aiohttp would cancel it
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._shed:
            return  # the answer is on its way: what is read is thrown away, so that no reset destroys it
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._drop_header_timer()
        elif self._header_timer is None and self._waiter is not None and data:
            self._expect_headers()  # the first bytes of a further request on a kept connection

    def _expect_headers(self) -> None:
        self._header_timer = self._loop.call_later(self._headers_s, self._headers_late)

    def _drop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_late(self) -> None:
        self._header_timer = None
        self.force_close()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Bare answers. `message` and `exc` hold the client's bytes: neither is sent, neither is logged."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status == 400 and (isinstance(exc, LineTooLong) or "Too many headers" in str(exc)):
            status = 431
        reply = Reply(status, [("Content-Type", "text/plain")], body=b"")
        reply.force_close()
        return reply

    def log_exception(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - the text is what must not be logged
        """aiohttp would log the exception's text here, raw header line included."""
        exc = kwargs.get("exc_info")
        self.logger.error("error on a client connection: %s", type(exc).__name__)


class Front(web.Server):
    """Makes a `FrontProtocol` for each client connection. `on_shed` is told of each one over the limit."""

    def __init__(self, handler: Handler, limits: LimitsSpec, on_shed: Callable[[], None]) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.limit = limits.connections
        self.on_shed = on_shed
        self._protocol_kwargs: dict[str, Any] = {
            "keepalive_timeout": limits.keepalive,
            "auto_decompress": False,
            "max_line_size": limits.header_line,
            "max_field_size": limits.header_line,
            "max_headers": limits.headers,
            "access_log": None,
            "lingering_time": LINGER_S,
        }
        self._headers_s = limits.request_headers

    def __call__(self) -> RequestHandler:
        return FrontProtocol(self, loop=self._loop, headers_s=self._headers_s, **self._protocol_kwargs)
