"""Drills over real sockets: what is sent, what is told, and that they keep out of everybody's way."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.core.facts import Target
from sidecar.provider import FakeProvider
from sidecar.provider.ledger import Record
from sidecar.state import State
from tests.harness import Running, sidecar, until

MAIN, SPARE = "gpt-a-2026-01-01", "gpt-b-2026-01-01"
PRICE = "price: {input: 1, output: 4}"


def pins(generation: int = 1, every: str | None = "100ms", *, spare: str = "provider: openai", pin: str = "") -> str:
    drill = f", drill: {{every: {every}}}" if every else ""
    return f"""
version: 1
generation: {generation}
unlisted: reject
models:
  {MAIN}: {{provider: openai}}
  {SPARE}: {{{spare}}}
pins:
  chat.core: {{stable: {MAIN}, fallback: [{SPARE}]{drill}{pin}}}
"""


@asynccontextmanager
async def site(
    folder: Path, provider: FakeProvider, text: str, monkeypatch: pytest.MonkeyPatch, *, key: bool = True
) -> AsyncIterator[Running]:
    monkeypatch.setenv("SOME_KEY", "sk-own")
    openai: dict[str, Any] = {"dialect": "openai", "base_url": f"{provider.url}/v1"}
    if key:
        openai["api_key_env"] = "SOME_KEY"
    async with sidecar(folder, {"openai": openai}, pins=text) as running:
        yield running


async def pinned(running: Running) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{running.admin}/pins") as answer:
        found: dict[str, Any] = (await answer.json())["names"]["chat.core"]["drilled"]
        return found


def sample(running: Running, name: str, **labels: str) -> float | None:
    return running.lifecycle.shared.metrics.registry.get_sample_value(name, labels)


def lowered(record: Record) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in record.raw_headers]


def state(running: Running) -> State:
    return running.lifecycle.shared.state


async def test_it_works(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    async with site(tmp_path, provider, pins(spare=f"provider: openai, {PRICE}"), monkeypatch) as running:
        event = await running.event(0, kind="drill")
        shown = await pinned(running)
    seen = provider.ledger.requests[0]
    assert (seen.method, seen.path, seen.model) == ("POST", "/v1/chat/completions", SPARE)
    assert (b"authorization", b"Bearer sk-own") in lowered(seen)
    assert {name: event[name] for name in ("pin", "model_id", "provider", "success", "status", "fault")} == {
        "pin": "chat.core", "model_id": SPARE, "provider": "openai", "success": True, "status": 200, "fault": None,
    }  # fmt: skip
    assert event["tokens_prompt"] == seen.prompt_tokens > 0
    assert 0 < event["tokens_completion"] <= 16
    assert event["cost_usd"] == pytest.approx((event["tokens_prompt"] + 4 * event["tokens_completion"]) / 1e6)
    assert (shown[SPARE]["ok"], shown[SPARE]["status"], shown[SPARE]["fault"]) == (True, 200, None)
    assert shown[SPARE]["last_success_at"] == shown[SPARE]["at"]
    metric = "sidecar_drill_last_success_timestamp_seconds"
    assert began <= (sample(running, metric, pin="chat.core", model=SPARE) or 0) <= time.time()
    assert (sample(running, "sidecar_drills_total", result="ok") or 0) >= 1
    assert running.events() == [], "no request of anybody's"


@pytest.mark.parametrize("fault", ["error=0", "eof=0"], ids=["an error", "nothing"])
async def test_a_200_without_an_answer_does_not_work(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    provider.script([{"match": {"model": SPARE}, "fault": fault}])
    async with site(tmp_path, provider, pins(), monkeypatch) as running:
        event = await running.event(0, kind="drill")
    assert (event["success"], event["status"]) == (False, 200)
    assert event["fault"] is not None


async def test_again_and_again(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(tmp_path, provider, pins(), monkeypatch) as running:
        await running.event(kind="drill", count=3)
    times = [request.time for request in provider.ledger.requests]
    assert min(later - sooner for sooner, later in pairwise(times)) >= 90, "milliseconds"


async def test_nothing_of_it_is_learned(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny answers would make each reservation too small."""
    async with site(tmp_path, provider, pins(spare="provider: openai, context: 100000"), monkeypatch) as running:
        before = state(running).sizes.input_tokens(SPARE, 40_000)
        await running.event(kind="drill", count=3)
        assert state(running).sizes.input_tokens(SPARE, 40_000) == before
        assert state(running).sizes.output_p95(SPARE) is None


