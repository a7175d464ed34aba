"""A request that is broken off at every single await of its life leaves nothing behind: complaint 11, and issue 3.

Each story is told again and again, cancelled at its first, second, third … suspension, until it comes through. At each
place twice: while what it waits for isn't there, and in the moment in which it has come but hasn't been taken yet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar, until
from tests.sweep.stepping import MARK, Moment, Stand, Strike, Throw

ONE, TWO = "one-2026-01-01", "two-2026-01-01"
BURST = 100_000
BREAKER = "breaker: {failures: 1000000, minimum: 1000000}"
BUDGET = "budget: {tokens_per_minute: 100000000, requests_per_minute: 1000000, usd_per_day: 1000000}"
PINS = f"""
version: 1
generation: 1
unlisted: reject
defaults: {{retry: {{base: 2ms, max: 4ms}}, extra_load: {{burst: {BURST}, ratio: 0}}}}
models:
  {ONE}: {{provider: openai, price: {{input: 1.0, output: 2.0}}, {BREAKER}, {BUDGET}}}
  {TWO}: {{provider: openai, price: {{input: 1.0, output: 2.0}}, {BREAKER}, {BUDGET}}}
pins:
  plain: {{stable: {ONE}}}
  budgeted: {{stable: {ONE}, {BUDGET}, over_budget: {TWO}}}
  falls: {{stable: {ONE}, fallback: [{TWO}], max_attempts: 2}}
  hedged: {{stable: {ONE}, hedge: {{model: {TWO}, after: 2ms}}}}
  kept: {{stable: {ONE}, cache: {{ttl: 60s}}}}
