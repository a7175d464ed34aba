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
