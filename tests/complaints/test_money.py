"""Complaints about counting and limits: 6, 10, 12 of the field study (§3). The long version is tests/money."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sidecar.provider import FakeProvider
from tests.complaints.kit import CLAUDE, GEMINI, GPT, SSE_HEAD, TURNS, Scene, asked, chunk, data, faked, pins, scripted

BUDGET = (
    "price: {input: 10, cached_input: 1, cache_write: 20, output: 100}, "
    "budget: {input_tokens_per_minute: 1000000, output_tokens_per_minute: 1000000, usd_per_day: 1000}"
)
PINS = pins(
    f"  chat: {{stable: {GPT}}}\n  claude: {{stable: {CLAUDE}}}\n  gemini: {{stable: {GEMINI}}}",
    models={GPT: BUDGET, CLAUDE: BUDGET, GEMINI: BUDGET},
)


def piece(text: str, usage: Any = None, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": GPT, "choices": [choice], "usage": usage}


OPENAI_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 50,
    "total_tokens": 1050,
    "prompt_tokens_details": {"cached_tokens": 600},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
CLAUDE_START = {"input_tokens": 100, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 700}


def claude(start: dict[str, int], *deltas: int) -> list[bytes]:
    message = {"id": "m", "type": "message", "role": "assistant", "model": CLAUDE, "content": []}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
    out = [data({"type": "message_start", "message": message | {"usage": start | {"output_tokens": 1}}})]
    out.append(data(text))
    for count in deltas:
        out.append(data({"type": "message_delta", "delta": {}, "usage": {"output_tokens": count}}))
    return [*out, data({"type": "message_stop"})]


def gemini(output: int, finish: str | None = None) -> bytes:
    candidate = {"index": 0, "content": {"parts": [{"text": "hi"}]}} | ({"finishReason": finish} if finish else {})
    usage = {"promptTokenCount": 1000, "candidatesTokenCount": output, "thoughtsTokenCount": 20}
    usage |= {"cachedContentTokenCount": 600, "totalTokenCount": 1020 + output}
    return data({"candidates": [candidate], "usageMetadata": usage, "modelVersion": GEMINI})


@dataclass(frozen=True)
class Recorded:
    """A stream, and what it costs by hand: input, output, and USD at 10 / 1 cached / 20 written / 100 a million."""

    model: str
    path: str
    body: dict[str, Any]
    events: list[bytes]
    input: int
    output: int
    usd: float


CHAT = {"model": "chat", "messages": TURNS, "stream": True, "stream_options": {"include_usage": True}}
RECORDED = {
    "usage in a chunk of its own": Recorded(
        GPT, "/v1/chat/completions", CHAT,
        [data(piece("a")), data(piece("", finish="stop")),
         data({"object": "chat.completion.chunk", "choices": [], "usage": OPENAI_USAGE}), data("[DONE]")],
        1000, 50, (400 * 10 + 600 * 1 + 50 * 100) / 1e6,
    ),
    "usage in a chunk with choices": Recorded(
        GPT, "/v1/chat/completions", CHAT,
        [data(piece("a")), data(piece("b", OPENAI_USAGE, "stop")), data("[DONE]")],
        1000, 50, (400 * 10 + 600 * 1 + 50 * 100) / 1e6,
    ),
    "usage that grows from chunk to chunk": Recorded(
        GPT, "/v1/chat/completions", CHAT,
        [data(piece("a", OPENAI_USAGE | {"completion_tokens": 9})), data(piece("b", OPENAI_USAGE, "stop")),
         data("[DONE]")],
        1000, 50, (400 * 10 + 600 * 1 + 50 * 100) / 1e6,
    ),
    "responses": Recorded(
        GPT, "/v1/responses", {"model": "chat", "input": "hi", "stream": True, "store": False},
        [data({"type": "response.output_text.delta", "delta": "hi"}),
         data({"type": "response.completed", "response": {"status": "completed", "model": GPT, "usage": {
             "input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050,
             "input_tokens_details": {"cached_tokens": 600}}}})],
        1000, 50, (400 * 10 + 600 * 1 + 50 * 100) / 1e6,
    ),
    "anthropic, cumulative, cached outside input": Recorded(
        CLAUDE, "/v1/messages", {"model": "claude", "max_tokens": 99, "messages": TURNS, "stream": True},
        claude(CLAUDE_START, 10, 30, 50), 1000, 50, (100 * 10 + 700 * 1 + 200 * 20 + 50 * 100) / 1e6,
    ),
    "gemini, repeated, thoughts outside candidates": Recorded(
        GEMINI, "/v1beta/models/gemini:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "hi"}]}]},
        [gemini(10), gemini(20), gemini(30, "STOP")], 1000, 50, (400 * 10 + 600 * 1 + 50 * 100) / 1e6,
    ),
}  # fmt: skip


def used(scene: Scene, model: str) -> dict[str, float]:
    levels = scene.shared.state.ledger.levels(scene.shared.now(), [("model", model)])
    return {level.limit: level.used for level in levels}


@pytest.mark.parametrize("name", RECORDED)
async def test_06_streamed_usage_is_counted_by_class(tmp_path: Path, name: str) -> None:
    recorded = RECORDED[name]
    async with scripted(tmp_path, PINS) as (scene, upstream):
        upstream.says(SSE_HEAD, *(chunk(event) for event in recorded.events), b"0\r\n\r\n")
        got = await scene.post(recorded.body, recorded.path, anthropic_version="2023-06-01")
        assert (got.status, got.body) == (200, b"".join(recorded.events))
        await scene.idle()
        event = await scene.running.event()
        assert (event["tokens_prompt"], event["tokens_completion"]) == (recorded.input, recorded.output)
        assert event["cost_usd"] == pytest.approx(recorded.usd)
        books = used(scene, recorded.model)
        assert books["input_tokens_per_minute"] == recorded.input
        assert books["output_tokens_per_minute"] == recorded.output
        assert books["usd_per_day"] == pytest.approx(recorded.usd)


async def test_10_two_hundred_callers_do_not_overshoot_a_limit(provider: FakeProvider, tmp_path: Path) -> None:
    """200 at once, 50 tokens each, 1,000 allowed: twenty get in, and nothing of the rest reaches the provider."""
    text = pins(f"  chat: {{stable: {GPT}}}", models={GPT: "budget: {output_tokens_per_minute: 1000}"})
    async with faked(tmp_path, provider, text) as scene:
        body = {"model": "chat", "messages": TURNS, "max_tokens": 50}
        headers = {"x_fake_tokens": "50"}
        answers = await asyncio.gather(*(scene.post(body, fault="delay=100ms", **headers) for _ in range(200)))
        assert Counter(a.status for a in answers) == {200: 20, 429: 180}
        assert len(asked(provider)) == 20
        assert {a.headers["x-sidecar-error"] for a in answers if a.status == 429} == {"sidecar_budget_exceeded"}


async def test_12_a_refused_request_consumes_nothing_of_any_limit(provider: FakeProvider, tmp_path: Path) -> None:
    budget = "budget: {requests_per_minute: 3, input_tokens_per_minute: 400}"
    text = pins(f"  chat: {{stable: {GPT}, budget: {{requests_per_minute: 3}}}}", models={GPT: budget})
    async with faked(tmp_path, provider, text) as scene:
        small = {"model": "chat", "messages": TURNS}
        large = {"model": "chat", "messages": [{"role": "user", "content": "x" * 1950}]}
        assert (await scene.post(small)).status == 200
        for _ in range(5):
            assert (await scene.post(large)).status == 429, "too many tokens for what is left"
        assert used(scene, GPT)["requests_per_minute"] == 1
        assert [(await scene.post(small)).status for _ in range(3)] == [200, 200, 429]
        assert len(asked(provider)) == 3
