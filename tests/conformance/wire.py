"""Bytes on sockets: a client that sends what it is told, and a provider that answers what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

LIMIT_S = 5.0


@dataclass
class Provider:
    """Answers every request with `answer` (or lets it write), and keeps what came: head and body as framed."""

    answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def headers(self) -> list[tuple[str, str]]:
        """Of the only request; latin-1, so that each byte is one character."""
        (head,) = self.heads
        lines = head.decode("latin-1").split("\r\n")[1:-2]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                self.bodies.append(await read_body(reader, head))
                if not isinstance(self.answer, bytes):
                    await self.answer(writer)
                    break
                writer.write(self.answer)
                await writer.drain()
                said = self.answer.partition(b"\r\n\r\n")[0].lower()
                if b"connection: close" in said:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The body as framed: with its chunk sizes and trailers where it is chunked."""
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line)
    if b"chunked" not in fields.get(b"transfer-encoding", b""):
        return await reader.readexactly(int(fields.get(b"content-length", b"0")))
    body = b""
    while not body.endswith(b"\r\n\r\n") or b"0\r\n" not in body:
        body += await reader.readline()
    return body


@asynccontextmanager
async def provider_of_bytes(
    answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Provider]:
    provider = Provider(answer)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.close()


async def talk(port: int, *pieces: bytes, after: bytes = b"") -> bytes:
    """Send the pieces, each but the first only once `after` has come; then all that is answered until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(LIMIT_S):
            received = b""
            for number, piece in enumerate(pieces):
                while number and after not in received:
                    received += await reader.read(65536)
                writer.write(piece)
                await writer.drain()
            return received + await reader.read()
    finally:
        writer.close()


def split(answer: bytes) -> tuple[bytes, list[tuple[str, str]], bytes]:
    """Status line, headers in order, body as framed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return status.encode("latin-1"), [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)], body


def unchunked(body: bytes) -> bytes:
    """The content of a chunked body, without its trailers."""
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            return content
        content, body = content + body[:length], body[length + 2 :]
