"""A provider and its clients in one process, so that streams can go in lock-step: the next event is written only when
the one before has come through.

Never are two events of a stream on their way, so none are read together, however the machine stutters: the work per
relayed chunk is the same each time, and a number of streams keeps the process between them saturated. Between two
batches the streams stand still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, cast

from benchmarks.caller import request_to
from benchmarks.guard.drive import Batch
from benchmarks.lab import SMALL_PROMPT
from benchmarks.provider import END, STREAM_HEAD, Script, answer, chunked, event
from benchmarks.systems import Running

MARK = b"stream="
END_OF_HEADERS = b"\r\n\r\n"
LENGTH = b"content-length:"
FINISH = b"[DONE]"


@dataclass(slots=True)
class _Stream:
    """A stream that has begun: what to write for one event, and where to."""

    transport: asyncio.Transport
    token: bytes


class LockStep:
    """The provider for any number of systems. Use it as a context, inside a running loop; `port` is its port.

    A request that asks for no stream is answered with `answer_bytes` of JSON at once.
    """

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}
        self._fills: dict[int, int] = {}
        self.port = 0
        self.answer_bytes(1000)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Provided(self), "127.0.0.1", 0, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    def answer_bytes(self, size: int) -> None:
        """How large an answer without a stream is, from the next one on."""
        self._answer = answer(Script(answer_bytes=size))

    async def streams(self, to: Running, count: int, *, content_bytes: int = 24) -> Streams:
        """That many streams through this system, all begun, with so much content in each event. Raises FailedError."""
        made = Streams(to.name, self)
        for _ in range(count):
            number = len(self._fills)
            self._fills[number] = content_bytes
            await made.begin(to, number)
        await made.end_of_batch()
        return made

    def asked(self, body: bytes, transport: asyncio.Transport) -> None:
        """One request of a system."""
        if (at := body.find(MARK)) < 0:
            transport.write(self._answer)
            return
        number = int(body[at + len(MARK) : body.find(b";", at)])
        fill = "." * self._fills[number]
        token = chunked(event(f'{{"content":"{MARK.decode()}{number};{fill}"}}', "null"))
        self._streams[number] = _Stream(transport, token)
        transport.write(STREAM_HEAD + token)

    def token(self, number: int) -> None:
        """Write this stream's next event."""
        stream = self._streams[number]
        stream.transport.write(stream.token)

    def end(self, number: int) -> None:
        self._streams.pop(number).transport.write(END)


class _Provided(asyncio.Protocol):
    """The provider's end of a connection: requests with a declared length, one after another."""

    def __init__(self, provider: LockStep) -> None:
        self._provider = provider
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        at = self._read.find(END_OF_HEADERS)
        if at < 0:
            return
        head = self._read[:at].lower()
        length = int(head[head.index(LENGTH) + len(LENGTH) :].split(b"\r\n", 1)[0])
        if len(self._read) >= at + 4 + length:
            body, self._read = self._read[at + 4 :], b""
            self._provider.asked(body, self._transport)


class Streams(Batch):
    """The streams through one system."""

    def __init__(self, name: str, provider: LockStep) -> None:
        super().__init__(name)
        self._provider = provider
        self._readers: dict[int, _Reader] = {}

    async def begin(self, to: Running, number: int) -> None:
        """One more, of this number, whose first event is on its way: `end_of_batch` waits for it."""
        text = f"{MARK.decode()}{number};" + "x" * SMALL_PROMPT
        body = f'{{"model":"{to.model}","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}'.encode()
        _, reader = await asyncio.get_running_loop().create_connection(
            lambda: _Reader(self._arrived, self.answered), "127.0.0.1", to.port
        )
        self._readers[number] = reader
        self.missing += 1
        reader.transport.write(request_to(to.port, to.path, body, to.headers))

    async def advance(self, chunks: int) -> None:
        """So many more events in all, each stream's next one when it has received the last. Raises FailedError."""
        self.begin_batch(chunks, at_once=len(self._readers))
        for number in list(self._readers)[:chunks]:
            self._provider.token(number)
        await self.end_of_batch()

    async def end(self) -> None:
        """Let all of them finish, then close their connections. Raises FailedError."""
        self.begin_batch(len(self._readers), at_once=len(self._readers))
        for number in self._readers:
            self._provider.end(number)
        await self.end_of_batch()
        for reader in self._readers.values():
            reader.transport.abort()
        self._readers.clear()

    def _arrived(self, number: int) -> None:
        if self.answered():
            self._provider.token(number)


class _Reader(asyncio.Protocol):
    """A client's end: it tells of each complete event, and of the stream's end."""

    def __init__(self, arrived: Callable[[int], None], ended: Callable[[], object]) -> None:
        self._arrived = arrived
        self._ended = ended
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while (stop := data.find(b"\n\n")) >= 0:
            at = data.find(MARK, 0, stop)
            if at >= 0:
                self._arrived(int(data[at + len(MARK) : data.find(b";", at)]))
            elif data.find(FINISH, 0, stop) >= 0:
                self._ended()
            data = data[stop + 2 :]
        self._rest = data
