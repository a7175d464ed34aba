"""The pool of connections to providers, guarded where aiohttp's is wrong for a proxy.

Bytes that arrive on an idle pooled connection would become the answer to the *next* request (aio-libs/aiohttp#13656):
here they end the connection, and a connection with anything to read is not reused. A dial remembers whether its
connection was a kept one, since only then may a request be sent again.
"""

from __future__ import annotations

import functools
import select
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from aiohttp import ClientPayloadError, ClientRequest, ClientResponse, ClientTimeout, TCPConnector
from aiohttp.abc import ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.helpers import _EXC_SENTINEL as _NO_CAUSE
from aiohttp.http import RawResponseMessage
from aiohttp.resolver import ThreadedResolver
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace

KEEPALIVE_S = 15.0
DNS_TTL_S = 10
REFUSAL_BYTES = 64 * 1024


class Dial:
    """How one attempt got its connection. `refusal` is the body of a refused WebSocket upgrade, with its headers."""

    __slots__ = ("fresh", "refusal", "refusal_headers", "reused", "socket")

    def __init__(self, *, fresh: bool, socket: bool = False) -> None:
        self.fresh = fresh
        self.socket = socket
        self.reused = False
        self.refusal = b""
        self.refusal_headers: tuple[tuple[bytes, bytes], ...] = ()


DIAL: ContextVar[Dial] = ContextVar("dial")


class GuardedHandler(ResponseHandler):
    """A connection that is ended by bytes nobody asked for."""

    def __init__(self, loop: Any, on_poisoned: Callable[[], None]) -> None:
        super().__init__(loop)
        self.idle = False
        self.uses = 0
        self._poller: select.poll | None = None  # of its socket, which it keeps for life
        self._on_poisoned = on_poisoned

    def data_received(self, data: bytes) -> None:
        if self.idle and data:
            self._on_poisoned()
            self.abort()
            return
        super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if data[0].code < 100:  # no status at all: whoever speaks so isn't asked again on this connection
            self.force_close()
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _NO_CAUSE) -> None:
        """A malformed chunk would leave whoever reads the body waiting: aiohttp tells only who waits for headers."""
        super().set_exception(exc, exc_cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(ClientPayloadError("the body is malformed"))

    def has_more(self) -> bool:
        """Whether the beginning of another answer was read behind the one that was asked for."""
        parser = self._parser
        if parser is None or self.should_close:
            return True
        try:
            return parser.feed_eof() is not None  # the only question that tells what the parser has begun
        except Exception:  # noqa: BLE001 - whatever it says, the connection isn't clean
            return True

    def readable(self) -> bool:
        """Whether there is something to read although nothing was asked: bytes, or the end of the connection."""
        if self.transport is None or self.transport.is_closing():
            return True
        if self._poller is None:
            sock = self.transport.get_extra_info("socket")
            if sock is None or sock.fileno() < 0:
                return True
            self._poller = select.poll()
            self._poller.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(self._poller.poll(0))


class HandshakeResponse(ClientResponse):
    """Keeps the body of a refused upgrade, which `ws_connect` would throw away."""

    async def start(self, connection: Connection) -> ClientResponse:
        response = await super().start(connection)
        dial = DIAL.get()
        if dial.socket and self.status != 101:
            dial.refusal_headers = self.raw_headers
            while len(dial.refusal) < REFUSAL_BYTES and (piece := await self.content.readany()):
                dial.refusal += piece
        return response


class GuardedConnector(TCPConnector):
    """aiohttp's pool with three changes: guarded connections, no limit of its own, answers to `Dial`."""

    def __init__(self, on_poisoned: Callable[[], None]) -> None:
        super().__init__(
            limit=0,
            ttl_dns_cache=DNS_TTL_S,
            keepalive_timeout=KEEPALIVE_S,
            resolver=LastGoodResolver(),
            happy_eyeballs_delay=0.25,
        )
        make: Any = functools.partial(GuardedHandler, self._loop, on_poisoned)
        self._factory = make  # aiohttp has no public way to say which protocol its connections use

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """What aiohttp's session calls, for a WebSocket."""
        del traces
        return await self.obtain(req, timeout, DIAL.get())

    async def obtain(self, req: ClientRequest, timeout: ClientTimeout, dial: Dial) -> Connection:
        """A clean connection to where `req` goes. Raises ClientError, OSError or TimeoutError."""
        while True:
            connection = await super().connect(req, [], timeout)
            protocol = connection.protocol
            assert isinstance(protocol, GuardedHandler)
            reused = protocol.uses > 0
            if reused and (dial.fresh or protocol.should_close or protocol.readable()):
                connection.close()
                continue
            protocol.uses += 1
            protocol.idle = False
            dial.reused = reused
            return connection

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, GuardedHandler):
            protocol.idle = True
            should_close = should_close or protocol.has_more()
        super()._release(key, protocol, should_close=should_close)


class LastGoodResolver(ThreadedResolver):
    """The system's resolver; when it fails, the last addresses that it gave serve on."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int, int], list[ResolveResult]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        key = (host, port, family)
        try:
            found = await super().resolve(host, port, family)
        except OSError:
            if key not in self._last:
                raise
            return self._last[key]
        self._last[key] = found
        return found
