"""The first slice: one request, whole and streamed, with its account."""

from __future__ import annotations

import aiohttp

from sidecar.provider import FakeProvider
from tests.harness import Running

BODY = {"model": "chat.core", "messages": [{"role": "user", "content": "hi"}]}


async def test_whole(proxy: Running, provider: FakeProvider) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{proxy.url}/v1/chat/completions", json=BODY) as answer:
        assert answer.status == 200
        said = await answer.json()
    assert said["model"] == "gpt-5.4-2025-11-02"
    assert answer.headers["x-sidecar-model"] == "gpt-5.4-2025-11-02"
    assert answer.headers["x-sidecar-pin"] == "chat.core"
    assert answer.headers["x-sidecar-variant"] == "stable"
    assert answer.headers["x-sidecar-attempts"] == "1"
    assert answer.headers["x-sidecar-cache"] == "off"
    assert answer.headers["x-sidecar-generation"] == "7"
    event = await proxy.event()
    assert event["request_id"] == answer.headers["x-sidecar-request-id"]
    assert (event["model_id"], event["status"], event["error"]) == ("gpt-5.4-2025-11-02", 200, None)
    assert event["tokens_prompt"] == said["usage"]["prompt_tokens"]
    assert [a["outcome"] for a in event["attempts"]] == ["ok"]


async def test_streamed_usage_is_metered_and_hidden(proxy: Running) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{proxy.url}/v1/chat/completions", json=BODY | {"stream": True}) as answer,
    ):
        text = await answer.text()
    assert text.endswith("data: [DONE]\n\n")
    assert '"choices":[]' not in text
    event = await proxy.event()
    assert event["stream"] is True
    assert event["tokens_prompt"] > 0
    assert event["tokens_completion"] > 0
    assert event["ttft_ms"] is not None


async def test_first_token_is_timed_where_it_comes_after_the_first_chunk(proxy: Running) -> None:
    """With one attempt nothing is held, so the stream is committed at its first chunk, which carries only the role."""
    async with (
        aiohttp.ClientSession(headers={"x-fake-fault": "gap=30ms"}) as http,
        http.post(f"{proxy.url}/v1/chat/completions", json=BODY | {"stream": True}) as answer,
    ):
        await answer.read()
    event = await proxy.event()
    assert event["attempts"][0]["ttft_ms"] == event["ttft_ms"]
    assert 0 < event["ttft_ms"] < event["latency_ms"]


async def test_the_connection_of_an_interrupted_stream_serves_the_next_request(proxy: Running) -> None:
    """Closing it unannounced would fail whatever the client sends on it next, and a POST isn't sent again."""
    url = f"{proxy.url}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        for _ in range(3):
            async with http.post(url, json=BODY | {"stream": True}, headers={"x-fake-fault": "cut=1"}) as broken:
                assert "sidecar_stream_interrupted" in await broken.text()
            async with http.post(url, json=BODY) as answer:
                assert answer.status == 200
