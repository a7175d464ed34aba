"""A provider that sends exactly the bytes it is told to, over raw sockets, in the test's own loop.

Each request takes the next script (`answers`), or a healthy answer where none is left. A script is a sequence of
steps: bytes to send, seconds to wait, or one of the `Step`s. After it the connection waits for its next request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.faults.wire import framed


class Step(Enum):
    FIN = auto()  # close
    RST = auto()  # break
    HANG = auto()  # wait until the other side has gone
    ENDLESS = auto()  # the bytes before it again and again, until the other side has gone


Script = Sequence[bytes | float | Step]

CHOICE = b'{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"healthy"}}'
JSON = (
    b'{"id":"c1","object":"chat.completion","model":"gpt-5.4-2025-11-02","choices":['
    + CHOICE
    + b'],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)
HEALTHY = framed(b"200 OK", JSON, b"content-type: application/json")


@dataclass
class Seen:
    """A request as it came. `gone` is set when its connection ends; `body` grows as it arrives."""

    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    whole: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        """Everything that a secret could stand in."""
        return f"{self.method} {self.target} {self.headers} {self.body.decode('latin-1')}"


class Upstream:
    """`early`: answer as soon as the headers came. `greeting`: sent before anything was asked."""

    def __init__(self) -> None:
        self.answers: deque[Script] = deque()
        self.seen: list[Seen] = []
        self.early = False
        self.greeting = b""
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0.005)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        return len(self._writers)

    def says(self, *steps: bytes | float | Step) -> None:
        """The next request's answer."""
        self.answers.append(steps)

    def inject(self, data: bytes) -> None:
        """Send bytes that nobody asked for, on every open connection."""
        for writer in self._writers:
            writer.write(data)

    def inject_unseen(self, data: bytes) -> None:
        """The same past the loop, so that the bytes are in the other side's socket before it can have read them."""
        for writer in self._writers:
            os.write(writer.get_extra_info("socket").fileno(), data)

    def hang_up(self, *, reset: bool = False) -> None:
        """End every open connection."""
        for writer in list(self._writers):
            _end(writer, Step.RST if reset else Step.FIN)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        number = self.connections
        seen = None
        try:
            if self.greeting:
                writer.write(self.greeting)
            while (seen := await self._head(reader, number)) is not None:
                self.seen.append(seen)
                if not self.early:
                    await _body(reader, seen)
                script = self.answers.popleft() if self.answers else (HEALTHY,)
                await _play(script, reader, writer)
                if self.early:
                    await _body(reader, seen)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            if seen is not None:
                seen.gone.set()
            writer.transport.abort()
            self._writers.discard(writer)

    async def _head(self, reader: asyncio.StreamReader, number: int) -> Seen | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = [line.split(":", 1) for line in lines]
        return Seen(number, method, target, [(name, value.strip()) for name, value in pairs])


@asynccontextmanager
async def serving() -> AsyncIterator[Upstream]:
    """A running one."""
    upstream = Upstream()
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.stop()


async def _body(reader: asyncio.StreamReader, seen: Seen) -> None:
    if seen.values("transfer-encoding"):
        while True:
            size = int((await reader.readline()).split(b";")[0], 16)
            seen.body += (await reader.readexactly(size + 2))[:-2]
            if size == 0:
                break
    else:
        left = int((seen.values("content-length") or ["0"])[0])
        while left:
            piece = await reader.read(min(left, 1 << 16))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            seen.body += piece
            left -= len(piece)
    seen.whole = True


async def _play(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    last = b""
    for step in script:
        if isinstance(step, bytes):
            last = step
            writer.write(step)
            await writer.drain()
        elif isinstance(step, float | int):
            await asyncio.sleep(step)
        elif step is Step.HANG:
            while await reader.read(1 << 16):
                pass
            raise ConnectionResetError
        elif step is Step.ENDLESS:
            while True:
                writer.write(last)
                await writer.drain()
                await asyncio.sleep(0)
        else:
            _end(writer, step)
            raise ConnectionResetError


def _end(writer: asyncio.StreamWriter, how: Step) -> None:
    sock = writer.get_extra_info("socket")
    if how is Step.RST and sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
