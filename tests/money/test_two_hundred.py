"""200 callers at once against a limit, over sockets: what is let in never passes it (complaint 10, fault 86).

The moment within the UTC minute is chosen by the ledger's one clock offset, so nothing waits for a minute to end.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from sidecar.provider import FakeProvider
from sidecar.state.ledger import Ledger, Reservation
from tests.harness import at_minute_start
from tests.money.kit import CLAUDE, GPT, Stand, stand

CALLERS, EACH_TOKENS, LIMIT = 200, 50, 1000
"""The numbers of litellm #34732 and its kin."""

PINS = """
version: 1
generation: 1
unlisted: reject
models:
  {gpt}: {{provider: openai, budget: {{{limits}}}}}
  {claude}: {{provider: anthropic, budget: {{{limits}}}}}
pins:
  chat: {{stable: {gpt}}}
  claude: {{stable: {claude}}}
"""
OUTPUT = f"output_tokens_per_minute: {LIMIT}, requests_per_minute: 500"
TURNS: Any = [{"role": "user", "content": "hi"}]
FULL = {"x-fake-tokens": str(EACH_TOKENS)}
"""The answer takes all of its cap, so that what is set aside is what is used."""


@asynccontextmanager
async def limited(folder: Path, provider: FakeProvider, limits: str = OUTPUT) -> AsyncIterator[Stand]:
    text = PINS.format(gpt=GPT, claude=CLAUDE, limits=limits)
    async with stand(folder, provider, text) as one:
        yield one


def highest(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, float]]:
    """The most that any limit had in use when somebody was let in. (An answer that costs more than thought is debt.)"""
    most: dict[str, float] = {}
    real = Ledger.reserve

    def reserve(ledger: Ledger, claims: Any, now: float, **more: Any) -> Any:
        got = real(ledger, claims, now, **more)
        for level in ledger.levels(now) if isinstance(got, Reservation) else ():
            most[level.limit] = max(most.get(level.limit, 0), level.used)
        return got

    monkeypatch.setattr(Ledger, "reserve", reserve)
    return lambda: most


async def post(one: Stand, *, stream: bool = False, fault: str = "delay=150ms") -> tuple[int, Any]:
    body = {"model": "chat", "messages": TURNS, "max_tokens": EACH_TOKENS, "stream": stream}
    headers = FULL | {"x-fake-fault": fault} if fault else FULL
    async with one.http.post("/v1/chat/completions", json=body, headers=headers) as answer:
        await answer.read()
        return answer.status, answer.headers


