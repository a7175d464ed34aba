"""WebSockets beyond what the SDKs' happy path shows: refusals, frames of any kind, and how each side's end is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import WSMsgType, web

from tests.conformance.sides import MEANING, NAMED, Pair, end_to_end, ours, pins
from tests.harness import Running, sidecar, until


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_a_refused_upgrade_is_the_provider_s_answer(pair: Pair, status: int) -> None:
    """Before anything is accepted: the same status, headers and body as without us."""
    headers = {"x-fake-fault": f"status={status}; retry-after=3", "authorization": "Bearer k"}
    seen = []
    async with aiohttp.ClientSession() as http:
        for side in (pair.direct, pair.proxied):
            url = f"{side.url}/v1/realtime?model={side.model('live')}&x=%20"
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
            async with http.get(url, headers=headers | upgrade | key) as answer:
                raw = [(name.decode(), value.decode()) for name, value in answer.raw_headers]
                seen.append((answer.status, end_to_end(raw), await answer.read()))
    assert seen[0] == seen[1]
    records = [side.provider.ledger.requests[0] for side in (pair.direct, pair.proxied)]
    assert (records[0].path, records[0].query) == (records[1].path, records[1].query)


async def test_the_sdk_raises_the_same(pair: Pair) -> None:
    async def script(sdk: openai.AsyncOpenAI, model: Any) -> Any:
        headers = {"x-fake-fault": "status=429"}
        try:
            async with sdk.realtime.connect(model=model("live"), extra_headers=headers):
                raise AssertionError("it was not refused")
        except Exception as exc:  # noqa: BLE001 - told, and compared
            return type(exc).__qualname__, str(exc)

    direct, proxied = await pair.play("openai", script)
    assert proxied.result == direct.result


@pytest.mark.parametrize("fault", ["cut=1", "eof=1", "malformed=1", "error=1"])
async def test_a_turn_that_breaks(pair: Pair, fault: str) -> None:
    """It never looks complete; a provider's own `error` event comes through as it is."""
    async with aiohttp.ClientSession() as http:
        for side in (pair.direct, pair.proxied):
            async with http.ws_connect(f"{side.url}/v1/responses", headers={"x-fake-fault": fault}) as socket:
                await socket.send_json({"type": "response.create", "model": side.model("chat"), "input": "x"})
                kinds, closed = [], None
                async for message in socket:
                    if message.type is not WSMsgType.TEXT:
                        break
                    kinds.append(message.json()["type"])
                    if kinds[-1] == "error":
                        break
                closed = socket.close_code
            assert "response.completed" not in kinds
            assert kinds.count("response.output_text.delta") == 1
            assert ("error" in kinds) is (fault == "error=1")
            assert closed != 1000 or fault in ("error=1", "eof=1")


async def test_a_model_that_leads_nowhere_is_refused_in_a_frame_and_the_socket_goes_on(pair: Pair) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{pair.proxied.url}/v1/responses") as socket,
    ):
        await socket.send_json({"type": "response.create", "model": "no.such", "input": "x"})
        refused = await socket.receive_json()
        assert (refused["type"], refused["error"]["code"]) == ("error", "sidecar_unknown_model")
        await socket.send_json({"type": "response.create", "model": "chat", "input": "x"})
        assert (await socket.receive_json())["type"] == "response.created"


