"""How long the end of a stream is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.harness import Running, sidecar

PINS = """
version: 1
generation: 1
unlisted: reject
defaults: {timeouts: {idle: 3s}}
models: {gpt-5.4-2025-11-02: {provider: openai}}
pins: {chat.core: {stable: gpt-5.4-2025-11-02}}
"""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FINISH = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
BODY = {"model": "chat.core", "stream": True, "stream_options": {"include_usage": True}, "messages": []}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def serving(folder: Path, *sends: bytes | float, hold: bool) -> AsyncIterator[Running]:
    """A provider that sends these pieces (numbers are pauses in seconds) and then holds the connection, or closes."""
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in sends:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)
        if hold:
            await released.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with sidecar(folder, {"openai": f"http://127.0.0.1:{port}/v1"}, pins=PINS) as proxy:
        yield proxy
        released.set()
    server.close()


async def asked(proxy: Running) -> bytes:
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as http,
        http.post(f"{proxy.url}/v1/chat/completions", json=BODY) as answer,
    ):
        return await answer.read()


async def test_usage_that_comes_long_after_the_finish_reason_still_arrives(tmp_path: Path) -> None:
    pieces = [HEAD + chunk(FINISH), 1.5, chunk(USAGE + DONE) + b"0\r\n\r\n"]
    async with serving(tmp_path, *pieces, hold=False) as proxy:
        assert await asked(proxy) == FINISH + USAGE + DONE
        assert (await proxy.event())["tokens_prompt"] == 3


async def test_a_connection_held_open_after_the_end_is_not_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + chunk(FINISH + DONE), hold=True) as proxy:
        assert await asked(proxy) == FINISH + DONE
        assert (await proxy.event())["error"] is None


async def test_a_complete_stream_without_its_end_mark_is_complete_after_the_idle_limit(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + chunk(FINISH), hold=True) as proxy:
        assert await asked(proxy) == FINISH
        assert (await proxy.event())["error"] is None
