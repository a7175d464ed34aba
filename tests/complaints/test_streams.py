"""Complaints about bytes, clocks and errors of answers: 15, 16, 17, 18 of the field study (§3)."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from sidecar.provider import FakeProvider
from tests.complaints.kit import CLAUDE, GEMINI, GPT, SSE_HEAD, TURNS, Scene, chunk, data, faked, pins, scripted

LIMITS = "timeouts: {first_event: 300ms, idle: 300ms, content_idle: 300ms}"
PINS = pins(f"""
  chat: {{stable: {GPT}, max_attempts: 1}}
  claude: {{stable: {CLAUDE}, max_attempts: 1}}
  gemini: {{stable: {GEMINI}, max_attempts: 1}}
  hasty: {{stable: {GPT}, max_attempts: 2, {LIMITS}}}
  hasty-claude: {{stable: {CLAUDE}, max_attempts: 2, {LIMITS}}}
  hasty-gemini: {{stable: {GEMINI}, max_attempts: 2, {LIMITS}}}
""")
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def piece(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


async def test_15_a_stream_split_anywhere_arrives_as_it_was(tmp_path: Path) -> None:
    """At each byte: inside characters of four bytes, between CR and LF, inside a field of several `data:` lines."""
    text = json.dumps(piece("a\U0001f600\u00fc"), ensure_ascii=False).encode()
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
    stream = (
        b": hello\n\n" + b"data: " + text + b"\r\n\r\n" + b'data: {"choices":\ndata: []}\n\n' + data(finish)
    ) + data("[DONE]")
    body = {"model": "chat", "messages": TURNS, "stream": True, "stream_options": {"include_usage": True}}
    async with scripted(tmp_path, PINS) as (scene, upstream):
        for at in range(1, len(stream)):
            upstream.says(SSE_HEAD, chunk(stream[:at]), 0.0005, chunk(stream[at:]) + b"0\r\n\r\n")
            got = await scene.post(body)
            assert got.body == stream, f"split at {at}"
        count = len(stream) - 1
        await scene.running.event(count=count)
        counted = {(e["tokens_prompt"], e["tokens_completion"], e["error"]) for e in scene.running.events()}
        assert counted == {(5, 2, None)}


async def test_16_pings_alone_do_not_keep_a_stream_alive(provider: FakeProvider, tmp_path: Path) -> None:
    async with faked(tmp_path, provider, PINS) as scene:
        began = time.monotonic()
        got = await scene.chat("hasty", "first=10s;ping", stream=True)
        assert time.monotonic() - began < 3
        assert (got.status, got.headers["x-sidecar-error"]) == (504, "sidecar_upstream_timeout")


async def test_16_nor_after_its_first_words(tmp_path: Path) -> None:
    async with scripted(tmp_path, PINS) as (scene, upstream):
        pings = [part for _ in range(60) for part in (chunk(b": ping\n\n"), 0.05)]
        upstream.says(SSE_HEAD, chunk(data(piece("hi"))), *pings)
        began = time.monotonic()
        got = await scene.chat("hasty", stream=True)
        assert time.monotonic() - began < 3
        assert got.status == 200
        assert "sidecar_stream_interrupted" in got.text


async def test_16_a_long_healthy_stream_is_not_cut(provider: FakeProvider, tmp_path: Path) -> None:
    """Slow and steady, far beyond the limits for its first event and its pauses: 1.5 s where they are 300 ms."""
    async with faked(tmp_path, provider, PINS) as scene:
        got = await scene.chat("hasty", "gap=100ms", stream=True, x_fake_tokens="15")
        assert (got.status, got.broken) == (200, False)
        assert got.text.rstrip().endswith("[DONE]")


ENDS = {
    "openai": ("/v1/chat/completions", {"model": "chat", "messages": TURNS, "stream": True}),
    "responses": ("/v1/responses", {"model": "chat", "input": "hi", "stream": True, "store": False}),
    "anthropic": ("/v1/messages", {"model": "claude", "max_tokens": 99, "messages": TURNS, "stream": True}),
    "gemini": ("/v1beta/models/gemini:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "hi"}]}]}),
}


@pytest.mark.parametrize("dialect", ENDS)
async def test_16_a_stream_without_its_end_never_looks_complete(
    provider: FakeProvider, tmp_path: Path, dialect: str
) -> None:
    path, body = ENDS[dialect]
    async with faked(tmp_path, provider, PINS) as scene:
        got = await scene.post(body, path, fault="gap=2ms;eof=2", anthropic_version="2023-06-01")
        assert got.broken or "sidecar_stream_interrupted" in got.text or '"error"' in got.text
        event = await scene.running.event()
        assert event["error"] == "sidecar_stream_interrupted"
        assert event["attempts"][-1]["outcome"] == "failed"


BEFORE = [
    *(f"status={status}" for status in (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)),
    "status=429;retry-after=1",
    "status=429;code=insufficient_quota",
    "retired",
    "cut=headers",
    "delay=5s",
    "first=5s",
]
STREAMS = [*BEFORE, "cut=0", "malformed=0", "eof=0", "stall=0", "first=5s;ping"]
WHOLE = [*BEFORE, "cut=body", "malformed=1", "stall=1", "slow-body=5s"]
CALLS = {
    "openai": ("/v1/chat/completions", {"model": "hasty", "messages": TURNS}),
    "anthropic": ("/v1/messages", {"model": "hasty-claude", "max_tokens": 99, "messages": TURNS}),
    "gemini": ("/v1beta/models/hasty-gemini:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
}


def is_error(dialect: str, body: bytes) -> bool:
    """Whether it is an error in the dialect's envelope, which the SDKs read."""
    said = json.loads(body)
    error = said["error"]
    match dialect:
        case "openai":
            return bool(error["message"]) and "type" in error and "code" in error
        case "anthropic":
            return bool(said["type"] == "error" and error["type"] and error["message"])
        case _:
            return bool(error["code"] >= 400 and error["status"] and error["message"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CALLS)
async def test_17_a_failure_is_never_a_200(provider: FakeProvider, tmp_path: Path, dialect: str, stream: bool) -> None:
    path, body = CALLS[dialect]
    if stream:
        path = path.replace("generateContent", "streamGenerateContent?alt=sse")
        body = body if dialect == "gemini" else body | {"stream": True}
    async with faked(tmp_path, provider, PINS) as scene:
        for fault in STREAMS if stream else WHOLE:
            got = await scene.post(body, path, fault=fault, anthropic_version="2023-06-01")
            assert got.status >= 400, fault
            assert is_error(dialect, got.body), fault


async def test_17_a_body_of_null_is_the_providers_own(tmp_path: Path) -> None:
    """We never make one: what the provider said in a 200 passes as it is, byte for byte."""
    null = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\nnull"
    async with scripted(tmp_path, PINS) as (scene, upstream):
        upstream.says(null)
        got = await scene.chat("chat")
        assert (got.status, got.body) == (200, b"null")


async def raised(scene_or_url: Scene | str, provider: FakeProvider, sdk: str, fault: str) -> Any:
    """What an SDK raises, direct or through us."""
    through = isinstance(scene_or_url, Scene)
    url = scene_or_url.running.url if isinstance(scene_or_url, Scene) else scene_or_url
    headers = {"x-fake-fault": fault}
    if sdk == "openai":
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="k", max_retries=0, default_headers=headers
        ) as client:
            with pytest.raises(openai.APIError) as caught:
                await client.chat.completions.create(model="chat" if through else GPT, messages=TURNS)
            return caught.value
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0, default_headers=headers) as other:
        with pytest.raises(anthropic.APIError) as found:
            await other.messages.create(model="claude" if through else CLAUDE, max_tokens=9, messages=TURNS)
        return found.value


def _unnumbered(body: object) -> str:
    """The fake provider numbers its requests."""
    return re.sub(r"fake\d+", "fake", repr(body))


KEPT_HEADERS = ("retry-after", "retry-after-ms", "request-id", "x-request-id", "x-should-retry")


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_18_sdks_raise_the_same_as_without_us(provider: FakeProvider, tmp_path: Path, sdk: str) -> None:
    statuses = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)
    async with faked(tmp_path, provider, PINS) as scene:
        for status in statuses:
            fault = f"status={status};retry-after=7;retry-after-ms=7000"
            ours, direct = await raised(scene, provider, sdk, fault), await raised(provider.url, provider, sdk, fault)
            assert type(ours) is type(direct), status
            assert ours.status_code == direct.status_code == status
            assert _unnumbered(ours.body) == _unnumbered(direct.body)
            for name in [*KEPT_HEADERS, *(n for n in direct.response.headers if "ratelimit" in n)]:
                same = (ours.response.headers.get(name) is None) == (direct.response.headers.get(name) is None)
                assert same, f"{status} {name}"
