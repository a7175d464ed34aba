"""Faults 69 to 71 (cache), 83 (a throttled CPU), 84 (hedges) and 86 (budget races) of reliability-and-threats §2.

85 (shadow traffic) has nothing to test yet: no request is shadowed in this version.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.faults.stage import staged
from tests.faults.upstream import JSON, Step
from tests.faults.wire import framed
from tests.harness import Running, sidecar, until

ONE, TWO, THREE = "gpt-5.4-2025-11-02", "gpt-5.5-mini-2026-01-10", "gpt-5.6-luna-2026-02-10"
PINS = f"""
version: 1
generation: 1
unlisted: reject
models:
  {ONE}: {{provider: openai, budget: {{output_tokens_per_minute: 1000}}}}
  {TWO}: {{provider: openai}}
  {THREE}: {{provider: openai, breaker: {{failures: 1}}}}
pins:
  kept: {{stable: {TWO}, cache: {{ttl: 60s, always: true}}}}
  hasty: {{stable: {THREE}, fallback: [{TWO}], timeouts: {{first_event: 500ms, idle: 500ms}}}}
  hedged: {{stable: {TWO}, hedge: {{after: 20ms}}}}
  chat.core: {{stable: {ONE}}}
  chat.tried: {{stable: {TWO}}}
"""
TURNS = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "kept", "messages": TURNS}


@pytest.fixture
async def running(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    async with sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=PINS) as one:
        yield one


@pytest.fixture
async def http(running: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def post(
    http: aiohttp.ClientSession, body: dict[str, Any], path: str = "/v1/chat/completions", **headers: str
) -> aiohttp.ClientResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(path, json=body, headers=sent) as answer:
        await answer.read()
        return answer


async def test_69_the_same_prompt_under_two_keys_is_two_calls(
    provider: FakeProvider, http: aiohttp.ClientSession
) -> None:
    """One after the other, and at once: neither an entry nor a flight is shared."""
    both = [post(http, CHAT, authorization=f"Bearer {key}", x_fake_fault="delay=50ms") for key in ("a", "b")]
    assert [a.headers["x-sidecar-cache"] for a in await asyncio.gather(*both)] == ["miss", "miss"]
    assert len(provider.ledger.requests) == 2
    later = await post(http, CHAT, authorization="Bearer c")
    assert later.headers["x-sidecar-cache"] == "miss"
    assert (await post(http, CHAT, authorization="Bearer a")).headers["x-sidecar-cache"] == "hit"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"seed": 1}, {}),
        ({"user": "u"}, {}),
        ({"temperature": 0.5}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
        ({"a_new_field": 1}, {}),
        ({}, {"openai_organization": "o"}),
        ({}, {"openai_project": "p"}),
        ({}, {"openai_beta": "b"}),
    ],
)
async def test_70_whatever_differs_is_another_entry(
    provider: FakeProvider, http: aiohttp.ClientSession, body: dict[str, Any], headers: dict[str, str]
) -> None:
    await post(http, CHAT)
    assert (await post(http, CHAT | body, **headers)).headers["x-sidecar-cache"] == "miss"
    assert len(provider.ledger.requests) == 2


ANSWERS = {
    "an error": framed(b"400 Bad Request", b'{"error":{"message":"m"}}', b"content-type: application/json"),
    "set-cookie": framed(b"200 OK", JSON, b"content-type: application/json", b"set-cookie: a=b"),
    "no-store": framed(b"200 OK", JSON, b"content-type: application/json", b"cache-control: no-store"),
    "another status": framed(b"202 Accepted", JSON, b"content-type: application/json"),
    "no JSON": framed(b"200 OK", b"<p>log in</p>", b"content-type: text/html"),
    "no finish": framed(b"200 OK", JSON.replace(b'"stop"', b"null"), b"content-type: application/json"),
    "half of it": framed(b"200 OK", JSON, b"content-type: application/json")[:-9],
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_71_what_is_not_a_whole_good_answer_is_not_kept(tmp_path: Path, name: str) -> None:
    pins = PINS.replace("unlisted: reject", "unlisted: reject\ndefaults: {max_attempts: 1}")
    async with staged(tmp_path, pins=pins) as stage:
        stage.upstream.says(ANSWERS[name], *([Step.FIN] if name == "half of it" else []))
        first = await stage.chat("kept")
        second = await stage.chat("kept")
        assert (first.get("x-sidecar-cache"), second.get("x-sidecar-cache")) == ("miss", "miss")
        assert second.body == JSON
        assert (await stage.chat("kept")).get("x-sidecar-cache") == "hit"


# --- 83: a process that stands still --------------------------------------------------------------------------------


async def test_83_a_stand_still_is_no_timeout_storm(
    provider: FakeProvider, running: Running, http: aiohttp.ClientSession
) -> None:
    """Throttled for twice as long as the limits: the answers that came meanwhile are read before anybody is judged."""
    began = [post(http, CHAT | {"model": "hasty"}, x_fake_fault="delay=300ms") for _ in range(30)]
    asking = [asyncio.create_task(one) for one in began]
    await until(lambda: len(provider.ledger.requests) == 30)
    time.sleep(1.0)
    answers = await asyncio.gather(*asking)
    assert Counter(a.status for a in answers) == {200: 30}
    assert {a.headers["x-sidecar-model"] for a in answers} == {THREE}
    assert len(provider.ledger.requests) == 30, "no retries, no fallbacks"
    states = running.lifecycle.shared.state.breakers.states(running.lifecycle.shared.now())
    assert set(states.values()) <= {"closed"}, "a single failure would have tripped it"


async def test_83_more_than_it_can_hold_is_shed_at_once(provider: FakeProvider, tmp_path: Path) -> None:
    async with (
        sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=PINS, limits={"in_flight": 10}) as running,
        aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        body = CHAT | {"model": "hedged"}
        answers = await asyncio.gather(*(post(http, body, x_fake_fault="delay=300ms") for _ in range(40)))
        assert Counter(a.status for a in answers) == {200: 10, 503: 30}
        shed = [a for a in answers if a.status == 503]
        assert {a.headers["x-sidecar-error"] for a in shed} == {"sidecar_overloaded"}
        assert all("retry-after" in a.headers for a in shed)
        assert (await post(http, body)).status == 200, "and it is well afterwards"


# --- 84: hedges -----------------------------------------------------------------------------------------------------


async def test_84_a_loser_is_closed_and_counted(
    provider: FakeProvider, running: Running, http: aiohttp.ClientSession
) -> None:
    provider.script([{"fault": "delay=5s", "times": 1}])
    answer = await post(http, CHAT | {"model": "hedged"})
    assert (answer.status, answer.headers["x-sidecar-attempts"]) == (200, "2")
    await until(lambda: provider.ledger.open == 0, 1.0)
    lost = provider.ledger.requests[0]
    assert lost.outcome == "client_gone"
    event = await running.event()
    first, second = event["attempts"]
    assert (first["outcome"], second["outcome"]) == ("lost_hedge", "ok")
    assert first["tokens"]["prompt"] > 0, "what it may have cost is told"


ONCE_ONLY = {
    "stored": ("/v1/responses", {"model": "hedged", "input": "x", "store": True}),
    "stored by default": ("/v1/responses", {"model": "hedged", "input": "x"}),
    "in the background": ("/v1/responses", {"model": "hedged", "input": "x", "background": True}),
    "a hosted tool": (
        "/v1/responses",
        {"model": "hedged", "input": "x", "store": False, "tools": [{"type": "code_interpreter"}]},
    ),
    "a stored chat": ("/v1/chat/completions", CHAT | {"model": "hedged", "store": True}),
    "an image": ("/v1/images/generations", {"model": "hedged", "prompt": "x"}),
}


@pytest.mark.parametrize("name", ONCE_ONLY)
async def test_84_what_does_something_is_never_done_twice(
    provider: FakeProvider, running: Running, http: aiohttp.ClientSession, name: str
) -> None:
    path, body = ONCE_ONLY[name]
    await post(http, body, path, x_fake_fault="delay=150ms")
    assert len(provider.ledger.requests) == 1


async def test_84_hedges_add_no_more_than_their_allowance(provider: FakeProvider, http: aiohttp.ClientSession) -> None:
    """All are slow: the bucket's ten, and then one in twenty."""
    provider.script([{"fault": "delay=45ms"}])
    for _ in range(5):
        await asyncio.gather(*(post(http, CHAT | {"model": "hedged"}) for _ in range(40)))
    extra = len(provider.ledger.requests) - 200
    assert 10 <= extra <= 10 + 200 // 20


