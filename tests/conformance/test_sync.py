"""The SDKs' synchronous clients, from another thread: other transports, the same results."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from tests.conformance.calls import TURNS
from tests.conformance.sides import Pair, Side, normal


def of_openai(side: Side) -> Any:
    with openai.OpenAI(base_url=f"{side.url}/v1", api_key="key", max_retries=0) as client:
        whole = client.chat.completions.create(model=side.model("chat"), messages=TURNS)
        stream = client.chat.completions.create(model=side.model("chat"), messages=TURNS, stream=True)
        return [whole, list(stream), client.embeddings.create(model=side.model("embed"), input="a")]


def of_anthropic(side: Side) -> Any:
    asked: Any = {"model": side.model("assistant"), "max_tokens": 50, "messages": TURNS}
    with anthropic.Anthropic(base_url=side.url, api_key="key", max_retries=0) as client:
        with client.messages.stream(**asked) as stream:
            events = list(stream)
        return [client.messages.create(**asked), events]


def of_gemini(side: Side) -> Any:
    """Here the transport is httpx, not aiohttp."""
    client = genai.Client(api_key="key", http_options=types.HttpOptions(base_url=side.url))
    try:
        model = side.model("vision")
        whole = client.models.generate_content(model=model, contents="hello you")
        return [whole, list(client.models.generate_content_stream(model=model, contents="hello you"))]
    finally:
        client.close()


@pytest.mark.parametrize("script", [of_openai, of_anthropic, of_gemini], ids=lambda script: script.__name__)
async def test_same(pair: Pair, script: Any) -> None:
    direct = normal(await asyncio.to_thread(script, pair.direct))
    assert normal(await asyncio.to_thread(script, pair.proxied)) == direct
