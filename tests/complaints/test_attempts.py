"""Complaints about fallback, retries and cooldowns: 1, 2, 3, 4, 13, 14, 23 of the field study (§3)."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from sidecar.core.facts import Target
from sidecar.provider import FakeProvider
from tests.complaints.kit import (
    CLAUDE,
    GPT,
    HAIKU,
    LUNA,
    MINI,
    SSE_HEAD,
    TURNS,
    asked,
    chunk,
    data,
    faked,
    pins,
    rule,
    scripted,
)
from tests.faults import wire
from tests.harness import until

FALLS = pins(f"""
  chat: {{stable: {GPT}, fallback: [{MINI}], max_attempts: 2, timeouts: {{first_event: 800ms, idle: 300ms}}}}
  two: {{stable: {GPT}, fallback: [{MINI}, {LUNA}]}}
  claude: {{stable: {CLAUDE}, fallback: [{HAIKU}], max_attempts: 2}}
""")


def message(model: str) -> list[bytes]:
    """An Anthropic stream, event by event."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    start: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant", "model": model, "content": []}
    start |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"from {model}"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, block, delta]
    events += [{"type": "content_block_stop", "index": 0}, end | {"usage": {"output_tokens": 2}}]
    events += [{"type": "message_stop"}]
    return [data(event, event["type"]) for event in events]


