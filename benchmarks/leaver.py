"""A client that may go away at any moment of an answer, as people do who close a window.

Unlike `caller.Caller` it measures nothing: a soak has millions of answers.
"""

from __future__ import annotations

import asyncio
from typing import cast

from benchmarks.caller import END_OF_HEADERS, LAST_CHUNK


class Client(asyncio.Protocol):
    """One connection. `ended` is called with a status once an answer is whole, and with 0 if the connection is lost.

    `leave_after`: go away once that many pieces of the answer have come.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[int] | None = None
        self.leave_after: int | None = None

    @property
    def alive(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        del exc
        self._transport = None
        self._end(0)

    def send(self, request: bytes) -> asyncio.Future[int]:
        assert self._transport is not None
        self._head, self._status, self._missing = b"", 0, -1
        self.answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self.answer

    def leave(self, *, rudely: bool) -> None:
        """Close the connection: with a reset, or with what it takes to say goodbye."""
        transport, self._transport = self._transport, None
        if transport is not None:
            (transport.abort if rudely else transport.close)()

    def data_received(self, data: bytes) -> None:
        if self.leave_after is not None:
            self.leave_after -= 1
            if self.leave_after <= 0:
                self.leave(rudely=len(data) % 2 == 0)
                return
        if not self._status:
            self._head += data
            at = self._head.find(END_OF_HEADERS)
            if at < 0:
                return
            head, data = self._head[:at].lower(), self._head[at + 4 :]
            self._head = b""
            self._status = int(head[9:12])
            mark = head.find(b"content-length:")
            if mark >= 0:
                self._missing = int(head[mark + 15 :].split(b"\r\n", 1)[0])
        if self._missing >= 0:
            self._missing -= len(data)
            if self._missing <= 0:
                self._end(self._status)
        else:
            self._head = (self._head + data)[-5:]
            if self._head == LAST_CHUNK:
                self._end(self._status)

    def _end(self, status: int) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(status)
