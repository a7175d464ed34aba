"""One running fake provider a test, the official SDKs on it, and a raw socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from sidecar.provider import FakeProvider

CHAT = {"model": "gpt-test-1", "messages": [{"role": "user", "content": "one two three four"}]}


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        yield running


@pytest.fixture
async def http(provider: FakeProvider) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(provider.url, auto_decompress=False) as session:
        yield session


@pytest.fixture
async def openai_sdk(provider: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_sdk(provider: FakeProvider) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="key", max_retries=0) as client:
        yield client


RawPost = Callable[..., Awaitable[tuple[bytes, bool]]]


@pytest.fixture
def raw_post(provider: FakeProvider) -> RawPost:
    """Posts over a bare socket; returns all bytes received and whether the end was a reset."""

    async def post(path: str, body: Any, *headers: str, until: bytes | None = None) -> tuple[bytes, bool]:
        reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
        data = json.dumps(body).encode()
        head = [f"POST {path} HTTP/1.1", "host: fake", "connection: close", f"content-length: {len(data)}", *headers]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
        received, was_reset = b"", False
        try:
            while until is None or until not in received:
                chunk = await reader.read(65536)
                if not chunk:
                    break
                received += chunk
        except ConnectionResetError:
            was_reset = True
        writer.close()
        return received, was_reset

    return post


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds, at most one second."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(1):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def chat() -> dict[str, Any]:
    return dict(CHAT)