class Echo:
    """A provider whose sockets send back what they get, but for words that tell them to end."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.closed: list[int | None] = []
        self.ended = 0
        self.pings: list[bytes] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append((request.raw_path, dict(request.headers)))
        socket = web.WebSocketResponse(protocols=("odd", "realtime"), autoping=False, max_msg_size=0, compress=False)
        await socket.prepare(request)
        async for message in socket:
            match message.type:
                case WSMsgType.TEXT if message.data == "close":
                    await socket.close(code=4321, message="güte".encode())
                case WSMsgType.TEXT if message.data == "drop":
                    request.transport.abort()
                case WSMsgType.TEXT:
                    await socket.send_str(message.data)
                case WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
                case WSMsgType.PING:
                    self.pings.append(message.data)
                    await socket.pong(message.data)
        self.closed.append(socket.close_code)
        self.ended += 1
        return socket


@asynccontextmanager
async def echoing(tmp_path: Path) -> AsyncIterator[tuple[Running, Echo]]:
    echo = Echo()
    server = web.Server(echo.handle, handler_cancellation=True)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        async with sidecar(tmp_path, {"openai": base}, pins=pins(("openai",))) as running:
            yield running, echo
    finally:
        listener.close()
        await server.shutdown(0.1)


async def test_frames_of_any_kind_cross_unchanged(tmp_path: Path) -> None:
    texts = ["", "ü😀", '{"model":"chat"}', ' {"type" : "ping", "model":"chat"} ', "{", "x" * 1_000_000]
    async with echoing(tmp_path) as (running, echo), aiohttp.ClientSession() as http:
        url = f"{running.url}/v1/realtime?a=%20b&model=live&model_=chat"
        headers = {"X-Twice": "1", "x-sidecar-unit": "u", "Authorization": "Bearer k"}
        async with http.ws_connect(url, protocols=["realtime"], headers=headers, autoping=False, max_msg_size=0) as ws:
            assert ws.protocol == "realtime"
            assert ours([(name, value) for name, value in ws._response.headers.items()]) == NAMED
            for text in texts:
                await ws.send_str(text)
                assert (await ws.receive()).data == text
            for size in (0, 1, 125, 126, 65_536, 1_000_000):
                await ws.send_bytes(bytes(size))
                assert (await ws.receive()).data == bytes(size)
            await ws.ping(b"are you there")
            pong = await ws.receive()
            assert (pong.type, bytes(pong.data)) == (WSMsgType.PONG, b"are you there")
    path, sent = echo.seen[0]
    assert path == f"/v1/realtime?a=%20b&model={MEANING['live']}&model_=chat"
    assert sent["Sec-WebSocket-Protocol"] == "realtime"
    assert (sent["X-Twice"], sent["Authorization"]) == ("1", "Bearer k")
    assert not [name for name in sent if name.lower().startswith("x-sidecar-")]


async def test_the_provider_s_close_code_reaches_the_client(tmp_path: Path) -> None:
    async with (
        echoing(tmp_path) as (running, _),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{running.url}/v1/realtime?model=live") as ws,
    ):
        await ws.send_str("close")
        message = await ws.receive()
    assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4321, "güte")


async def test_the_client_s_close_code_reaches_the_provider(tmp_path: Path) -> None:
    async with echoing(tmp_path) as (running, echo), aiohttp.ClientSession() as http:
        ws = await http.ws_connect(f"{running.url}/v1/realtime?model=live")
        await ws.close(code=4567, message=b"enough")
        await until(lambda: echo.ended, 1)
    assert echo.closed == [4567]


async def test_a_dropped_provider_is_not_a_normal_end(tmp_path: Path) -> None:
    async with echoing(tmp_path) as (running, _), aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{running.url}/v1/realtime?model=live") as ws:
            await ws.send_str("drop")
            message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)
        assert (await running.event())["attempts"][0]["outcome"] == "failed"


async def test_usage_of_all_turns_is_counted(pair: Pair, proxy: Running) -> None:
    provider = pair.proxied.provider
    async with (
        openai.AsyncOpenAI(base_url=f"{pair.proxied.url}/v1", api_key="k") as client,
        client.responses.connect() as socket,
    ):
        for _ in range(2):
            await socket.send({"type": "response.create", "model": "chat", "input": "hi"})
            async for event in socket:
                if event.type == "response.completed":
                    break
    event = await proxy.event()
    totals = provider.ledger.totals[MEANING["chat"]]
    assert (event["tokens_prompt"], event["tokens_completion"]) == (totals.prompt_tokens, totals.completion_tokens)
    assert (event["pin"], event["model_id"]) == ("chat", MEANING["chat"])
