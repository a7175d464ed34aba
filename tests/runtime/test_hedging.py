"""Hedges over real sockets: who wins, who is closed, and when none is sent (field study 4.2, fault 84)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar, until

SLOW, QUICK, THIRD = "slow-2026-01-01", "quick-2026-01-01", "third-2026-01-01"
PINS = f"""
version: 1
generation: 1
unlisted: reject
models:
  {SLOW}: {{provider: openai}}
  {QUICK}: {{provider: openai}}
  {THIRD}: {{provider: openai}}
pins:
  other: {{stable: {SLOW}, hedge: {{model: {QUICK}, after: 50ms}}}}
  same: {{stable: {SLOW}, hedge: {{after: 50ms}}}}
  two: {{stable: {SLOW}, hedge: {{model: {QUICK}, after: 50ms}}, fallback: [{THIRD}], max_attempts: 2}}
  hasty: {{stable: {SLOW}, hedge: {{model: {QUICK}, after: 50ms}}, timeouts: {{first_event: 300ms}}}}
  never: {{stable: {SLOW}, hedge: {{model: {QUICK}, after: 50ms}}, extra_load: {{burst: 0}}}}
"""


@pytest.fixture
async def hedged(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    async with sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=PINS) as running:
        yield running


async def chat(proxy: Running, pin: str, *, stream: bool = True, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
    body: dict[str, Any] = {"model": pin, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{proxy.url}/v1/chat/completions", json=body) as answer,
    ):
        return answer, await answer.text()


def outcomes(event: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(a["model"], a["cause"], a["outcome"]) for a in event["attempts"]]


def calls(provider: FakeProvider) -> list[str]:
    """The models that were asked, in order."""
    return [r.model for r in provider.ledger.requests]


# A stream whose role chunk comes at once, but no text; one that hasn't begun; a whole answer.
STUCK = pytest.mark.parametrize(
    ("fault", "stream"),
    [("stall=0", True), ("first=5s", True), ("delay=5s", False)],
    ids=["role only", "late", "whole"],
)


@STUCK
async def test_the_first_useful_event_wins_and_the_loser_is_closed(
    hedged: Running, provider: FakeProvider, fault: str, stream: bool
) -> None:
    provider.script([{"match": {"model": SLOW}, "fault": fault}])
    began = time.monotonic()
    answer, text = await chat(hedged, "other", stream=stream)
    assert time.monotonic() - began < 2
    assert answer.status == 200
    assert answer.headers["x-sidecar-model"] == QUICK
    assert answer.headers["x-sidecar-attempts"] == "2"
    assert QUICK in text
    assert outcomes(await hedged.event()) == [(SLOW, "first", "lost_hedge"), (QUICK, "hedge", "ok")]
    await until(lambda: provider.ledger.open == 0)
    lost, won = provider.ledger.requests
    assert lost.outcome == "client_gone"
    assert lost.closed_at is not None
    assert lost.closed_at - won.time < 500, "promised are 50 ms after the winner's first event"


async def test_a_hedge_that_is_slower_loses(hedged: Running, provider: FakeProvider) -> None:
    provider.script(
        [{"match": {"model": SLOW}, "fault": "first=150ms"}, {"match": {"model": QUICK}, "fault": "first=5s"}]
    )
    answer, _ = await chat(hedged, "other")
    assert answer.headers["x-sidecar-model"] == SLOW
    assert outcomes(await hedged.event()) == [(SLOW, "first", "ok"), (QUICK, "hedge", "lost_hedge")]


async def test_a_hedge_that_fails_is_dropped(hedged: Running, provider: FakeProvider) -> None:
    provider.script(
        [{"match": {"model": SLOW}, "fault": "first=200ms"}, {"match": {"model": QUICK}, "fault": "status=503"}]
    )
    answer, _ = await chat(hedged, "other")
    assert (answer.status, answer.headers["x-sidecar-model"]) == (200, SLOW)
    assert outcomes(await hedged.event()) == [(SLOW, "first", "ok"), (QUICK, "hedge", "failed")]


async def test_a_primary_that_fails_early_launches_it_at_once(hedged: Running, provider: FakeProvider) -> None:
    provider.script([{"match": {"model": SLOW}, "fault": "status=503"}])
    answer, _ = await chat(hedged, "other")
    assert answer.headers["x-sidecar-model"] == QUICK
    event = await hedged.event()
    assert outcomes(event) == [(SLOW, "first", "failed"), (QUICK, "hedge", "ok")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["cut=headers", "delay=100ms;cut=headers", "delay=100ms;cut=0", "delay=100ms;eof=0"])
async def test_a_primary_that_breaks_off_leaves_it_to_the_hedge(
    hedged: Running, provider: FakeProvider, fault: str, stream: bool
) -> None:
    """At once, or while the hedge is under way: no answer came of it that could be shown."""
    provider.script([{"match": {"model": SLOW}, "fault": fault}, {"match": {"model": QUICK}, "fault": "first=100ms"}])
    answer, text = await chat(hedged, "other", stream=stream)
    assert (answer.status, answer.headers["x-sidecar-model"]) == (200, QUICK)
    assert QUICK in text
    event = await hedged.event()
    assert outcomes(event) == [(SLOW, "first", "failed"), (QUICK, "hedge", "ok")]
    assert event["attempts"][0]["fault"] == "broken"


async def test_both_break_off(hedged: Running, provider: FakeProvider) -> None:
    provider.script([{"fault": "delay=100ms;cut=headers"}])
    answer, _ = await chat(hedged, "other")
    assert (answer.status, answer.headers["x-sidecar-error"]) == (502, "sidecar_upstream_unreachable")
    assert [a["outcome"] for a in (await hedged.event())["attempts"]] == ["failed"] * 3


async def test_neither_comes_to_anything_in_time(hedged: Running, provider: FakeProvider) -> None:
    provider.script([{"fault": "stall=0"}])
    began = time.monotonic()
    answer, _ = await chat(hedged, "hasty")
    assert (answer.status, answer.headers["x-sidecar-error"]) == (504, "sidecar_upstream_timeout")
    assert time.monotonic() - began < 3
    assert {a["fault"] for a in (await hedged.event())["attempts"]} == {"timeout"}
    await until(lambda: provider.ledger.open == 0)


async def test_to_the_same_model(hedged: Running, provider: FakeProvider) -> None:
    provider.script([{"match": {"model": SLOW}, "fault": "stall=0", "times": 1}])
    answer, _ = await chat(hedged, "same")
    assert answer.status == 200
    assert outcomes(await hedged.event()) == [(SLOW, "first", "lost_hedge"), (SLOW, "hedge", "ok")]


async def test_no_attempt_is_left_but_two_run_and_the_first_that_says_something_wins(
    hedged: Running, provider: FakeProvider
) -> None:
    provider.script(
        [
            {"match": {"model": SLOW}, "fault": "first=150ms;stall=0"},
            {"match": {"model": QUICK}, "fault": "first=400ms"},
        ]
    )
    answer, _ = await chat(hedged, "two")
    assert answer.headers["x-sidecar-model"] == QUICK
    assert THIRD not in calls(provider)


@pytest.mark.parametrize(
    ("pin", "headers"), [("never", {}), ("other", {"x-sidecar-hedge": "off"})], ids=["no extra load", "header"]
)
async def test_none_is_sent(hedged: Running, provider: FakeProvider, pin: str, headers: dict[str, str]) -> None:
    provider.script([{"match": {"model": SLOW}, "fault": "first=200ms"}])
    answer, _ = await chat(hedged, pin, **headers)
    assert answer.headers["x-sidecar-model"] == SLOW
    assert calls(provider) == [SLOW]


async def test_an_always_slow_model_gets_no_more_than_the_allowance(hedged: Running, provider: FakeProvider) -> None:
    provider.script(
        [{"match": {"model": SLOW}, "fault": "first=120ms"}, {"match": {"model": QUICK}, "fault": "first=1s"}]
    )
    for _ in range(14):
        await chat(hedged, "other")
    assert calls(provider).count(SLOW) == 14
    assert calls(provider).count(QUICK) == 10, "the bucket starts with ten and earns less than one more"