async def test_it_is_charged_and_needs_budget(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = "provider: openai, budget: {requests_per_minute: 2}"
    async with site(tmp_path, provider, pins(spare=budget), monkeypatch) as running:
        await running.event(kind="drill", count=4)
        drilled = [(e["success"], e["fault"]) for e in running.events("drill")][:4]
        shown = await pinned(running)
    assert drilled == [(True, None), (True, None), (False, "no_budget"), (False, "no_budget")]
    assert len(provider.ledger.requests) == 2
    assert shown[SPARE]["last_success_at"] < shown[SPARE]["at"]


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        ("status=503", 503, "overload"),
        ("retired", 404, "model_gone"),
        ("status=429; code=insufficient_quota", 429, "quota"),
        ("status=401", 401, "refused"),
        ("cut=0", None, "broken"),
    ],
)
async def test_it_fails(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, status: int, told: str
) -> None:
    """Once: no retry, no fallback; and the breaker hears of it."""
    provider.script([{"match": {"model": SPARE}, "fault": fault}])
    breaker = "provider: openai, breaker: {failures: 1, cooldown: 1m}"
    async with site(tmp_path, provider, pins(every="1s", spare=breaker), monkeypatch) as running:
        event = await running.event(0, kind="drill")
        shown = await pinned(running)
        tripped = state(running).breakers.state(Target("openai", SPARE), time.monotonic())
    assert (event["success"], event["status"], event["fault"]) == (False, status, told)
    assert (shown[SPARE]["ok"], shown[SPARE]["fault"], shown[SPARE]["last_success_at"]) == (False, told, None)
    assert tripped == ("closed" if told == "refused" else "open")
    paths = [r.path for r in provider.ledger.requests]
    assert paths == ["/v1/chat/completions", "/v1/responses"][: 2 if status == 404 else 1]
    assert sample(running, "sidecar_drills_total", result="failed") == 1
    assert sample(running, "sidecar_drill_last_success_timestamp_seconds", pin="chat.core", model=SPARE) is None


