"""The load itself: what it counts, from when, and what it does with servers that misbehave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from benchmarks import load
from benchmarks.caller import UNIQUE, Caller, Tally, Target, request_to

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@dataclass
class Server:
    """Answers each request by `answer(number, body)`; None closes the connection."""

    answer: Callable[[int, bytes], list[bytes] | None] = lambda number, body: [ANSWER]
    pause_s: float = 0.0  # between the parts of an answer
    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.bodies.append(body)
                parts = self.answer(len(self.bodies), body)
                if parts is None:
                    break
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(self.pause_s)
                if CLOSING in parts:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server, listening: list[asyncio.Server] | None = None) -> AsyncIterator[Target]:
    started = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    if listening is not None:
        listening.append(started)
    server.port = started.sockets[0].getsockname()[1]
    yield Target(server.port, request_to(server.port, "/v1", b'{"text":"' + UNIQUE + b'"}'))
    started.close()


def event(stamp: int) -> bytes:
    data = b'data: {"object":"x","content":"t=%d;..."}\n\n' % stamp
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_closed_sends_exactly_as_many_and_numbers_each() -> None:
    server = Server()
    async with serving(server) as target:
        tally = await load.closed(target, connections=4, requests=50)
    assert (tally.done, tally.failed, len(tally.latency_s), len(tally.due_s)) == (50, 0, 50, 50)
    assert server.connections == 4
    assert len(set(server.bodies)) == 50
    assert all(len(body) == len(server.bodies[0]) for body in server.bodies)


async def test_a_prompt_without_a_mark_stays_the_same() -> None:
    server = Server()
    async with serving(server):
        fixed = Target(server.port, request_to(server.port, "/v1", b"{}"))
        await load.closed(fixed, connections=2, requests=5)
    assert server.bodies == [b"{}"] * 5


async def test_a_connection_that_the_server_closes_after_an_answer_is_replaced() -> None:
    server = Server(lambda number, _: [CLOSING] if number % 3 == 0 else [ANSWER])
    async with serving(server) as target:
        tally = await load.closed(target, connections=2, requests=30)
    assert (tally.done, tally.failed) == (30, 0)
    assert server.connections > 10


async def test_closed_counts_failures_and_goes_on() -> None:
    refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
    server = Server(lambda number, _: [refused] if number == 5 else None if number == 9 else [ANSWER])
    async with serving(server) as target:
        tally = await load.closed(target, connections=2, requests=20)
    assert (tally.done, tally.failed) == (18, 2)
    assert "connection was lost" in tally.last_failure


async def test_closed_ends_where_nobody_listens_any_more() -> None:
    listening: list[asyncio.Server] = []

    def answer(number: int, _: bytes) -> list[bytes] | None:
        if number < 5:
            return [ANSWER]
        listening[0].close()
        return None

    async with serving(Server(answer), listening) as target:
        tally = await load.closed(target, connections=2, requests=1000)
    assert tally.done + tally.failed == 1000
    assert tally.done < 10
    with pytest.raises(OSError):
        await load.closed(target, connections=2, requests=1000)


@pytest.mark.parametrize("precise", [False, True])
def test_an_open_loop_counts_from_when_a_request_was_due(precise: bool) -> None:
    """A stall of 500 ms is felt by all that were due meanwhile, not by the one request that met it."""
    rate, seconds, stall_s = 200.0, 1.5, 0.5
    stalled: list[int] = []

    def answer(number: int, _: bytes) -> list[bytes]:
        if number == 100:
            stalled.append(number)
            time.sleep(stall_s)  # the whole server stands still
        return [ANSWER]

    tally = across_threads(
        Server(answer), lambda target: load.open_loop(target, rate_hz=rate, seconds=seconds), precise=precise
    )
    assert stalled
    assert tally.failed == 0
    assert tally.done == len(load.arrivals(rate, seconds, 1))
    late = sum(latency > stall_s / 5 for latency in tally.latency_s)
    expected = rate * stall_s * 4 / 5  # those due in the first 400 ms of it waited for longer than 100 ms
    assert late > expected / 2  # a closed loop would count 8 at most: one for each connection
    assert max(tally.latency_s) > stall_s * 0.9


def test_an_open_loop_keeps_its_rate_however_slow_the_answers() -> None:
    rate, seconds = 300.0, 1.0
    server = Server(lambda number, _: [ANSWER[:-1], ANSWER[-1:]], pause_s=0.2)
    tally = across_threads(server, lambda target: load.open_loop(target, rate_hz=rate, seconds=seconds))
    due = load.arrivals(rate, seconds, 1)
    assert tally.done == len(due)
    assert abs(len(due) - rate * seconds) < 0.3 * rate * seconds  # by chance
    first = min(tally.due_s)
    assert sorted(at - first for at in tally.due_s) == pytest.approx([at - due[0] for at in due], abs=1e-6)
    assert server.connections > 30  # 300/s of 200 ms each need 60 at once


def across_threads(server: Server, make: Callable[[Target], Awaitable[Tally]], *, precise: bool = False) -> Tally:
    """The server on a loop of its own: it may stand still without the load."""
    ready: list[Target] = []
    stop: list[Callable[[], None]] = []

    async def serve() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        async with serving(server) as target:
            ready.append(target)
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        while not ready:
            time.sleep(0.01)
        return load.run(lambda: make(ready[0]), precise=precise)
    finally:
        stop[0]()
        thread.join()


def test_arrivals_are_the_same_for_everyone() -> None:
    assert load.arrivals(100, 2, 7) == load.arrivals(100, 2, 7)
    assert load.arrivals(100, 2, 7) != load.arrivals(100, 2, 8)


async def test_requests_wait_for_a_connection_beyond_the_most() -> None:
    server = Server(lambda number, _: [ANSWER[:-1], ANSWER[-1:]], pause_s=0.01)
    async with serving(server) as target:
        tally = await load.open_loop(target, rate_hz=400, seconds=0.5, warm=1, most=3)
    assert tally.done == len(load.arrivals(400, 0.5, 1))
    assert server.connections == 3
    assert max(tally.latency_s) > 0.1  # what waited counts from when it was due


async def test_an_open_loop_goes_on_after_failures() -> None:
    server = Server(lambda number, _: None if number % 10 == 0 else [ANSWER])
    async with serving(server) as target:
        tally = await load.open_loop(target, rate_hz=200, seconds=0.5, warm=1, most=2)
    due = len(load.arrivals(200, 0.5, 1))
    assert tally.done + tally.failed == due
    assert tally.failed == due // 10


async def test_an_open_loop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE_S", 0.1)
    server = Server(lambda number, _: [ANSWER] if number < 5 else [])
    async with serving(server) as target:
        tally = await load.open_loop(target, rate_hz=100, seconds=0.3)
    due = len(load.arrivals(100, 0.3, 1))
    assert (tally.done, tally.failed) == (4, due - 4)
    assert "not answered" in tally.last_failure


async def test_streams_tell_how_long_each_event_was_on_its_way() -> None:
    server = Server(lambda number, _: [STREAM, *(event(time.monotonic_ns() - 10**9) for _ in range(4)), END])
    async with serving(server) as target:
        tally = await load.streams(target, concurrent=3, ramp_s=0.02)
    assert (tally.done, tally.failed, tally.chunks) == (3, 0, 12)
    assert (len(tally.first_s), len(tally.chunk_s)) == (3, 9)
    assert all(1.0 <= delay < 11 for delay in tally.chunk_s)  # written a second ago, they say


def fed(*reads: bytes) -> Tally:
    """What a caller makes of an answer that comes in these reads."""

    class Nowhere(asyncio.Transport):
        def write(self, data: object) -> None:
            pass

        def abort(self) -> None:
            pass

    tally = Tally()
    caller = Caller(tally, lambda _: None, streams=True)
    caller.connection_made(Nowhere())
    caller.send(b"", 0.0)
    for data in reads:
        caller.data_received(data)
    return tally


def test_events_are_counted_however_the_bytes_are_cut() -> None:
    whole = STREAM + b"".join(event(123456789 + n) for n in range(5)) + END
    for cut in range(1, len(whole)):
        tally = fed(whole[:cut], whole[cut:])
        assert (tally.chunks, tally.done, len(tally.first_s)) == (5, 1, 1), cut
    bytewise = fed(*(bytes([byte]) for byte in whole))
    assert (bytewise.chunks, bytewise.done) == (5, 1)


def test_reads_tell_whether_events_came_together() -> None:
    events = [event(1000 + n) for n in range(6)]
    alone = fed(STREAM, *events, END)
    assert (alone.chunks, alone.reads) == (6, 6)
    together = fed(STREAM, b"".join(events[:3]), b"".join(events[3:]), END)
    assert (together.chunks, together.reads) == (6, 2)


def test_what_looks_like_a_stamp_is_not_one() -> None:
    tally = fed(STREAM, b'e\r\n"object=t=1";t=\r\n' + event(5) + b"4\r\nt=x;\r\n", END)
    assert tally.chunks == 1


async def test_hold_keeps_streams_open_until_it_has_been_looked_at() -> None:
    server = Server(lambda number, _: [STREAM, event(time.monotonic_ns())])
    seen: list[int] = []
    async with serving(server) as target:
        tally = await load.hold(target, concurrent=120, held=lambda: seen.append(server.connections), at_once=50)
    assert seen == [120]
    assert (tally.chunks, tally.failed, tally.done) == (120, 0, 0)


async def test_hold_does_not_look_where_one_fails() -> None:
    server = Server(lambda number, _: None if number == 60 else [STREAM, event(1)])
    seen: list[int] = []
    async with serving(server) as target:
        tally = await load.hold(target, concurrent=120, held=lambda: seen.append(1), at_once=50)
    assert not seen
    assert tally.failed


def test_a_load_that_never_ends_is_ended() -> None:
    async def never() -> Tally:
        await asyncio.sleep(3600)
        return Tally()

    with pytest.raises(TimeoutError):
        load.run(never, limit_s=0.05)
