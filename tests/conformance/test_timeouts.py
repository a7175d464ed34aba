"""Each limit of a request, and that a slow but steady stream meets none of them."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from sidecar.provider import FakeProvider
from tests.conformance import wire
from tests.conformance.calls import STREAMED
from tests.conformance.conftest import bases
from tests.conformance.sides import CLIENTS, pins
from tests.harness import Running, sidecar, until

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
STREAM = CHAT | {"stream": True}
ONCE = STREAM | {"model": "once"}  # where no other attempt may follow, events pass before the first useful one
LIMIT_MS = 300
AT_MOST_S = 10 * LIMIT_MS / 1000


@asynccontextmanager
async def limited(tmp_path: Path, provider: FakeProvider, **timeouts: str) -> AsyncIterator[Running]:
    """A sidecar whose pins have these timeouts."""
    section = f"{{timeouts: {json.dumps(timeouts)}}}"
    async with sidecar(tmp_path, bases(provider), pins=pins(defaults=section)) as running:
        yield running


async def ask(running: Running, body: Any, **headers: str) -> tuple[int, str, str | None, float]:
    """Status, text, `x-sidecar-error` and the seconds it took."""
    began = time.monotonic()
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        text = await answer.text()
    return answer.status, text, answer.headers.get("x-sidecar-error"), time.monotonic() - began


TOO_LATE = [  # the limit, the request, the fault, and whether it is over before anything was committed
    ("first_event", CHAT, "delay=9s", True),
    ("first_event", STREAM, "delay=9s", True),
    ("first_event", CHAT, "first=9s", True),
    ("first_event", STREAM, "first=9s", True),
    ("first_event", STREAM, "first=9s; ping", True),
    ("first_event", ONCE, "first=9s", False),
    ("first_event", ONCE, "first=9s; ping", False),
    ("idle", CHAT, "stall=0", True),
    ("idle", CHAT, "stall=1", True),
    ("idle", STREAM, "stall=1", False),
    ("content_idle", STREAM, "stall=1", False),
    ("total", CHAT, "delay=9s", True),
    ("total", STREAM, "gap=20ms", False),
]


@pytest.mark.parametrize(("limit", "body", "fault", "before"), TOO_LATE)
async def test_a_limit_that_runs_out(
    provider: FakeProvider, tmp_path: Path, limit: str, body: Any, fault: str, before: bool
) -> None:
    async with limited(tmp_path, provider, **{limit: f"{LIMIT_MS}ms"}) as running:
        status, text, error, took_s = await ask(running, body, **{"x-fake-fault": fault, "x-fake-tokens": "999"})
        assert LIMIT_MS / 1000 <= took_s < AT_MOST_S
        code = "sidecar_upstream_timeout" if before else "sidecar_stream_interrupted"
        assert (status, error) == ((504, code) if before else (200, None))
        assert json.loads(text.removesuffix("\n\n").rpartition("data: ")[2])["error"]["code"] == code
        assert "[DONE]" not in text
        event = await running.event()
        assert (event["error"], event["attempts"][-1]["fault"]) == (code, "timeout")
    await until(lambda: provider.ledger.open == 0, 1)


SDK_ERRORS = {"openai": "APIError", "anthropic": "APIStatusError", "gemini": "ServerError"}


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize(("sdk", "name"), [(kind, name) for name, (kind, _) in STREAMED.items()])
async def test_sdks_raise_when_a_stream_stalls(provider: FakeProvider, tmp_path: Path, sdk: str, name: str) -> None:
    async def ignore(_: Any) -> None:
        pass

    async with (
        limited(tmp_path, provider, idle=f"{LIMIT_MS}ms") as running,
        CLIENTS[sdk](running.url, ignore) as client,
    ):
        with pytest.raises(Exception, match="took too long") as caught:
            await STREAMED[name][1](client, lambda pin: pin, **{"x-fake-fault": "stall=1"})
    assert type(caught.value).__name__ == SDK_ERRORS[sdk]


async def test_slow_but_steady_is_never_cut(provider: FakeProvider, tmp_path: Path) -> None:
    """Every single wait is within its limit, all of them together aren't."""
    limits = dict.fromkeys(("first_event", "idle", "content_idle"), f"{LIMIT_MS}ms")
    async with limited(tmp_path, provider, **limits) as running:
        headers = {"x-fake-fault": "gap=150ms", "x-fake-tokens": "6", "x-stainless-read-timeout": "0.3"}
        status, text, _, took_s = await ask(running, STREAM, **headers)
    assert status == 200
    assert text.endswith("[DONE]\n\n")
    assert took_s > 2 * LIMIT_MS / 1000


async def test_pings_hold_off_the_idle_limit(provider: FakeProvider, tmp_path: Path) -> None:
    async with limited(tmp_path, provider, idle=f"{LIMIT_MS}ms") as running:
        status, text, _, _ = await ask(running, STREAM, **{"x-fake-fault": "first=700ms; ping"})
    assert status == 200
    assert text.endswith("[DONE]\n\n")


READ_TIMEOUTS = [  # of the caller, the fault, and what it gets
    ("0.3", CHAT, "delay=9s", "sidecar_upstream_timeout"),
    ("0.3", STREAM, "delay=9s", "sidecar_upstream_timeout"),
    ("0.3", STREAM, "stall=1", "sidecar_stream_interrupted"),
    ("0.3", CHAT, "stall=1", "sidecar_upstream_timeout"),
]