"""
MOST = 80
"""Suspensions of any story here; more means that it never comes through."""


@dataclass(frozen=True)
class Story:
    pin: str
    stream: bool = False
    script: tuple[dict[str, Any], ...] = ()
    followers: int = 0  # others that ask the same, once the marked one is under way
    follows: bool = False  # the marked one asks what another one is asking already
    slow_upload: bool = False


def rule(fault: str, model: str = "*", times: int | None = None) -> dict[str, Any]:
    return {"match": {"model": model}, "fault": fault} | ({} if times is None else {"times": times})


STORIES = {
    "plain": Story("plain"),
    "plain, uploaded in pieces": Story("plain", slow_upload=True),
    "plain, large": Story("plain", script=(rule("large=3000000"),)),
    "plain, too large to hold": Story("plain", script=(rule("large=9000000"),)),
    "plain, slow body": Story("plain", script=(rule("slow-body=3ms"),)),
    "stream": Story("plain", stream=True, script=(rule("first=3ms;gap=1ms"),)),
    "stream cut": Story("plain", stream=True, script=(rule("first=2ms;cut=2"),)),
    "retried": Story("plain", script=(rule("status=503", times=1),)),
    "retried stream": Story("plain", stream=True, script=(rule("first=2ms;error=0", times=1),)),
    "failed": Story("plain", script=(rule("status=503"),)),
    "fallback": Story("falls", script=(rule("status=503", ONE),)),
    "fallback stream": Story("falls", stream=True, script=(rule("cut=0", ONE), rule("first=2ms;gap=1ms", TWO))),
    "hedge lost": Story("hedged", stream=True, script=(rule("first=8ms", ONE), rule("first=50ms", TWO))),
    "hedge won": Story("hedged", stream=True, script=(rule("first=50ms", ONE), rule("first=2ms", TWO))),
    "hedge won, whole": Story("hedged", script=(rule("delay=50ms", ONE), rule("slow-body=2ms", TWO))),
    "hedge failed": Story("hedged", script=(rule("delay=10ms", ONE), rule("status=503", TWO))),
    "leader": Story("kept", script=(rule("delay=60ms;slow-body=2ms"),), followers=2),
    "follower": Story("kept", script=(rule("delay=60ms"),), follows=True),
    "budgeted": Story("budgeted"),
    "budgeted stream": Story("budgeted", stream=True, script=(rule("first=2ms;gap=1ms"),)),
}


@pytest.fixture
async def stand(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    stand = Stand(monkeypatch)
    async with sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=PINS) as stand.running:
        yield stand


async def ask(running: Running, story: Story, number: int, *, marked: bool) -> int | None:
    """The status, or None if the connection broke."""
    body = {
        "model": story.pin,
        "stream": story.stream,
        "temperature": 0,
        "messages": [{"role": "user", "content": f"number {number}"}],
    }
    headers = {MARK: "1"} if marked else {}
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
        try:
            data = pieces(json.dumps(body).encode()) if story.slow_upload else json.dumps(body)
            async with http.post(f"{running.url}/v1/chat/completions", data=data) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientError:
            return None


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 40):
        yield body[at : at + 40]
        await asyncio.sleep(0.002)


async def tell(stand: Stand, provider: FakeProvider, story: Story, number: int) -> list[int | None]:
    """Play the story once; what the others got."""
    provider.script(list(story.script))
    running = stand.running
    others: list[asyncio.Task[int | None]] = []
    if story.follows:
        others.append(asyncio.create_task(ask(running, story, number, marked=False)))
        await until(lambda: len(running.lifecycle.shared.state.flights) == 1)
    marked = asyncio.create_task(ask(running, story, number, marked=True))
    if story.followers:
        with suppress(AssertionError):
            flights = running.lifecycle.shared.state.flights
            await until(lambda: len(flights) == 1 or marked.done(), 1.0)
        for _ in range(story.followers):
            others.append(asyncio.create_task(ask(running, story, number, marked=False)))
    await marked
    return [await other for other in others]


async def left_clean(stand: Stand, provider: FakeProvider, at: int) -> None:
    try:
        await until(lambda: not stand.nothing_left() and provider.ledger.open == 0, 2.0)
    except AssertionError:
        pytest.fail(f"at suspension {at}: {stand.nothing_left()}, open at the provider: {provider.ledger.open}")


@pytest.mark.parametrize("moment", Moment, ids=["early", "late"])
@pytest.mark.parametrize("name", STORIES)
async def test_nothing_is_left_wherever_it_is_cancelled(
    stand: Stand, provider: FakeProvider, name: str, moment: Moment
) -> None:
    story = STORIES[name]
    await ask(stand.running, story, -1, marked=False)  # warm
    for at in range(1, MOST):
        stand.strike = Strike(at, moment)
        others = await tell(stand, provider, story, at)
        assert all(status == 200 for status in others), f"cancelled at {at}, the others got {others}"
        await left_clean(stand, provider, at)
        if not stand.strike.hit:
            break
    else:
        pytest.fail("it never came through")
    assert at > 1, "nothing was cancelled"
    for line in stand.running.log():
        assert line["message"] != "a bug in the sidecar", line
        assert line["logger"] != "sidecar.loop", line
    await until(lambda: drawn(stand) == extra_attempts(stand), 3.0)


def drawn(stand: Stand) -> int:
    """Extra attempts that were taken from the allowance and not given back."""
    return round(BURST - stand.running.lifecycle.shared.state.allowance.level(("openai", ONE), BURST))


def extra_attempts(stand: Stand) -> int:
    """Those that were launched."""
    attempts = [a for event in stand.running.events() for a in event["attempts"]]
    return sum(a["cause"] in ("retry", "hedge") for a in attempts)


ERRORS = {"a reset": lambda: aiohttp.ClientOSError(104, "reset"), "a bug": lambda: RuntimeError("a bug")}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", [name for name, story in STORIES.items() if not story.follows])
async def test_nothing_is_left_wherever_the_upstream_raises(
    stand: Stand, provider: FakeProvider, name: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = STORIES[name]
    await ask(stand.running, story, -1, marked=False)
    stand.throw_upstream(monkeypatch)
    for at in range(1, MOST):
        stand.strike = Throw(at, ERRORS[error])
        await tell(stand, provider, story, at)
        await left_clean(stand, provider, at)
        if not stand.strike.hit:
            break
    else:
        pytest.fail("it never came through")
    assert at > 1, "nothing was thrown"


@pytest.mark.parametrize(("pin", "stream"), [("plain", False), ("budgeted", False), ("plain", True), ("kept", False)])
async def test_a_plain_miss_takes_a_handful_of_awaits_and_no_task_of_its_own(
    stand: Stand, provider: FakeProvider, pin: str, stream: bool
) -> None:
    """Counted in the handler, on a kept connection to the provider. docs/reliability.md repeats the figures.

    aiohttp's client has a request's body written by a task, but for Python 3.12 and later: that one isn't ours.
    """
    for number in range(3):
        stand.strike = Strike()
        await tell(stand, provider, Story(pin, stream), number)
    print(f"{pin}, stream {stream}: {stand.strike.suspensions} suspensions, tasks {stand.strike.tasks_made}")
    assert set(stand.strike.tasks_made) <= {"ClientRequest.write_bytes"}
    assert 1 <= stand.strike.suspensions <= 5