async def test_01_an_overload_inside_a_200_falls_back_to_one_clean_stream(tmp_path: Path) -> None:
    overloaded = data({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
    async with scripted(tmp_path, FALLS) as (scene, upstream):
        upstream.says(SSE_HEAD, chunk(message(CLAUDE)[0]), 0.02, chunk(overloaded) + b"0\r\n\r\n")
        upstream.says(SSE_HEAD, *(chunk(event) for event in message(HAIKU)), b"0\r\n\r\n")
        async with anthropic.AsyncAnthropic(base_url=scene.running.url, api_key="k", max_retries=0) as sdk:
            stream = await sdk.messages.create(model="claude", max_tokens=9, messages=TURNS, stream=True)
            events = [event async for event in stream]
        assert [event.type for event in events].count("message_start") == 1
        assert events[0].type == "message_start"
        assert events[0].message.model == HAIKU
        assert events[-1].type == "message_stop"
        models = [json.loads(seen.body)["model"] for seen in upstream.seen]
        assert models == [CLAUDE, HAIKU]


@pytest.mark.parametrize("fault", ["cut=0", "first=5s;ping", "stall=0", "malformed=0", "eof=0"])
async def test_02_a_stream_that_dies_before_its_content_falls_back(
    provider: FakeProvider, tmp_path: Path, fault: str
) -> None:
    provider.script([rule(fault, GPT)])
    async with faked(tmp_path, provider, FALLS) as scene:
        began = time.monotonic()
        got = await scene.chat("chat", stream=True)
        assert (got.status, got.model, got.broken) == (200, MINI, False)
        assert time.monotonic() - began < 2, "within the limit for the first event"
        assert got.text.rstrip().endswith("[DONE]")
        assert GPT not in got.text
        assert asked(provider) == [GPT, MINI]


@pytest.mark.parametrize("fault", ["gap=5ms;cut=2", "gap=5ms;stall=2", "gap=5ms;malformed=2"])
async def test_02_one_that_dies_after_it_says_so_and_does_not(
    provider: FakeProvider, tmp_path: Path, fault: str
) -> None:
    provider.script([rule(fault, GPT)])
    async with faked(tmp_path, provider, FALLS) as scene:
        got = await scene.chat("chat", stream=True)
        assert "sidecar_stream_interrupted" in got.text or got.broken
        assert "[DONE]" not in got.text
        assert asked(provider) == [GPT]


async def test_03_nothing_is_ever_continued_after_the_first_content(provider: FakeProvider, tmp_path: Path) -> None:
    """Killed within a tool call's arguments: what came before equals the provider's bytes, then an error, no more."""
    city = {"type": "object", "properties": {"city": {"type": "string", "minLength": 40}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": city}}
    body = wire.chat("chat", stream=True, stream_options={"include_usage": True}, tools=[tool], tool_choice="required")
    provider.script([rule("gap=10ms;cut=3", GPT)])
    async with faked(tmp_path, provider, FALLS) as scene:
        ours = await wire.ask(scene.running.port, wire.post(body))
        direct = await wire.ask(provider.port, wire.post(body | {"model": GPT}))
        same, theirs = (re.sub(rb"fake\d+|\"created\":\d+", b"", answer.body) for answer in (ours, direct))
        assert b"arguments" in theirs
        assert same.startswith(theirs)
        rest = same[len(theirs) :]
        assert rest == b"" or json.loads(rest.removeprefix(b"data: "))["error"]["code"] == "sidecar_stream_interrupted"
        assert asked(provider) == [GPT, GPT], "one through us, one direct"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["status=503", "status=429;retry-after=99"])
async def test_04_fallback_off_is_off_for_streams_too(
    provider: FakeProvider, tmp_path: Path, stream: bool, fault: str
) -> None:
    provider.script([rule(fault, GPT)])
    async with faked(tmp_path, provider, FALLS) as scene:
        got = await scene.chat("chat", stream=stream, x_sidecar_fallback="off")
        assert got.status == int(fault[7:10])
        assert got.headers.get("x-sidecar-error") is None, "the provider's own error"
        assert MINI not in asked(provider)


async def test_13_attempts_do_not_multiply(provider: FakeProvider, tmp_path: Path) -> None:
    """Two fallbacks, three attempts in all, and an SDK in front that would try three times itself: three calls."""
    provider.script([rule("status=503")])
    async with (
        faked(tmp_path, provider, FALLS) as scene,
        openai.AsyncOpenAI(base_url=f"{scene.running.url}/v1", api_key="k", max_retries=2) as sdk,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="two", messages=TURNS)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert len(asked(provider)) == 3
        event = await scene.running.event()
        assert len(event["attempts"]) == 3


async def test_13_an_app_never_gets_fewer_tries_than_without_us(provider: FakeProvider, tmp_path: Path) -> None:
    """Where we tried once only, the SDK's own retries go on."""
    provider.script([rule("status=503", times=1)])
    text = pins(f"  chat: {{stable: {GPT}, max_attempts: 1}}")
    async with (
        faked(tmp_path, provider, text) as scene,
        openai.AsyncOpenAI(base_url=f"{scene.running.url}/v1", api_key="k", max_retries=2) as sdk,
    ):
        assert await sdk.chat.completions.create(model="chat", messages=TURNS)
        assert len(asked(provider)) == 2


BREAKER = "breaker: {failures: 3, minimum: 1000, cooldown: 300ms, max_cooldown: 300ms}"


async def test_14_a_shorter_cooldown_never_shortens_a_longer_one(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script([rule("status=429;retry-after=60", times=1), rule("status=429;retry-after=9")])
    text = pins(f"  chat: {{stable: {GPT}, max_attempts: 1}}", models={GPT: BREAKER})
    async with faked(tmp_path, provider, text) as scene:
        statuses = [(await scene.chat("chat")).status for _ in range(2)]
        assert statuses == [429, 429], "all open: the least bad is tried, not refused by us"
        breakers, target = scene.shared.state.breakers, Target("openai", GPT)
        assert breakers.reopens_at(target) - scene.shared.now() > 50
        assert breakers.state(target, scene.shared.now() + 20) == "open"


async def test_14_all_open_is_tried_all_the_same(provider: FakeProvider, tmp_path: Path) -> None:
    text = pins(f"  chat: {{stable: {GPT}, fallback: [{MINI}], max_attempts: 2}}", models={GPT: BREAKER, MINI: BREAKER})
    provider.script([rule("status=503")])
    async with faked(tmp_path, provider, text) as scene:
        breakers = scene.shared.state.breakers
        for _ in range(3):
            assert (await scene.chat("chat")).status == 503
        now = scene.shared.now()
        assert [breakers.state(Target("openai", m), now) for m in (GPT, MINI)] == ["open", "open"]
        provider.script([])
        assert (await scene.chat("chat")).status == 200


async def test_14_one_probe_at_a_time(provider: FakeProvider, tmp_path: Path) -> None:
    text = pins(f"  chat: {{stable: {GPT}, fallback: [{MINI}], max_attempts: 2}}", models={GPT: BREAKER})
    provider.script([rule("status=503", GPT)])
    async with faked(tmp_path, provider, text) as scene:
        breakers = scene.shared.state.breakers
        for _ in range(3):
            assert (await scene.chat("chat")).model == MINI
        provider.script([rule("delay=150ms", GPT)])
        await until(lambda: breakers.state(Target("openai", GPT), scene.shared.now()) == "half_open", 2.0)
        provider.ledger.reset()
        answers = await asyncio.gather(*(scene.chat("chat") for _ in range(8)))
        assert [a.status for a in answers] == [200] * 8
        assert asked(provider).count(GPT) == 1, "half-open: one probe, the others go elsewhere"


PATHS = {
    "primary": ("plain", [], GPT, "first"),
    "retry": ("plain", [rule("status=503", times=1)], GPT, "retry"),
    "fallback": ("two", [rule("status=503", GPT)], MINI, "fallback"),
    "hedge": ("hedged", [rule("delay=3s", GPT)], MINI, "hedge"),
}


@pytest.mark.parametrize("path", PATHS)
async def test_23_the_answer_names_the_model_that_served_it(provider: FakeProvider, tmp_path: Path, path: str) -> None:
    """Header, event and ledger say what the provider saw, and each attempt went through the budget."""
    pin, script, model, cause = PATHS[path]
    budget = "price: {input: 1, output: 1}, budget: {requests_per_minute: 99}"
    text = pins(
        f"""
  plain: {{stable: {GPT}}}
  two: {{stable: {GPT}, fallback: [{MINI}], max_attempts: 2}}
  hedged: {{stable: {GPT}, hedge: {{model: {MINI}, after: 20ms}}}}
""",
        models={GPT: budget, MINI: budget},
    )
    provider.script(script)
    async with faked(tmp_path, provider, text) as scene:
        got = await scene.chat(pin)
        assert (got.status, got.model) == (200, model)
        assert json.loads(got.body)["model"] == model, "the provider's own word"
        await scene.idle()
        event = await scene.running.event()
        assert event["model_id"] == model
        assert [a["model"] for a in event["attempts"]] == asked(provider)
        assert event["attempts"][-1]["cause"] == cause
        levels = scene.shared.state.ledger.levels(scene.shared.now())
        used = {level.account[1]: level.used for level in levels}
        assert used == {m: asked(provider).count(m) for m in (GPT, MINI)}


async def test_23_so_does_one_from_memory(provider: FakeProvider, tmp_path: Path) -> None:
    """Kept under the model that really served: a fallback's answer never stands for the pinned model's."""
    text = pins(f"  chat: {{stable: {GPT}, fallback: [{MINI}], max_attempts: 2, cache: {{ttl: 60s, always: true}}}}")
    provider.script([rule("status=503", GPT, times=1)])
    async with faked(tmp_path, provider, text) as scene:
        states = []
        for _ in range(3):
            got = await scene.chat("chat")
            await scene.idle()
            assert json.loads(got.body)["model"] == got.model
            states.append((got.headers["x-sidecar-cache"], got.model))
        assert states == [("miss", MINI), ("miss", GPT), ("hit", GPT)]
