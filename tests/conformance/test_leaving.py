"""A client that leaves, at whatever stage: the provider's work ends, nobody is blamed, nothing is left behind.

The promise is 100 ms on an idle machine (DESIGN 3.8); these tests allow ten times as much.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anthropic
import openai
import pytest

from sidecar.provider import FakeProvider
from tests.conformance.calls import TURNS
from tests.harness import Running, until

ALLOWED_S = 1.0
CHAT = {"model": "chat", "messages": TURNS}
STREAM = CHAT | {"stream": True}
ONCE = STREAM | {"model": "once"}  # where no other attempt may follow, events pass before the first useful one

# the path, the body, the fault, and what has come when the client leaves
STAGES = {
    "before headers, whole": ("chat/completions", CHAT, "delay=9s", b""),
    "before headers, streamed": ("chat/completions", STREAM, "delay=9s", b""),
    "waiting for a whole body": ("chat/completions", CHAT, "first=9s", b""),
    "in a whole body that is held": ("chat/completions", CHAT, "slow-body=9s", b""),
    "in a whole body that passes": ("audio/speech", {"model": "say", "input": "a"}, "slow-body=9s", b"audio/mpeg"),
    "before the first token, held": ("chat/completions", STREAM, "first=9s; ping", b""),
    "before the first token": ("chat/completions", ONCE, "first=9s", b"assistant"),
    "among pings": ("chat/completions", ONCE, "first=9s; ping", b": ping\n\n"),
    "mid-stream": ("chat/completions", STREAM, "gap=20ms", b'"content":"from '),
    "mid-stream of responses": ("responses", {"model": "chat", "input": "a", "stream": True}, "gap=20ms", b".delta"),
    "in a stalled stream": ("chat/completions", STREAM, "stall=1", b'"content":"Hello '),
    "an unknown path": ("odd", {}, "delay=9s", b""),
}


@asynccontextmanager
async def nothing_left(running: Running) -> AsyncIterator[None]:
    """After the block, soon: no request in flight, no buffer held, no connection in use, no task more than before."""
    shared = running.lifecycle.shared
    before = len(asyncio.all_tasks())
    yield
    await until(lambda: shared.in_flight == 0 and shared.buffers.used == 0 and not shared.watches, ALLOWED_S)
    connector = shared.upstream._session.connector
    await until(lambda: not connector._acquired, ALLOWED_S)
    await until(lambda: len(asyncio.all_tasks()) <= before, ALLOWED_S)


async def send(port: int, path: str, body: object, fault: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = [f"POST /v1/{path} HTTP/1.1", "Host: localhost", f"x-fake-fault: {fault}", "x-fake-tokens: 999"]
    writer.write("\r\n".join([*head, f"Content-Length: {len(data)}", "", ""]).encode() + data)
    return reader, writer


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage", STAGES)
async def test_leaving(proxy: Running, provider: FakeProvider, stage: str, how: str) -> None:
    path, body, fault, awaited = STAGES[stage]
    async with nothing_left(proxy):
        reader, writer = await send(proxy.port, path, body, fault)
        if awaited:
            await reader.readuntil(awaited)
        await until(lambda: provider.ledger.open == 1)
        writer.transport.abort() if how == "reset" else writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)
    assert provider.ledger.requests[0].outcome == "client_gone"
    event = await proxy.event()
    assert (event["error"], event["attempts"][-1]["outcome"]) == ("client_gone", "client_gone")
    assert event["attempts"][-1]["fault"] is None


async def test_leaving_between_two_attempts(proxy: Running, provider: FakeProvider) -> None:
    """The first one failed and the next one waits for its time: it is never launched."""
    shared = proxy.lifecycle.shared
    _, writer = await send(proxy.port, "chat/completions", CHAT, "status=503; retry-after=7")
    await until(lambda: provider.ledger.requests and provider.ledger.open == 0)
    await asyncio.sleep(0.05)  # the answer was read, and the next attempt is planned
    assert shared.in_flight == 1
    writer.close()
    await until(lambda: shared.in_flight == 0 and shared.buffers.used == 0 and not shared.watches, ALLOWED_S)
    event = await proxy.event()
    assert event["error"] == "client_gone"
    assert [(a["cause"], a["outcome"]) for a in event["attempts"]] == [("first", "failed")]
    assert len(provider.ledger.requests) == 1


async def test_leaving_while_the_body_is_sent(proxy: Running, provider: FakeProvider) -> None:
    """Nothing was asked yet, so nothing is asked."""
    async with nothing_left(proxy):
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{"model":')
        await until(lambda: proxy.lifecycle.shared.in_flight == 1)
        writer.close()
    assert not provider.ledger.requests


async def test_leaving_while_a_body_streams_through(proxy: Running, provider: FakeProvider) -> None:
    async with nothing_left(proxy):
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"POST /v1/odd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 100_000)
        await until(lambda: proxy.lifecycle.shared.in_flight == 1)
        await writer.drain()
        writer.close()
    assert not provider.ledger.requests


async def test_one_that_leaves_does_not_disturb_another(proxy: Running, provider: FakeProvider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="key", max_retries=0) as client:
        slow = {"x-fake-fault": "gap=20ms", "x-fake-tokens": "20"}
        stays = asyncio.create_task(client.chat.completions.create(**CHAT, extra_headers=slow))
        for _ in range(5):
            _, writer = await send(proxy.port, "chat/completions", STREAM, "gap=20ms")
            writer.transport.abort()
        answer = await stays
    assert answer.usage.completion_tokens == 20
    await until(lambda: provider.ledger.open == 0, ALLOWED_S)


async def test_openai_closes_a_stream(proxy: Running, provider: FakeProvider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="key", max_retries=0) as client:
        headers = {"x-fake-fault": "gap=20ms", "x-fake-tokens": "999"}
        stream = await client.chat.completions.create(**STREAM, extra_headers=headers)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)
    assert provider.ledger.requests[0].completion_tokens < 100


async def test_anthropic_leaves_a_stream_s_block(proxy: Running, provider: FakeProvider) -> None:
    async with anthropic.AsyncAnthropic(base_url=proxy.url, api_key="key", max_retries=0) as client:
        headers = {"x-fake-fault": "gap=20ms", "x-fake-tokens": "999"}
        asked = {"model": "assistant", "max_tokens": 999, "messages": TURNS, "extra_headers": headers}
        async with client.messages.stream(**asked) as stream:
            async for _ in stream.text_stream:
                break
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)
    assert provider.ledger.requests[0].outcome == "client_gone"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_task_leaves(proxy: Running, provider: FakeProvider, stream: bool) -> None:
    async with (
        nothing_left(proxy),
        openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k", max_retries=0) as client,
    ):
        headers = {"x-fake-fault": "delay=9s"}
        task = asyncio.create_task(client.chat.completions.create(**CHAT, stream=stream, extra_headers=headers))
        await until(lambda: provider.ledger.open == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)


async def test_leaving_a_socket_without_a_word(proxy: Running, provider: FakeProvider) -> None:
    async with nothing_left(proxy), openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client:
        headers = {"x-fake-fault": "gap=20ms", "x-fake-tokens": "999"}
        async with client.realtime.connect(model="live", extra_headers=headers) as socket:
            await socket.response.create()
            async for event in socket:
                if event.type == "response.output_text.delta":
                    break
            socket._connection.transport.abort()
            await until(lambda: provider.ledger.open == 0, ALLOWED_S)
    assert provider.ledger.requests[0].outcome == "client_gone"


async def test_leaving_a_socket_with_a_word(proxy: Running, provider: FakeProvider) -> None:
    async with nothing_left(proxy), openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client:
        async with client.responses.connect() as socket:
            await socket.send({"type": "response.create", "model": "chat", "input": "a"})
            await socket.recv()
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)
