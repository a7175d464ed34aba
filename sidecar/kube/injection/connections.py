"""The listeners' side of HTTP: who may keep a connection, and for how long, before a request is there.

Malformed HTTP gets a bare answer: aiohttp's page would repeat the line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

Handler = Callable[[BaseRequest], Awaitable[web.StreamResponse]]

CONNECTIONS = 1024
"""At once on one listener. A cluster has a few API servers, each with a few connections."""
HEADERS_S = 10.0
"""From the connection to its first whole header."""
_KEEPALIVE_S = 120.0  # Go's client, which is the API server's, keeps idle connections for 90 s


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = ("_headers_timer",)

    def __init__(self, manager: Listener, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        manager = self._manager
        if manager is not None and len(manager.connections) > CONNECTIONS:
            cast("asyncio.Transport", transport).abort()
            return
        self._headers_timer = self._loop.call_later(HEADERS_S, self._headers_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
        super().connection_lost(exc)

    def _headers_late(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        del exc, message  # both hold the client's bytes
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        reply = web.Response(status=status, text="This is not HTTP that can be read.\n")
        reply.force_close()
        return reply


class Listener(web.Server):
    """Makes a `Connection` for each client."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._options: dict[str, Any] = {
            "keepalive_timeout": _KEEPALIVE_S,
            "auto_decompress": False,  # nobody compresses a review, and a small bomb is large
            "access_log": None,
            "lingering_time": 2.0,
        }

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._options)
