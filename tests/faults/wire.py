"""Raw HTTP/1.1 from the client's side: exact bytes out, and what came back as it stood on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

LIMIT_S = 10.0
HOST = b"host: 127.0.0.1\r\n"


def framed(status: bytes, body: bytes, *headers: bytes) -> bytes:
    """An answer with a length."""
    lines = [b"HTTP/1.1 " + status, *headers, b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces: bytes, last: bool = True) -> bytes:
    """A body in chunks."""
    out = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return out + (b"0\r\n\r\n" if last else b"")


def request(
    method: bytes = b"POST",
    target: bytes = b"/v1/chat/completions",
    *headers: bytes,
    body: bytes | None = None,
    host: bytes = HOST,
) -> bytes:
    """A request; a body brings its length."""
    lines = b"".join(line + b"\r\n" for line in headers)
    length = b"content-length: %d\r\n" % len(body) if body is not None else b""
    return method + b" " + target + b" HTTP/1.1\r\n" + host + lines + length + b"\r\n" + (body or b"")


def post(body: bytes | dict[str, Any], *headers: bytes, target: bytes = b"/v1/chat/completions") -> bytes:
    """A POST of JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(b"POST", target, b"content-type: application/json", *headers, body=data)


def chat(model: str = "chat.core", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


@dataclass
class Answer:
    """`complete`: the body ended as its framing says; otherwise the connection broke off first."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = True
    informational: list[int] = field(default_factory=list)
    raw: bytes = b""

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    @property
    def code(self) -> str | None:
        return self.get("x-sidecar-error")


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """The next answer. Raises TimeoutError, or EOFError where the connection ended without one."""
        async with asyncio.timeout(LIMIT_S):
            informational = []
            while True:
                answer = await self._head()
                if answer.status >= 200 or answer.status == 101:
                    break
                informational.append(answer.status)
            answer.informational = informational
            if not (head or answer.status in (101, 204, 304)):
                await self._body(answer)
            return answer

    async def _head(self) -> Answer:
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            raise EOFError("no answer") from exc
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        assert version in ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9")  # aiohttp answers in the version it was asked in, or 1.0
        pairs = [line.split(":", 1) for line in lines]
        return Answer(int(status), [(name, value.strip()) for name, value in pairs], raw=head)

    async def _body(self, answer: Answer) -> None:
        assert not (answer.get("transfer-encoding") and answer.get("content-length")), "two framings"
        try:
            if answer.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    answer.body += (await self.reader.readexactly(size + 2))[:-2]
                assert await self.reader.readexactly(2) == b"\r\n", "trailers"
            elif (length := answer.get("content-length")) is not None:
                answer.body = await self.reader.readexactly(int(length))
            else:
                while piece := await self.reader.read(1 << 16):
                    answer.body += piece
        except asyncio.IncompleteReadError as exc:
            answer.body += exc.partial
            answer.complete = False
        except ConnectionError:
            answer.complete = False

    async def ended(self, limit_s: float = LIMIT_S) -> bytes:
        """What still comes until the other side ends the connection. Raises TimeoutError if it doesn't."""
        rest = b""
        async with asyncio.timeout(limit_s):
            try:
                while piece := await self.reader.read(1 << 16):
                    rest += piece
            except ConnectionError:
                pass
        return rest

    def half_close(self) -> None:
        self.writer.write_eof()

    def leave(self, *, reset: bool = False) -> None:
        """Go away without a word."""
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connected(port: int, *, receive_buffer: int | None = None) -> AsyncIterator[Client]:
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def ask(port: int, data: bytes, *, head: bool = False) -> Answer:
    """One request on a connection of its own."""
    async with connected(port) as client:
        await client.send(data)
        return await client.answer(head=head)
