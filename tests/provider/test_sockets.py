"""Responses and Realtime over WebSockets, under the official SDK."""

import aiohttp
import pytest

from sidecar.provider import FakeProvider


async def _turn(connection, last: str) -> list:
    events = []
    async for event in connection:
        events.append(event)
        if event.type == last:
            break
    return events


async def test_responses_socket(openai_sdk, provider: FakeProvider):
    async with openai_sdk.responses.connect() as connection:
        for model in ("gpt-a", "gpt-b"):
            await connection.send({"type": "response.create", "model": model, "input": "hi"})
            events = await _turn(connection, "response.completed")
            assert events[0].type == "response.created"
            assert events[-1].response.output[0].content[0].text == f"Hello from {model}: hi"
    assert {model: totals.completion_tokens for model, totals in provider.ledger.totals.items()} == {
        "gpt-a": 4,
        "gpt-b": 4,
    }


async def test_responses_socket_refuses_and_goes_on(http):
    async with http.ws_connect("/v1/responses") as socket:
        await socket.send_json({"type": "response.create", "input": "no model"})
        assert (await socket.receive_json())["error"]["param"] == "model"
        await socket.send_str("not json")
        assert (await socket.receive_json())["error"]["code"] == "invalid_json"
        await socket.send_json({"type": "response.create", "model": "m", "input": "x", "stream_id": "lane"})
        assert (await socket.receive_json())["stream_id"] == "lane"


async def test_realtime(openai_sdk, provider: FakeProvider):
    async with openai_sdk.realtime.connect(model="gpt-live") as connection:
        assert (await connection.recv()).session.model == "gpt-live"
        await connection.session.update(session={"type": "realtime", "instructions": "be short"})
        assert (await connection.recv()).session.instructions == "be short"
        said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "say hi"}]}
        await connection.conversation.item.create(item=said)
        await connection.response.create()
        events = await _turn(connection, "response.done")
    done = events[-1].response
    assert done.output[0].content[0].text == "Hello from gpt-live: say hi"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta").endswith("say hi")
    assert provider.ledger.totals["gpt-live"].completion_tokens == done.usage.output_tokens == 5
    assert provider.ledger.totals["gpt-live"].prompt_tokens == done.usage.input_tokens


async def test_realtime_cancel(http):
    async with http.ws_connect("/v1/realtime?model=m", headers={"x-fake-fault": "gap=20ms"}) as socket:
        await socket.receive_json()
        await socket.send_json({"type": "response.create"})
        while (await socket.receive_json())["type"] != "response.output_text.delta":
            pass
        await socket.send_json({"type": "response.cancel"})
        while (event := await socket.receive_json())["type"] != "response.done":
            pass
    assert event["response"]["status"] == "cancelled"


async def test_refused_handshake(http):
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect("/v1/realtime?model=m", headers={"x-fake-fault": "status=429"})
    assert caught.value.status == 429


@pytest.mark.parametrize(
    ("fault", "outcome"), [("cut=1", "cut"), ("eof=1", "cut"), ("malformed=1", "cut"), ("error=1", "failed")]
)
async def test_broken_turn(http, provider, eventually, fault, outcome):
    async with http.ws_connect("/v1/responses", headers={"x-fake-fault": fault}) as socket:
        await socket.send_json({"type": "response.create", "model": "m", "input": "x"})
        kinds = []
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            kinds.append(message.json()["type"])
            if kinds[-1] == "error":
                break
    assert kinds.count("response.output_text.delta") == 1
    assert "response.completed" not in kinds
    await eventually(lambda: provider.ledger.open == 0)
    assert provider.ledger.requests[-1].outcome == outcome
    assert provider.ledger.totals["m"].completion_tokens == 1


async def test_leaving_stops_the_turn(http, provider, eventually):
    socket = await http.ws_connect(
        "/v1/realtime?model=m", headers={"x-fake-fault": "gap=20ms", "x-fake-tokens": "1000"}
    )
    await socket.send_json({"type": "response.create"})
    while (await socket.receive_json())["type"] != "response.output_text.delta":
        pass
    socket._response.close()
    await eventually(lambda: provider.ledger.open == 0)
    assert provider.ledger.aborted == 1
    assert provider.ledger.totals["m"].completion_tokens < 20


async def test_script_per_turn(http, provider):
    provider.script([{"match": {"model": "bad-*"}, "fault": "status=503"}])
    async with http.ws_connect("/v1/responses") as socket:
        await socket.send_json({"type": "response.create", "model": "bad-1", "input": "x"})
        assert (await socket.receive_json())["status"] == 503
        await socket.send_json({"type": "response.create", "model": "good-1", "input": "x"})
        assert (await socket.receive_json())["type"] == "response.created"