@pytest.mark.parametrize(("timeout", "body", "fault", "code"), READ_TIMEOUTS)
async def test_the_callers_read_timeout(proxy: Running, timeout: str, body: Any, fault: str, code: str) -> None:
    headers = {"x-fake-fault": fault, "x-stainless-read-timeout": timeout}
    status, text, _, took_s = await ask(proxy, body, **headers)
    assert status == (504 if code.endswith("timeout") else 200)
    assert code in text
    assert LIMIT_MS / 1000 <= took_s < AT_MOST_S


@pytest.mark.parametrize(
    "timeout", ["", "0", "-1", "nan", "inf", "1e400", "soon", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
async def test_a_read_timeout_that_says_nothing(proxy: Running, timeout: str) -> None:
    status, _, _, _ = await ask(proxy, CHAT, **{"x-stainless-read-timeout": timeout})
    assert status == 200


async def test_a_patient_caller_waits_longer_than_our_default_but_not_than_a_stated_limit(
    provider: FakeProvider, tmp_path: Path
) -> None:
    async with limited(tmp_path, provider, first_event=f"{LIMIT_MS}ms") as running:
        headers = {"x-fake-fault": "delay=9s", "x-stainless-read-timeout": "600"}
        status, _, _, took_s = await ask(running, CHAT, **headers)
    assert status == 504
    assert took_s < AT_MOST_S


async def test_the_sdk_s_own_timeout(proxy: Running, provider: FakeProvider) -> None:
    """The SDK tells its timeout; whichever of us is first, it raises, and the provider's work ends."""
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="key", max_retries=0, timeout=0.3) as client:
        with pytest.raises((openai.APITimeoutError, openai.InternalServerError)):
            await client.chat.completions.create(**CHAT, extra_headers={"x-fake-fault": "delay=9s"})
    await until(lambda: provider.ledger.open == 0, 1)


async def test_connect(tmp_path: Path) -> None:
    """A provider whose backlog is full: nothing answers our SYN."""
    with socket.socket() as full, socket.socket() as taker:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        taker.connect(full.getsockname())
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        section = f"{{timeouts: {{connect: {LIMIT_MS}ms}}}}"
        base = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        async with sidecar(tmp_path, {"openai": base}, pins=pins(("openai",), defaults=section)) as running:
            status, _, error, took_s = await ask(running, CHAT)
        for other in others:
            other.close()
    assert (status, error) == (504, "sidecar_upstream_timeout")
    assert took_s < AT_MOST_S


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


async def dribble(tmp_path: Path, play: Callable[[asyncio.StreamWriter], Awaitable[None]], **timeouts: str) -> str:
    """The answer to a stream that the provider plays by itself."""
    section = f"{{timeouts: {json.dumps(timeouts)}}}"
    async with (
        wire.provider_of_bytes(play) as provider,
        sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=pins(("openai",), defaults=section)) as running,
    ):
        status, text, _, took_s = await ask(running, STREAM)
    assert status == 200
    assert took_s < AT_MOST_S
    return text


async def test_pings_do_not_hold_off_the_content_idle_limit(tmp_path: Path) -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + CHUNK)
        for _ in range(100):
            writer.write(b": ping\n\n")
            await asyncio.sleep(0.05)

    text = await dribble(tmp_path, play, content_idle=f"{LIMIT_MS}ms", idle="9s")
    assert "content idle" in text
    assert text.count(": ping") >= 4


async def test_a_complete_stream_needs_no_clean_end(tmp_path: Path) -> None:
    """`[DONE]` came; a connection that then stays open, or breaks, is no failure."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + CHUNK + b"data: [DONE]\n\n")
        await asyncio.sleep(9)

    text = await dribble(tmp_path, play)
    assert text == (CHUNK + b"data: [DONE]\n\n").decode()


async def test_write_stall(provider: FakeProvider, tmp_path: Path) -> None:
    """A client that takes nothing is left; the provider stops at once, and nobody blames it."""
    async with limited(tmp_path, provider, write_stall=f"{LIMIT_MS}ms") as running:
        body = json.dumps(STREAM).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1)
        writer.transport.pause_reading()
        fault = "x-fake-tokens: 999999\r\n"
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{fault}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await until(lambda: provider.ledger.requests)
        await until(lambda: provider.ledger.open == 0, AT_MOST_S)
        event = await running.event()
        assert event["attempts"][-1]["outcome"] == "client_gone"
        writer.close()
    assert provider.ledger.requests[0].outcome == "client_gone"


async def test_write_stall_of_a_whole_answer(provider: FakeProvider, tmp_path: Path) -> None:
    """Held whole and larger than a socket takes: whoever doesn't read it is left, too."""
    async with limited(tmp_path, provider, write_stall=f"{LIMIT_MS}ms") as running:
        body = json.dumps(STREAM | {"stream": False}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1)
        writer.transport.pause_reading()
        fault = "x-fake-fault: large=7000000\r\n"
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{fault}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        event = await running.event()
        assert event["error"] == "client_gone"
        assert event["latency_ms"] >= LIMIT_MS
        writer.close()