async def test_the_provider_is_down(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-own")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    spare = {"dialect": "openai", "base_url": f"http://127.0.0.1:{nobody}/v1", "api_key_env": "SOME_KEY"}
    providers: dict[str, Any] = {"openai": f"{provider.url}/v1", "second": spare}
    async with sidecar(tmp_path, providers, pins=pins(spare="provider: second")) as running:
        event = await running.event(0, kind="drill")
        assert (event["success"], event["status"], event["fault"]) == (False, None, "connect")
        await running.event(kind="drill", count=3)
    assert sum("drill of" in line["message"] for line in running.log()) == 1, "told where it changes"
    assert not provider.ledger.requests


async def test_a_provider_that_needs_no_credential(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, provider, pins(), monkeypatch, key=False) as running:
        assert (await running.event(0, kind="drill"))["success"]


async def test_without_a_credential_of_its_own(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app's key passes by at each call; it is never kept for a drill."""
    provider.script([{"match": {"model": SPARE}, "fault": "status=401"}])
    async with site(tmp_path, provider, pins(), monkeypatch, key=False) as running:
        async with aiohttp.ClientSession(headers={"authorization": "Bearer sk-app"}) as http:
            body = {"model": "chat.core", "messages": [{"role": "user", "content": "hi"}]}
            async with http.post(f"{running.url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200
        await running.event(kind="drill", count=3)
        assert (await pinned(running))[SPARE]["fault"] == "no_credential"
    assert sum("no credential of its own" in line["message"] for line in running.log()) == 1


async def test_a_model_of_responses_only(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI answers 404 for it elsewhere: that must not trip it."""
    provider.script([{"match": {"path": "/v1/chat/completions"}, "fault": "status=404"}])
    breaker = "provider: openai, breaker: {failures: 1}"
    async with site(tmp_path, provider, pins(spare=breaker), monkeypatch) as running:
        event = await running.event(0, kind="drill")
        assert (event["success"], event["status"]) == (True, 200)
        assert state(running).breakers.state(Target("openai", SPARE), time.monotonic()) == "closed"


@pytest.mark.parametrize(
    ("dialect", "model", "path"),
    [
        ("anthropic", "claude-b-20260101", "/v1/messages"),
        ("gemini", "gemini-b-002", "/v1beta/models/gemini-b-002:generateContent"),
    ],
)
async def test_each_dialect(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str, model: str, path: str
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-own")
    providers = {dialect: {"dialect": dialect, "base_url": provider.url, "api_key_env": "SOME_KEY"}}
    text = pins().replace(MAIN, model.replace("-b-", "-a-")).replace(SPARE, model).replace("openai", dialect)
    async with sidecar(tmp_path, providers, pins=text) as running:
        event = await running.event(0, kind="drill")
    assert (event["success"], event["status"], event["tokens_completion"]) == (True, 200, 1)
    assert provider.ledger.requests[0].path == path
    assert b"sk-own" in dict(lowered(provider.ledger.requests[0])).values()


async def test_a_swap_plans_anew(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(tmp_path, provider, pins(every=None), monkeypatch) as running:
        assert not [t for t in asyncio.all_tasks() if t.get_name() == "drills"], "no task where nothing is drilled"
        running.pins.write_text(pins(2))
        await running.event(kind="drill", count=2)
        running.pins.write_text(pins(3, every=None))
        await until(lambda: not [t for t in asyncio.all_tasks() if t.get_name() == "drills"])
        count = len(provider.ledger.requests)
        running.pins.write_text(pins(4, every="1h"))
        await until(lambda: running.lifecycle.shared.pinned.snapshot.pins.generation == 4)  # type: ignore[union-attr]
        upcoming = state(running).drills.next()
        assert upcoming is not None
        assert upcoming[0] <= time.monotonic() + 60, "soon, not in an hour"
        assert len(provider.ledger.requests) == count


async def test_a_swap_in_the_middle_of_one(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on under its own snapshot, as a request does."""
    provider.script([{"fault": "delay=300ms"}])
    async with site(tmp_path, provider, pins(), monkeypatch) as running:
        await until(lambda: provider.ledger.open == 1)
        running.pins.write_text(pins(2, every=None))
        assert (await running.event(0, kind="drill"))["success"]
        assert provider.ledger.requests[0].outcome == "ok"


async def test_shutdown_in_the_middle_of_one(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.script([{"fault": "delay=30s"}])
    spare = "provider: openai, budget: {requests_per_minute: 9, tokens_per_minute: 90000}, breaker: {failures: 1}"
    async with site(tmp_path, provider, pins(spare=spare), monkeypatch) as running:
        await until(lambda: provider.ledger.open == 1)
        began = time.monotonic()
        await running.lifecycle.drain()
        assert time.monotonic() - began < 3
        await until(lambda: provider.ledger.open == 0)
        levels = {level.limit: level for level in state(running).ledger.levels(time.monotonic(), [("model", SPARE)])}
        assert all(level.reserved == 0 for level in levels.values()), "settled, nothing left behind"
        assert state(running).breakers.state(Target("openai", SPARE), time.monotonic()) == "closed", "nobody's fault"
        count = len(provider.ledger.requests)
        await asyncio.sleep(0.3)
        assert len(provider.ledger.requests) == count, "none while draining"
    assert running.events("drill") == []


async def test_one_at_a_time_and_no_request_waits_for_it(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.script([{"match": {"model": SPARE}, "fault": "delay=30s"}])
    async with site(tmp_path, provider, pins(every="10ms"), monkeypatch) as running:
        await until(lambda: provider.ledger.open == 1)
        assert running.lifecycle.shared.in_flight == 0, "a drain doesn't wait for it either"
        async with aiohttp.ClientSession() as http:
            for _ in range(20):
                body = {"model": "chat.core", "messages": [{"role": "user", "content": "hi"}]}
                async with http.post(f"{running.url}/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200
        assert sum(request.model == SPARE for request in provider.ledger.requests) == 1


async def test_it_is_bounded_by_the_pin_s_timeouts(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.script([{"fault": "delay=30s"}])
    async with site(tmp_path, provider, pins(pin=", timeouts: {first_event: 300ms}"), monkeypatch) as running:
        event = await running.event(0, kind="drill")
    assert (event["success"], event["fault"], event["status"]) == (False, "timeout", None)
    assert 300 <= event["latency_ms"] < 3000


async def test_a_model_that_had_no_room_to_answer_works(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one error that says so (`pings.works`); any other 400 is one."""
    monkeypatch.setattr("sidecar.dialects.pings.works", lambda status, body: status == 400 and b"error" in body)
    provider.script([{"fault": "status=400"}])
    async with site(tmp_path, provider, pins(), monkeypatch) as running:
        event = await running.event(0, kind="drill")
    assert (event["success"], event["status"], event["fault"]) == (True, 400, None)
