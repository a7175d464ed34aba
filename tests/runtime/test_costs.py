"""What a request is said to have cost, in its event, on every exit. The ledger's own books: tests/sweep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Result, Target, Usage
from sidecar.provider import FakeProvider
from sidecar.runtime.call import charges, total_cost_usd
from sidecar.settings.load import read_pins
from sidecar.state.sizes import Sizes
from tests.harness import Running, sidecar, until
from tests.pins.kit import value

A, B, FREE = "gpt-a-2026-01-01", "gpt-b-2026-01-01", "gpt-free-2026-01-01"
PINS = f"""\
generation: 1
unlisted: pass
models:
  {A}: {{provider: openai, max_output: 400, price: {{input: 10, output: 20}}}}
  {B}: {{provider: openai, price: {{input: 1, output: 2}}}}
  {FREE}: {{provider: openai}}
pins:
  plain: {{stable: {A}}}
  backed: {{stable: {A}, fallback: [{B}], retry: {{base: 10ms}}}}
  hedged: {{stable: {A}, hedge: {{model: {B}, after: 50ms}}}}
  kept: {{stable: {A}, cache: {{ttl: 1h}}}}
  unpriced: {{stable: {FREE}}}
"""


@pytest.fixture
async def at(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    async with sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=PINS) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(http: aiohttp.ClientSession, at: Running, pin: str, **more: Any) -> int:
    body = {"model": pin, "messages": [{"role": "user", "content": "hi"}]} | more
    async with http.post(f"{at.url}/v1/chat/completions", json=body) as answer:
        await answer.read()
        return answer.status


def usd(tokens: dict[str, int], input_price: float, output_price: float) -> float:
    return (tokens["prompt"] * input_price + tokens["completion"] * output_price) / 1e6


async def test_a_plain_answer_by_its_usage(at: Running, http: aiohttp.ClientSession) -> None:
    await ask(http, at, "plain")
    event = await at.event()
    tokens = event["attempts"][0]["tokens"]
    assert tokens["estimated"] is False
    assert (tokens["prompt"], tokens["completion"]) == (event["tokens_prompt"], event["tokens_completion"])
    assert event["cost_usd"] == pytest.approx(usd(tokens, 10, 20))


async def test_errors_cost_nothing_and_the_fallback_its_own_price(
    at: Running, provider: FakeProvider, http: aiohttp.ClientSession
) -> None:
    provider.script([{"match": {"model": A}, "fault": "status=503"}])
    assert await ask(http, at, "backed") == 200
    event = await at.event()
    assert [a["tokens"] is None for a in event["attempts"]] == [True, True, False]
    assert event["cost_usd"] == pytest.approx(usd(event["attempts"][2]["tokens"], 1, 2))
    provider.script([{"fault": "status=503"}])
    assert await ask(http, at, "backed") == 503
    assert (await at.event(count=2))["cost_usd"] == 0.0


async def test_a_hedge_costs_twice(at: Running, provider: FakeProvider, http: aiohttp.ClientSession) -> None:
    provider.script([{"match": {"model": A}, "fault": "delay=5s"}])
    assert await ask(http, at, "hedged") == 200
    event = await at.event()
    lost, won = (a["tokens"] for a in event["attempts"])
    assert (lost["completion"], lost["estimated"], won["estimated"]) == (400, True, False)
    assert event["cost_usd"] == pytest.approx(usd(lost, 10, 20) + usd(won, 1, 2))
    labels = {
        "gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_original_model": "hedged",
        "gen_ai_request_model": A, "gen_ai_response_model": "none", "gen_ai_token_type": "output",
    }  # fmt: skip
    assert value(at, "gen_ai_client_token_usage_sum", labels) == 400


async def test_a_client_that_leaves_pays_for_what_came(
    at: Running, provider: FakeProvider, http: aiohttp.ClientSession
) -> None:
    provider.script([{"fault": "gap=50ms;stall=3"}])
    body = {"model": "plain", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with http.post(f"{at.url}/v1/chat/completions", json=body) as answer:
        seen = b""
        while seen.count(b'"content"') < 3:
            seen += await answer.content.readany()
        answer.close()
    event = await at.event()
    tokens = event["attempts"][0]["tokens"]
    assert (event["error"], event["attempts"][0]["outcome"]) == ("client_gone", "client_gone")
    assert tokens["estimated"] is True
    assert 0 < tokens["completion"] < 400
    assert event["cost_usd"] == pytest.approx(usd(tokens, 10, 20))
    await until(lambda: provider.ledger.open == 0)


async def test_an_answer_given_again_costs_nothing_but_shows_its_usage(
    at: Running, http: aiohttp.ClientSession
) -> None:
    await ask(http, at, "kept", temperature=0)
    await ask(http, at, "kept", temperature=0)
    made, again = await at.event(0, count=2), await at.event(1, count=2)
    assert made["cost_usd"] > 0
    assert (again["cache"], again["cost_usd"], again["attempts"]) == ("hit", 0.0, [])
    for name in ("tokens_prompt", "tokens_completion", "model_id"):
        assert again[name] == made[name]
    assert value(at, "sidecar_cache_requests_total", {"result": "hit"}) == 1


async def test_what_has_no_price_has_no_cost(at: Running, http: aiohttp.ClientSession) -> None:
    for count, pin in enumerate(("unpriced", "gpt-unlisted"), 1):
        await ask(http, at, pin)
        event = await at.event(count=count)
        assert event["cost_usd"] is None
        assert event["attempts"][0]["tokens"]["completion"] > 0
    async with http.get(f"{at.url}/v1/files") as answer:
        assert answer.status == 200
    event = await at.event(count=3)
    assert (event["cost_usd"], event["attempts"][0]["tokens"]) == (None, None)


def test_what_a_budget_set_aside_beats_the_estimate() -> None:
    models = read_pins(PINS.encode(), "pins.yaml", None).models
    x = Exchange("r", Ask("openai", "chat", generates=True, body_bytes=400, choices=2, max_output=30), 0.0)
    estimated = Attempt(1, Target("openai", A), Cause.FIRST, 0.0, result=Result.CLIENT_GONE)
    reserved = Attempt(2, Target("openai", A), Cause.RETRY, 0.0, result=Result.CLIENT_GONE, reserved=(7, 8))
    x.attempts = [estimated, reserved]
    costs = charges(x, models, Sizes())
    assert [c.usage for c in costs if c is not None] == [Usage(100, 60), Usage(7, 8)]
    assert total_cost_usd(tuple(x.attempts), costs, models) == pytest.approx((107 * 10 + 68 * 20) / 1e6)
