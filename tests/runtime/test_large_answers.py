"""Answers too large to be held: passed as they come, their usage read from their ends."""

from __future__ import annotations

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from sidecar.runtime.driver import HOLD_JSON_BYTES
from sidecar.runtime.stream import Ends
from tests.harness import Running


@pytest.mark.parametrize("name", ["chat.core", "vision"])
async def test_usage_is_read_at_the_end(proxy: Running, provider: FakeProvider, name: str) -> None:
    headers = {"x-fake-fault": f"large={HOLD_JSON_BYTES + 1000}"}
    path, body = "/v1/chat/completions", {"model": name, "messages": []}
    if name == "vision":
        path, body = "/v1beta/models/vision:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}
    async with aiohttp.ClientSession() as http, http.post(proxy.url + path, json=body, headers=headers) as answer:
        assert len(await answer.read()) > HOLD_JSON_BYTES
    event = await proxy.event()
    billed = provider.ledger.requests[-1]
    assert (event["tokens_prompt"], event["tokens_completion"]) == (billed.prompt_tokens, billed.completion_tokens)


async def test_a_json_array_stream_of_gemini_is_metered(proxy: Running, provider: FakeProvider) -> None:
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    url = f"{proxy.url}/v1beta/models/vision:streamGenerateContent"
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
        assert isinstance(await answer.json(), list)
    event = await proxy.event()
    assert event["tokens_completion"] == provider.ledger.requests[-1].completion_tokens > 0


def test_ends_keep_the_first_and_the_last_bytes() -> None:
    whole = bytes(range(256)) * 1000
    ends = Ends(whole[:10])
    for at in range(10, len(whole), 777):
        ends.feed(whole[at : at + 777])
    assert ends.head == whole[: Ends.HEAD_BYTES]
    assert ends.last == whole[-Ends.LAST_BYTES :]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fetched_response_is_not_counted_again(proxy: Running, stream: bool) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{proxy.url}/v1/responses", json={"model": "chat.core", "input": "hi"}) as answer:
            made = await answer.json()
        async with http.get(f"{proxy.url}/v1/responses/{made['id']}", params={"stream": str(stream).lower()}) as answer:
            await answer.read()
    fetched = await proxy.event(count=2)
    assert fetched["operation"] == "fetch_response"
    assert fetched["tokens_prompt"] is None