async def test_the_sum_of_what_is_let_in_never_passes_the_limit(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = highest(monkeypatch)
    async with limited(tmp_path, provider) as one:
        answers = await asyncio.gather(*(post(one, stream=bool(i % 2)) for i in range(CALLERS)))
        await one.settled()
        assert Counter(status for status, _ in answers) == {200: LIMIT // EACH_TOKENS, 429: 180}
        assert most()["output_tokens_per_minute"] == LIMIT
        assert len(provider.ledger.requests) == LIMIT // EACH_TOKENS
        books = one.ledger.left(("model", GPT), time.monotonic())
        assert books == {"output_tokens_per_minute": 0, "requests_per_minute": 500 - 20}, "refused: not even a request"
        assert one.reserved() == {}


@pytest.mark.parametrize("seed", range(3))
async def test_nor_with_callers_that_come_go_and_fail(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Callers come over a while, some leave, some of the answers fail: the limit holds at each moment."""
    most, dice = highest(monkeypatch), random.Random(seed)
    provider.script([{"fault": "status=500", "times": 5}, {"fault": "gap=1ms"}])

    async def one_caller(one: Stand) -> None:
        await asyncio.sleep(dice.random() * 0.3)
        asking = asyncio.create_task(post(one, stream=dice.random() < 0.5, fault=""))
        if dice.random() < 0.3:
            await asyncio.sleep(dice.random() * 0.05)
            asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async with limited(tmp_path, provider, f"tokens_per_minute: {4 * LIMIT}") as one:
        await asyncio.gather(*(one_caller(one) for _ in range(CALLERS)))
        await one.settled()
        assert 3 * LIMIT < most()["tokens_per_minute"] <= 4 * LIMIT
        assert one.reserved() == {}


async def test_the_refusal_names_the_time_at_which_the_same_request_passes(
    provider: FakeProvider, tmp_path: Path
) -> None:
    async with limited(tmp_path, provider) as one:
        at_minute_start(one.ledger, 20.3)
        statuses = Counter([(await post(one, fault=""))[0] for _ in range(20)])
        assert statuses == {200: 20}
        status, headers = await post(one)
        assert (status, headers["x-sidecar-error"]) == (429, "sidecar_budget_exceeded")
        assert headers["x-ratelimit-limit-tokens"] == str(LIMIT)
        assert headers["x-ratelimit-remaining-tokens"] == "0"
        assert headers["x-ratelimit-limit-requests"] == "500"
        assert headers["x-ratelimit-remaining-requests"] == "480"
        assert headers["x-ratelimit-reset-tokens"].startswith("3"), headers
        wait_s = int(headers["retry-after"])
        assert 38 <= wait_s <= 40
        assert wait_s - 1 < int(headers["retry-after-ms"]) / 1000 <= wait_s
        came, before = time.monotonic(), one.ledger.utc_offset_s
        one.ledger.utc_offset_s = before + wait_s - 1 - (time.monotonic() - came)
        assert (await post(one))[0] == 429, "a second before"
        one.ledger.utc_offset_s = before + wait_s
        assert (await post(one, fault=""))[0] == 200


async def test_openais_sdk_sees_its_own_exception_and_its_own_retry_comes_through(
    provider: FakeProvider, tmp_path: Path
) -> None:
    async with (
        limited(tmp_path, provider) as one,
        openai.AsyncOpenAI(base_url=f"{one.running.url}/v1", api_key="k", default_headers=FULL) as sdk,
    ):
        at_minute_start(one.ledger, 20.0)
        call: dict[str, Any] = {"model": "chat", "messages": TURNS, "max_tokens": EACH_TOKENS}
        for _ in range(20):
            await sdk.chat.completions.create(**call)
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.with_options(max_retries=0).chat.completions.create(**call)
        assert caught.value.code == "sidecar_budget_exceeded"
        assert caught.value.response.headers.get("x-should-retry") is None, "one refusal is not our retry"
        at_minute_start(one.ledger, 59.6)
        again = await sdk.with_options(max_retries=1).chat.completions.create(**call)
        assert again.choices[0].message.content
        assert len(provider.ledger.requests) == 21


async def test_anthropics_sdk_too(provider: FakeProvider, tmp_path: Path) -> None:
    async with (
        limited(tmp_path, provider) as one,
        anthropic.AsyncAnthropic(base_url=one.running.url, api_key="k", default_headers=FULL) as sdk,
    ):
        at_minute_start(one.ledger, 20.0)
        call: dict[str, Any] = {"model": "claude", "messages": TURNS, "max_tokens": LIMIT // 2}
        for _ in range(20):
            await sdk.messages.create(**call)
            if one.ledger.left(("model", CLAUDE), time.monotonic())["output_tokens_per_minute"] < LIMIT // 2:
                break
        with pytest.raises(anthropic.RateLimitError) as caught:
            await sdk.with_options(max_retries=0).messages.create(**call)
        assert caught.value.response.headers["x-sidecar-error"] == "sidecar_budget_exceeded"
        at_minute_start(one.ledger, 59.6)
        assert (await sdk.with_options(max_retries=1).messages.create(**call)).content


async def test_a_request_larger_than_the_whole_limit_passes_alone(provider: FakeProvider, tmp_path: Path) -> None:
    async with limited(tmp_path, provider, f"output_tokens_per_minute: {EACH_TOKENS - 1}") as one:
        assert (await post(one, fault=""))[0] == 200
        status, headers = await post(one)
        assert status == 429
        assert int(headers["retry-after"]) > 60, "its debt of one token keeps the next minute from being empty"
