"""One request and its answer on a pooled connection of aiohttp's.

aiohttp's connector, parser and body streams do the work; its request and response objects, made for every kind of
client, cost more than all decisions together. Here is what is left of them for a proxy: one write of a head that is
ready, and an answer whose connection goes back to the pool when its last byte was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from aiohttp import (
    ClientConnectionError,
    ClientConnectionResetError,
    ClientError,
    ClientOSError,
    ClientRequest,
    ClientSession,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from sidecar.runtime.wire import head

READ_BUFFER = 64 * 1024
FIELD_BYTES = 16 * 1024

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods whose requests have no length where they have no body (RFC 9110 section 8.6)."""


class Incoming:
    """An answer: its head was read, `content` is its body as it arrives. Close it unless it is read to its end."""

    __slots__ = ("_connection", "_upload", "content", "headers", "method", "raw_headers", "reason", "status")

    def __init__(self, connection: Connection, method: str, upload: asyncio.Task[None] | None) -> None:
        self._connection: Connection | None = connection
        self._upload = upload
        self.method = method
        self.status = 0
        self.reason: str | None = None
        self.headers: CIMultiDictProxy[str]
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = ()
        self.content: StreamReader

    async def begin(self) -> None:
        """Read the head of the final answer: interim ones (1xx) are passed over, an unasked upgrade is not."""
        assert self._connection is not None
        protocol = self._connection.protocol
        assert protocol is not None
        while True:
            message, content = await protocol.read()
            if not 100 <= message.code <= 199 or message.code == 101:
                break
        self.status, self.reason = message.code, message.reason
        self.headers, self.raw_headers = message.headers, message.raw_headers
        self.content = content
        content.on_eof(self._ended)

    def close(self) -> None:
        """Hang up, if it isn't over."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        if self._upload is not None:
            self._upload.cancel()
        connection.close()
        if self.status and not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(ClientConnectionError("the connection was closed"))

    def _ended(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._upload is not None and not self._upload.done():  # answered before all was sent
            self._upload.cancel()
            connection.close()
        else:
            connection.release()


class Origin:
    """A provider's origin: what the pool tells its connections by, and how requests are addressed to it."""

    def __init__(self, base_url: str, session: ClientSession, ssl: object, proxy: URL | None) -> None:
        url = URL(base_url)
        # It is never sent: the connector takes from it where and how to connect.
        self.pattern = ClientRequest("GET", url, loop=session._loop, session=session, ssl=ssl, proxy=proxy)  # type: ignore[arg-type]  # noqa: SLF001
        self._host = self.pattern.headers["Host"]
        self._absolute = str(url.origin()) if proxy is not None and not self.pattern.is_ssl() else ""
        parts = urlsplit(base_url)  # not yarl, which leaves out a default port and writes some hosts in another way
        self._start = len(parts.scheme) + len("://") + len(parts.netloc)

    def head_of(self, method: str, url: str, headers: CIMultiDict[str], length: int | None) -> bytes:
        """The bytes of a request's head. `length` None: the body comes in chunks. Raises ValueError."""
        target = self._absolute + (url[self._start :] or "/")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self._absolute and (credentials := self.pattern.headers.get("Proxy-Authorization")) is not None:
            lines.append(f"Proxy-Authorization: {credentials}")
        if length is None:
            lines.append("Transfer-Encoding: chunked")
        elif length or method not in _BODILESS:
            lines.append(f"Content-Length: {length}")
        return head(lines)


async def exchange(
    connection: Connection, method: str, first: bytes, body: bytes | AsyncIterator[bytes] | None
) -> Incoming:
    """Send a request, `first` being its head, and read the head of its answer.

    The connection is given back or closed whatever happens.

    Raises ClientError, OSError or HttpProcessingError.
    """
    protocol = connection.protocol
    assert protocol is not None
    protocol.set_response_params(
        skip_payload=method == "HEAD",
        read_until_eof=True,
        auto_decompress=False,
        read_bufsize=READ_BUFFER,
        max_line_size=FIELD_BYTES,
        max_field_size=FIELD_BYTES,
    )
    incoming: Incoming | None = None
    try:
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the connection was closed")
        upload = None
        if body is None or isinstance(body, bytes):
            transport.write(first + body if body else first)
        else:
            transport.write(first)
            chunked = first.endswith(b"Transfer-Encoding: chunked\r\n\r\n")
            upload = asyncio.create_task(_send(protocol, body, chunked=chunked), name="upload")
        incoming = Incoming(connection, method, upload)
        await incoming.begin()
    except BaseException:
        if incoming is not None:
            incoming.close()
        connection.close()
        raise
    return incoming


async def _send(protocol: ResponseHandler, body: AsyncIterator[bytes], *, chunked: bool) -> None:
    """Send a body as it comes. What goes wrong is told to whoever waits for the answer."""
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    if chunked:
        writer.enable_chunking()
    try:
        async for piece in body:
            await writer.write(piece)
        await writer.write_eof()
    except (OSError, ClientError) as exc:
        protocol.set_exception(ClientOSError(getattr(exc, "errno", None), "the body could not be sent"), exc)
    except Exception as exc:  # noqa: BLE001 - the caller's body broke off, in whatever way
        protocol.set_exception(ClientConnectionError("the body could not be read"), exc)
