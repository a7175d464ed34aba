"""One connection of a load: it sends a request, reads the answer to its end, and writes down what it saw.

Bytes are made beforehand and answers are searched, not parsed, so that the load costs less than what it measures.
Decides when an answer is complete and whether it counts. Does not decide when requests are sent: see `load`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns, perf_counter
from typing import cast

END_OF_HEADERS = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
STAMP = b"t="
LONGEST_STAMP = 24  # "t=", 19 digits and ";", and some
UNIQUE = b"#unique#"
"""What stands in a prompt for a number that differs in each request."""


@dataclass(slots=True)
class Tally:
    """What a load saw. Times in seconds.

    `first_s`: until the first stamped event of each stream; `chunk_s`: how long each later one was on its way.
    `due_s` is when the request of each `latency_s` was due, on the clock of `perf_counter`. `reads` counts reads from
    the socket that held stamped events: with one event each there are as many of them as `chunks`.
    """

    latency_s: list[float] = field(default_factory=list)
    due_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    chunk_s: list[float] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    chunks: int = 0
    reads: int = 0
    seconds: float = 0.0
    last_failure: str = ""

    def fail(self, how: str, times: int = 1) -> None:
        self.failed += times
        self.last_failure = how


class Target:
    """Where a load goes: a port of this machine, and the bytes of a request, made by `request_to`.

    Where these hold `UNIQUE`, each request has a number of its own there, so that no cache knows it.
    """

    __slots__ = ("_head", "_is_unique", "_tail", "port")
    sent = 0  # of all targets: a number is used once

    def __init__(self, port: int, request: bytes) -> None:
        self.port = port
        self._head, _, self._tail = request.partition(UNIQUE)
        self._is_unique = UNIQUE in request

    @property
    def template(self) -> bytes:
        """The bytes with `UNIQUE` in them, for a load of another make."""
        return self._head + (UNIQUE if self._is_unique else b"") + self._tail

    def request(self) -> bytes:
        if not self._is_unique:
            return self._head
        Target.sent += 1
        return b"%b%0*d%b" % (self._head, len(UNIQUE), Target.sent, self._tail)


def request_to(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of one POST, as an SDK sends it."""
    given = {
        "Host": f"127.0.0.1:{port}",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/Python 3.54.0",
        "Authorization": "Bearer sk-bench",
        "X-Stainless-Lang": "python",
        "X-Stainless-Retry-Count": "0",
        "X-Stainless-Read-Timeout": "600",
        "Content-Length": str(len(body)),
    } | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Caller(asyncio.Protocol):
    """One connection that sends a request when told and tells when its answer is complete.

    `done(caller)` is called when the answer is in the tally, as a success or a failure; the caller can be used again
    if it is still `alive`. A stream's stamped events are read as they arrive.
    """

    def __init__(self, tally: Tally, done: Callable[[Caller], None], *, streams: bool = False) -> None:
        self._tally = tally
        self._done = done
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self._reset()

    def _reset(self) -> None:
        self._buffer = b""
        self._missing = -1  # bytes until the end; -1: not known, it ends with the last chunk
        self._in_body = False
        self._is_first = True
        self._is_last = False  # the server closes after this answer
        self._cut = b""  # the beginning of a stamp whose end is still to come

    @property
    def alive(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        if self._busy:
            self._fail(f"the connection was lost: {exc}")

    def send(self, request: bytes, due: float) -> None:
        """`due`: when it should have been sent, on the clock of `perf_counter`."""
        assert self._transport is not None
        self._busy, self._due = True, due
        self._reset()
        self._transport.write(request)

    def abort(self) -> None:
        self._busy = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            return
        if not self._in_body:
            self._buffer += data
            at = self._buffer.find(END_OF_HEADERS)
            if at < 0:
                return
            head = self._buffer[:at].lower()
            if not head.startswith(b"http/1.1 200"):
                self._fail(self._buffer[:400].decode("latin-1"))
                return
            self._in_body = True
            self._is_last = b"\r\nconnection: close" in head
            mark = head.find(b"\r\ncontent-length:")
            if mark >= 0:
                self._missing = int(head[mark + 17 :].split(b"\r\n", 1)[0])
            data = self._buffer[at + 4 :]
            self._buffer = b""
        if self._streams:
            self._stamps(data)
        if self._missing >= 0:
            self._missing -= len(data)
            ended = self._missing <= 0
        else:
            self._buffer = (self._buffer + data)[-5:]
            ended = self._buffer == LAST_CHUNK
        if ended:
            self._end()

    def _end(self) -> None:
        self._busy = False
        self._tally.done += 1
        self._tally.latency_s.append(perf_counter() - self._due)
        self._tally.due_s.append(self._due)
        if self._is_last:
            self.abort()
        self._done(self)

    def _stamps(self, data: bytes) -> None:
        now = monotonic_ns()
        before = self._tally.chunks
        data = self._cut + data
        self._cut = b""
        at = data.find(STAMP)
        while at >= 0:
            stop = data.find(b";", at, at + LONGEST_STAMP)
            stamp = data[at + 2 : stop]
            if stop > 0 and stamp.isdigit():
                self._tally.chunks += 1
                if self._is_first:
                    self._is_first = False
                    self._tally.first_s.append(now / 1e9 - self._due)  # both clocks are the kernel's monotonic one
                else:
                    self._tally.chunk_s.append((now - int(stamp)) / 1e9)
            elif stop < 0 and len(data) - at < LONGEST_STAMP:
                self._cut = data[at:]
                break
            at = data.find(STAMP, at + 2)
        else:
            if data.endswith(STAMP[:1]):
                self._cut = STAMP[:1]
        self._tally.reads += self._tally.chunks > before

    def _fail(self, how: str) -> None:
        self._tally.fail(how)
        self.abort()
        self._done(self)


async def connect(port: int, make: Callable[[], Caller]) -> Caller:
    """Raises OSError."""
    _, caller = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    return caller
