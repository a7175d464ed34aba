"""The provider behind all that is measured: it does what its script says, however requests arrive."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest

from benchmarks.caller import Target, request_to
from benchmarks.load import closed, streams
from benchmarks.provider import Connection, Provider, Script, answer


@asynccontextmanager
async def running(script: Script | None = None) -> AsyncIterator[tuple[Provider, int]]:
    provider = Provider()
    provider.set(script or Script())
    server = await asyncio.get_running_loop().create_server(lambda: Connection(provider), "127.0.0.1", 0)
    yield provider, server.sockets[0].getsockname()[1]
    server.close()


async def asked(port: int, *parts: bytes, pause_s: float = 0.0) -> tuple[bytes, bytes]:
    """Head and body of the answer to a request that comes in these parts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause_s)
    head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
    else:
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
    writer.close()
    return head, body


def post(body: dict[str, object]) -> bytes:
    return request_to(1, "/v1/chat/completions", json.dumps(body).encode())


@pytest.mark.parametrize("size", [400, 1000, 50_000])
async def test_a_plain_answer_has_the_size_that_the_script_says(size: int) -> None:
    async with running(Script(answer_bytes=size)) as (_, port):
        _, body = await asked(port, post({"model": "m"}))
    assert abs(len(body) - size) < 10
    assert json.loads(body)["usage"]["total_tokens"] == 300


async def test_a_stream_has_as_many_events_each_with_the_time() -> None:
    before = time.monotonic_ns()
    async with running(Script(chunks=5, gap_ms=2)) as (provider, port):
        head, body = await asked(port, post({"stream": True}))
    events = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    assert b"text/event-stream" in head
    assert events[-1] == b"[DONE]"
    contents = [c["delta"].get("content", "") for e in events[:-1] for c in json.loads(e)["choices"]]
    stamps = [int(found[1]) for text in contents if (found := re.match(r"t=(\d+);", text))]
    assert len(stamps) == 6  # the first comes with the beginning
    assert provider.chunks == 5
    assert before < stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] - stamps[0] > 5e6


async def test_events_come_apart() -> None:
    """What is measured is the cost of an event: the provider must not put two of them into one write."""
    async with running(Script(chunks=20, gap_ms=15)) as (_, port):
        tally = await streams(Target(port, post({"stream": True})), concurrent=1)
    assert tally.chunks == 21
    assert tally.reads > 15


@pytest.mark.parametrize("form", [{"stream": True}, {"a": 1, "stream": True, "b": 2}])
async def test_a_stream_is_asked_for_with_or_without_spaces(form: dict[str, object]) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        async with running(Script(chunks=1, gap_ms=1)) as (_, port):
            made = request_to(1, "/", json.dumps(form, separators=separators).encode())
            head, _ = await asked(port, made)
            assert b"event-stream" in head


async def test_a_request_may_come_in_pieces() -> None:
    whole = post({"model": "m", "text": "x" * 50})
    async with running() as (provider, port):
        for cut in range(1, len(whole), 23):
            _, body = await asked(port, whole[:cut], whole[cut:], pause_s=0.002)
            assert json.loads(body)["object"] == "chat.completion"
    assert provider.requests == len(range(1, len(whole), 23))


async def test_a_body_may_come_in_chunks() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running(Script(chunks=1, gap_ms=1)) as (_, port):
        told, _ = await asked(port, head, b'f\r\n{"stream":true}\r\n', b"0\r\n\r\n", pause_s=0.002)
    assert b"event-stream" in told


async def test_many_requests_on_one_connection() -> None:
    async with running() as (provider, port):
        tally = await closed(Target(port, post({"model": "m"})), connections=1, requests=100)
    assert (tally.done, provider.requests) == (100, 100)


async def test_the_script_is_put_and_the_ledger_tells() -> None:
    script = Script(answer_bytes=700, chunks=3, gap_ms=1)
    async with running() as (provider, port):
        put = json.dumps(asdict(script)).encode()
        await asked(port, b"PUT /bench/script HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(put), put))
        assert provider.script == script
        await asked(port, post({}))
        _, told = await asked(port, b"GET /bench/ledger HTTP/1.1\r\n\r\n")
    ledger = json.loads(told)
    assert (ledger["requests"], ledger["script"]["answer_bytes"]) == (1, 700)


async def test_a_first_event_and_then_silence() -> None:
    async with running(Script(chunks=2, gap_ms=3_600_000)) as (provider, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post({"stream": True}))
        await reader.readuntil(b"t=")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readuntil(b"\n\ndata: [DONE]"), 0.1)
        assert provider.open == 1
        writer.transport.abort()
        for _ in range(100):
            if provider.open == 0:
                break
            await asyncio.sleep(0.01)
        assert provider.open == 0


async def test_an_answer_may_take_its_time() -> None:
    async with running(Script(delay_ms=80)) as (_, port):
        begun = time.monotonic()
        await asked(port, post({}))
        assert time.monotonic() - begun > 0.07


def test_other_questions_are_answered_too() -> None:
    async def health() -> bytes:
        async with running() as (_, port):
            return (await asked(port, b"GET /health HTTP/1.1\r\n\r\n"))[1]

    assert asyncio.run(health()) == b"{}"


def test_an_answer_has_its_length_in_its_head() -> None:
    head, _, body = answer(Script()).partition(b"\r\n\r\n")
    assert int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]) == len(body)