# --- 86: budget races -----------------------------------------------------------------------------------------------


async def test_86_two_hundred_at_the_last_tokens(
    provider: FakeProvider, running: Running, http: aiohttp.ClientSession
) -> None:
    """950 of 1,000 are used: one more of 50 gets in, not one of the other 199."""
    body = {"model": "chat.core", "messages": TURNS, "max_tokens": 950}
    assert (await post(http, body, x_fake_tokens="950")).status == 200
    last = body | {"max_tokens": 50}
    answers = await asyncio.gather(
        *(post(http, last, x_fake_tokens="50", x_fake_fault="delay=100ms") for _ in range(200))
    )
    assert Counter(a.status for a in answers) == {200: 1, 429: 199}
    shared = running.lifecycle.shared
    (level,) = shared.state.ledger.levels(shared.now())
    assert (level.used, level.reserved) == (1000, 0)


async def test_86_a_restart_begins_anew(provider: FakeProvider, tmp_path: Path) -> None:
    """`scope: pod` lives in the process, as /pins and the docs say."""
    body = {"model": "chat.core", "messages": TURNS, "max_tokens": 1000}
    for _ in range(2):
        async with (
            sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=PINS) as running,
            aiohttp.ClientSession(running.url) as http,
        ):
            statuses = [(await post(http, body, x_fake_tokens="1000")).status for _ in range(2)]
            assert statuses == [200, 429]
