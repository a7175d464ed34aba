"""Answers to the client, with exactly the headers we mean: aiohttp's own additions are left out."""

from __future__ import annotations

import math
from collections.abc import Iterable

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import must_be_empty_body
from aiohttp.http_writer import StreamWriter
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from sidecar.dialects.base import Dialect
from sidecar.errors import Refusal
from sidecar.runtime.watch import Watch
from sidecar.runtime.wire import head

LARGE_BYTES = 64 * 1024
"""A whole answer over this may fill the client's socket, so that writing it is watched."""

Headers = CIMultiDict[str] | Iterable[tuple[str, str]]


class Reply(web.StreamResponse):
    """An answer, streamed (`put`, then `write_eof`) or whole (`body`, written with its headers in one go).

    aiohttp would add Server, Date and a content type; a proxy passes what the provider sent. The framing is ours: the
    given Content-Length if there is one, else chunked, else (HTTP/1.0) by closing. `headers` given as a CIMultiDict
    are taken over, not copied.
    """

    def __init__(self, status: int, headers: Headers, *, reason: str | None = None, body: bytes | None = None) -> None:
        own = headers if isinstance(headers, CIMultiDict) else CIMultiDict(headers)
        super().__init__(status=status, reason=reason, _real_headers=own)
        self._whole = body
        self._send_headers_immediately = False  # they go before the first bytes of the body, or by `send_head`

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        body, begun = self._whole, self._eof_sent or self._payload_writer is not None
        if body is None or begun or len(body) > LARGE_BYTES or request.protocol.writing_paused:
            return await super().prepare(request)
        self._send_whole(request, body)
        return None

    def _send_whole(self, request: BaseRequest, body: bytes) -> None:
        """Headers and body in one write, to a client that is taking them."""
        self._req = request
        self._must_be_empty_body = must_be_empty_body(request.method, self._status)
        writer = self._payload_writer = request.writer
        assert isinstance(writer, StreamWriter)
        self._frame(request, writer)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        first = f"HTTP/{request.version[0]}.{request.version[1]} {self._status} {self._reason}"
        data = head([first, *[f"{name}: {value}" for name, value in self._headers.items()]])
        if not self._must_be_empty_body:
            data += body
        writer.output_size += len(data)
        transport.write(data)
        self._eof_sent = True
        self._body_length = writer.output_size
        self._whole = self._req = self._payload_writer = None

    async def _prepare_headers(self) -> None:
        request, writer = self._req, self._payload_writer
        assert request is not None
        assert isinstance(writer, StreamWriter)
        self._frame(request, writer)

    def _frame(self, request: BaseRequest, writer: StreamWriter) -> None:
        """How the body's end is told, and whether the connection goes on."""
        headers = self._headers
        keep_alive = request.keep_alive if self._keep_alive is None else self._keep_alive
        if self._whole is not None and not self._must_be_empty_body:
            headers[hdrs.CONTENT_LENGTH] = str(len(self._whole))
        elif self._must_be_empty_body:
            if self._status == 204:  # RFC 9110 section 8.6
                headers.popall(hdrs.CONTENT_LENGTH, None)
        elif (length := headers.get(hdrs.CONTENT_LENGTH)) is not None:
            writer.length = int(length)
        elif request.version >= HttpVersion11:
            writer.enable_chunking()
            headers[hdrs.TRANSFER_ENCODING] = "chunked"
        else:
            keep_alive = False
        self._keep_alive = keep_alive
        if not keep_alive:
            headers[hdrs.CONNECTION] = "close"
        elif request.version == HttpVersion10:
            headers[hdrs.CONNECTION] = "keep-alive"

    def send_head(self) -> None:
        """Send the headers now, though nothing of the body is there yet."""
        assert self._payload_writer is not None
        self._payload_writer.send_headers()

    def put(self, data: bytes) -> bool:
        """Hand a piece of the body to the client's socket; False if the client isn't taking it: then await `taken`."""
        writer = self._payload_writer
        assert isinstance(writer, StreamWriter)
        writer.send_headers()
        protocol = writer.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        if writer.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        writer.output_size += len(data)
        transport.write(data)
        return not protocol.writing_paused

    async def taken(self, watch: Watch) -> None:
        """Wait until the client goes on taking, and let the watch know that we do."""
        assert self._payload_writer is not None
        watch.writing()
        await self._payload_writer.drain()
        watch.written()

    async def write_eof(self, data: bytes = b"") -> None:
        if self._whole is not None and not self._must_be_empty_body:
            data, self._whole = self._whole, None
        await super().write_eof(data)

    def abort(self) -> None:
        """Break the connection, so that what was sent can't be taken for a complete answer."""
        self._keep_alive = False
        if self._req is not None and self._req.transport is not None:
            self._req.transport.abort()


def json_reply(status: int, body: bytes, headers: Headers = ()) -> Reply:
    """A whole JSON answer of ours."""
    return Reply(status, [("Content-Type", "application/json"), *headers], body=body)


def refusal_reply(refusal: Refusal, dialect: Dialect, request_id: str, headers: Headers) -> Reply:
    """A refusal in the caller's own dialect. `headers`: what else the answer says of itself."""
    own = [("x-sidecar-error", refusal.code.value), *headers, *refusal.headers]
    if refusal.retry_after_s is not None:
        own.append(("retry-after", str(max(1, math.ceil(refusal.retry_after_s)))))
        own.append(("retry-after-ms", str(max(1, math.ceil(refusal.retry_after_s * 1000)))))
    reply = json_reply(refusal.status, dialect.refuse(refusal, request_id), own)
    if refusal.close:
        reply.force_close()
    return reply
