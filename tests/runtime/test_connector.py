"""The guarded pool, where tests/faults doesn't reach: a malformed chunk in a segment of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.faults.stage import staged
from tests.faults.upstream import Step
from tests.faults.wire import chat, chunked
from tests.harness import ONE_PIN

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


@pytest.mark.parametrize("bad", [b"zz\r\n", b"5\r\nabcdeXX", b"-1\r\n"])
async def test_a_malformed_chunk_never_leaves_the_client_waiting(tmp_path: Path, bad: bytes) -> None:
    """aiohttp's client tells only who waits for headers; whoever reads the body would wait for the idle limit."""
    async with staged(tmp_path, pins=ONE_PIN) as stage:  # with the default idle limit, a minute
        stage.upstream.says(HEAD + chunked(EVENT, last=False), 0.1, bad, Step.HANG)
        url = f"{stage.running.url}/v1/chat/completions"
        async with (
            asyncio.timeout(10),
            aiohttp.ClientSession() as http,
            http.post(url, json=chat(stream=True)) as answer,
        ):
            text = await answer.text()
        assert "sidecar_stream_interrupted" in text
