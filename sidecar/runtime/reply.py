"""Answers to the client, with exactly the headers we mean: aiohttp's own additions are left out."""

from __future__ import annotations

import math
from collections.abc import Iterable

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from sidecar.dialects.base import Dialect
from sidecar.errors import Refusal
from sidecar.runtime.watch import Watch

Headers = Iterable[tuple[str, str]]


class Reply(web.StreamResponse):
    """An answer, streamed (`send`, then `write_eof`) or whole (`body`, written with its headers in one go).

    aiohttp would add Server, Date and a content type; a proxy passes what the provider sent. The framing is ours: the
    given Content-Length if there is one, else chunked, else (HTTP/1.0) by closing.
    """

    def __init__(self, status: int, headers: Headers, *, reason: str | None = None, body: bytes | None = None) -> None:
        super().__init__(status=status, reason=reason, _real_headers=CIMultiDict(headers))
        self._whole = body
        self._send_headers_immediately = body is None

    async def _prepare_headers(self) -> None:
        request, writer, headers = self._req, self._payload_writer, self._headers
        assert request is not None
        assert isinstance(writer, StreamWriter)
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

    async def send(self, data: bytes, watch: Watch) -> None:
        """Write a piece; if the client isn't taking it, wait, and let the watch know that we do."""
        writer = self._payload_writer
        assert isinstance(writer, StreamWriter)
        await writer.write(data, drain=False)
        if writer._protocol._paused:  # noqa: SLF001 - the one place that says whether the transport is full
            watch.writing()
            await writer.drain()
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
