"""The guarded pool, where tests/faults doesn't reach: a malformed chunk in a segment of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.harness import sidecar

PINS = """
version: 1
generation: 1
unlisted: reject
models: {gpt-5.4-2025-11-02: {provider: openai}}
pins: {chat.core: {stable: gpt-5.4-2025-11-02}}
"""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


@pytest.mark.parametrize("bad", [b"zz\r\n", b"5\r\nabcdeXX", b"-1\r\n"])
async def test_a_malformed_chunk_never_leaves_the_client_waiting(tmp_path: Path, bad: bytes) -> None:
    """aiohttp's client tells only who waits for headers; whoever reads the body would wait for the idle limit."""
    hold = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
        await writer.drain()
        await asyncio.sleep(0.1)  # a segment of its own
        writer.write(bad)
        await hold.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    body = {"model": "chat.core", "stream": True, "messages": []}
    async with sidecar(tmp_path, {"openai": f"http://127.0.0.1:{port}/v1"}, pins=PINS) as proxy:
        async with (
            asyncio.timeout(10),
            aiohttp.ClientSession() as http,
            http.post(f"{proxy.url}/v1/chat/completions", json=body) as answer,
        ):
            text = await answer.text()
        assert "sidecar_stream_interrupted" in text
        hold.set()
    server.close()
