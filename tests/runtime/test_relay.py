"""How long the end of a stream is waited for."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp

from tests.faults.stage import Stage, staged
from tests.faults.upstream import Step
from tests.faults.wire import chat, chunked
from tests.harness import ONE_PIN

PINS = ONE_PIN + "defaults: {timeouts: {idle: 3s}}\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FINISH = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
BODY = chat(stream=True, stream_options={"include_usage": True})


def here(folder: Path) -> AbstractAsyncContextManager[Stage]:
    return staged(folder, pins=PINS)


async def asked(stage: Stage) -> bytes:
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as http,
        http.post(f"{stage.running.url}/v1/chat/completions", json=BODY) as answer,
    ):
        return await answer.read()


async def test_usage_that_comes_long_after_the_finish_reason_still_arrives(tmp_path: Path) -> None:
    async with here(tmp_path) as stage:
        stage.upstream.says(HEAD + chunked(FINISH, last=False), 1.5, chunked(USAGE + DONE))
        assert await asked(stage) == FINISH + USAGE + DONE
        assert (await stage.running.event())["tokens_prompt"] == 3


async def test_a_connection_held_open_after_the_end_is_not_waited_for(tmp_path: Path) -> None:
    async with here(tmp_path) as stage:
        stage.upstream.says(HEAD + chunked(FINISH + DONE, last=False), Step.HANG)
        assert await asked(stage) == FINISH + DONE
        assert (await stage.running.event())["error"] is None


async def test_a_complete_stream_without_its_end_mark_is_complete_after_the_idle_limit(tmp_path: Path) -> None:
    async with here(tmp_path) as stage:
        stage.upstream.says(HEAD + chunked(FINISH, last=False), Step.HANG)
        assert await asked(stage) == FINISH
        assert (await stage.running.event())["error"] is None
