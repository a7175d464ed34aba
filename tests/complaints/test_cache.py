"""Complaints about answers that weren't meant for this request: 8 and 9 of the field study (§3)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from sidecar.provider import FakeProvider
from tests.complaints.kit import GPT, MINI, TURNS, asked, faked, leave, pins
from tests.harness import until

KEPT = "cache: {ttl: 60s, always: true}"
PINS = pins(f"  kept: {{stable: {GPT}, {KEPT}}}\n  plain: {{stable: {GPT}}}")
CHAT: dict[str, Any] = {"model": "kept", "messages": TURNS, "temperature": 0}


async def test_08_two_credentials_never_share_an_answer(provider: FakeProvider, tmp_path: Path) -> None:
    async with faked(tmp_path, provider, PINS) as scene:
        states = []
        for key in ("one", "two", "one", "two"):
            got = await scene.post(CHAT, authorization=f"Bearer {key}")
            await scene.idle()
            states.append(got.headers["x-sidecar-cache"])
        assert states == ["miss", "miss", "hit", "hit"]
        assert len(asked(provider)) == 2


async def test_08_every_answer_bears_its_own_tag(provider: FakeProvider, tmp_path: Path) -> None:
    """400 at once with delays and aborts by lot, cached and not: nobody gets another one's answer."""
    dice = random.Random(8)
    async with faked(tmp_path, provider, PINS) as scene:

        async def one(number: int) -> bool:
            tag = f"tag-{number:04}"
            body = {"model": dice.choice(["kept", "plain"]), "messages": [{"role": "user", "content": tag}]}
            body |= {"stream": dice.random() < 0.5, "temperature": 0}
            fault = f"first={dice.randrange(30)}ms;gap={dice.randrange(3)}ms"
            asking = asyncio.create_task(scene.post(body, fault=fault))
            if dice.random() < 0.25:
                await asyncio.sleep(dice.random() * 0.03)
                await leave(asking)
                return False
            got = await asking
            assert got.status == 200
            assert got.text.count("tag-") == got.text.count(tag) >= 1
            return True

        read = sum(await asyncio.gather(*(one(number % 300) for number in range(400))))
        assert read > 200
        await scene.idle()


# Each is a value that its field doesn't have in `CHAT`; the API reference's list of chat completions' fields.
FIELDS: dict[str, Any] = {
    "model": "plain-kept",
    "messages": [{"role": "user", "content": "hello "}],
    "temperature": 0.0001,
    "audio": {"voice": "a", "format": "wav"},
    "frequency_penalty": 0.1,
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 99,
    "max_tokens": 99,
    "modalities": ["text"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 0.1,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "seed": 1,
    "service_tier": "flex",
    "stop": ["x"],
    "stream": True,
    "tool_choice": "none",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_logprobs": 2,
    "top_p": 0.5,
    "user": "u",
    "verbosity": "low",
    "a_field_of_next_year": None,
}
IGNORED: dict[str, Any] = {"metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "p"}


async def test_09_every_field_that_can_change_the_answer_is_in_the_key(provider: FakeProvider, tmp_path: Path) -> None:
    text = pins(f"  kept: {{stable: {GPT}, {KEPT}}}\n  plain-kept: {{stable: {MINI}, {KEPT}}}")
    async with faked(tmp_path, provider, text) as scene:
        assert (await scene.post(CHAT)).headers["x-sidecar-cache"] == "miss"
        await scene.idle()
        wrong = []
        for name, value in (FIELDS | IGNORED).items():
            state = (await scene.post(CHAT | {name: value})).headers["x-sidecar-cache"]
            wrong += [name] if state != ("hit" if name in IGNORED else "miss") else []
        assert wrong == []
        org = await scene.post(CHAT, openai_organization="another")
        assert org.headers["x-sidecar-cache"] == "miss"
        assert (await scene.post(CHAT)).headers["x-sidecar-cache"] == "hit"


async def test_09_a_pin_that_moves_leaves_its_old_answers_behind(provider: FakeProvider, tmp_path: Path) -> None:
    async with faked(tmp_path, provider, PINS) as scene:
        assert (await scene.post(CHAT)).model == GPT
        scene.running.pins.write_text(pins(f"  kept: {{stable: {MINI}, {KEPT}}}", generation=2))
        scene.running.lifecycle.reloader.reload_now()
        pinned = scene.shared.pinned
        await until(lambda: pinned.snapshot.pins.label == "2")
        got = await scene.post(CHAT)
        assert (got.headers["x-sidecar-cache"], got.model) == ("miss", MINI)
        assert MINI in got.text


NEVER = {
    "a server's error": ("status=500", {}),
    "a rate limit": ("status=429;retry-after=99", {}),
    "an answer cut by its cap": ("", {"max_tokens": 1}),
    "half a stream": ("gap=2ms;cut=2", {"stream": True}),
    "a stream that ends early": ("gap=2ms;eof=2", {"stream": True}),
    "an error inside a stream": ("gap=2ms;error=2", {"stream": True}),
}


@pytest.mark.parametrize("name", NEVER)
async def test_09_only_whole_and_normal_answers_are_kept(provider: FakeProvider, tmp_path: Path, name: str) -> None:
    fault, more = NEVER[name]
    text = pins(f"  kept: {{stable: {GPT}, {KEPT}, max_attempts: 1}}")
    async with faked(tmp_path, provider, text) as scene:
        first = await scene.post(CHAT | more, fault=fault)
        await scene.idle()
        second = await scene.post(CHAT | more)
        assert second.headers["x-sidecar-cache"] == "miss"
        assert len(asked(provider)) == 2
        if fault.startswith("status"):
            assert first.status == int(fault[7:10])
            assert second.status == 200
