"""`sidecar replay` of a day on which things went wrong: retries, hedges, fallbacks, vetoes, budgets, cached answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.cli import main
from sidecar.provider import FakeProvider
from tests.harness import Running, lines, sidecar, until

A, B, C, CHEAP, SPENT, OWN = (f"gpt-{name}-2026-01-01" for name in ("a", "b", "c", "cheap", "spent", "own"))
PINS = f"""\
version: 1
generation: 1
unlisted: reject
defaults: {{retry: {{base: 20ms, max: 300ms}}, extra_load: {{burst: 100}}}}
models:
  {A}: {{provider: openai, context: 128000, price: {{input: 1, output: 2}}}}
  {B}: {{provider: openai, context: 128000, price: {{input: 1, output: 2}}}}
  {C}: {{provider: other, context: 128000, price: {{input: 1, output: 2}}}}
  {CHEAP}: {{provider: openai, context: 128000, price: {{input: 0.1, output: 0.2}}}}
  {SPENT}: {{provider: openai, budget: {{requests_per_minute: 2}}, breaker: {{failures: 1, cooldown: 60s}}}}
  {OWN}: {{provider: openai, breaker: {{failures: 2, cooldown: 60s}}}}
pins:
  plain: {{stable: {A}}}
  backed: {{stable: {A}, fallback: [{B}, {C}]}}
  hedged: {{stable: {A}, hedge: {{model: {B}, after: 60ms}}, fallback: [{C}]}}
  same: {{stable: {A}, hedge: {{after: 60ms}}}}
  lean: {{stable: {A}, extra_load: {{burst: 0}}, hedge: {{model: {B}, after: 60ms}}, fallback: [{B}]}}
  kept: {{stable: {A}, cache: {{ttl: 1h}}}}
  spent: {{stable: {SPENT}, over_budget: {CHEAP}}}
  strict: {{stable: {SPENT}, fallback: [{B}]}}
  tripped: {{stable: {OWN}, fallback: [{B}]}}
"""
Chat = Callable[..., Any]


@pytest.fixture
async def running(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    providers = {
        "openai": f"{provider.url}/v1",
        "other": {"dialect": "openai", "base_url": f"{provider.url}/v1", "api_key_env": "OTHER_KEY"},
    }
    async with sidecar(tmp_path, providers, pins=PINS) as made:
        yield made


class Day:
    """Traffic, one request at a time, each with the script of what its models do."""

    def __init__(self, at: Running, provider: FakeProvider, http: aiohttp.ClientSession) -> None:
        self.at, self.provider, self.http = at, provider, http

    async def ask(self, pin: str, faults: dict[str, str] | None = None, **more: Any) -> int:
        """`faults`: model → fault, for ever; with a number before a colon, so many times."""
        rules: list[dict[str, Any]] = []
        for model, text in (faults or {}).items():
            times, _, fault = text.rpartition(":")
            rules.append({"match": {"model": model}, "fault": fault} | ({"times": int(times)} if times else {}))
        self.provider.script(rules)
        headers = more.pop("headers", {})
        body = {"model": pin, "messages": [{"role": "user", "content": "hi"}]} | more
        async with self.http.post(f"{self.at.url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
            return answer.status


async def a_day(day: Day) -> None:
    for stream in (False, True):
        assert await day.ask("plain", {A: "1:status=503"}, stream=stream) == 200  # retried
        assert await day.ask("plain", {A: "1:status=429;retry-after-ms=100"}, stream=stream) == 200
        assert await day.ask("plain", {A: "status=429;retry-after=5"}, stream=stream) == 429  # too long to wait
        assert await day.ask("plain", {A: "status=400"}, stream=stream) == 400
        assert await day.ask("plain", {A: "status=503"}, stream=stream) == 503  # three times
        assert await day.ask("plain", {A: "cut=headers"}, stream=stream) == 502
        assert await day.ask("backed", {A: "status=500"}, stream=stream) == 200
        assert await day.ask("backed", {A: "status=429;code=insufficient_quota"}, stream=stream) == 200
        assert await day.ask("backed", {A: "status=503", B: "status=503"}, stream=stream) == 503
        assert await day.ask("backed", {A: "status=401"}, stream=stream) == 401  # the caller's own credential
        off = {"x-sidecar-fallback": "off"}
        assert await day.ask("backed", {A: "status=503"}, stream=stream, headers=off) == 503
        slow = "first=5s" if stream else "delay=5s"
        assert await day.ask("hedged", {A: slow}, stream=stream) == 200
        assert await day.ask("same", {A: f"1:{slow}"}, stream=stream) == 200
        assert await day.ask("hedged", {A: "status=503"}, stream=stream) == 200  # launched at once
        assert await day.ask("hedged", {A: "status=503", B: "status=503"}, stream=stream) == 200
        late = "first=200ms" if stream else "delay=200ms"
        assert await day.ask("hedged", {A: late, B: "status=503"}, stream=stream) == 200
        assert await day.ask("lean", {A: late}, stream=stream) == 200  # the allowance vetoes
        assert await day.ask("lean", {A: "status=503"}, stream=stream) == 200
        assert await day.ask("kept", temperature=0, stream=stream) == 200
        assert await day.ask("kept", temperature=0, stream=stream) == 200  # from memory
        hurry = {"x-stainless-read-timeout": "0.5"}
        assert await day.ask("backed", {A: "delay=9s", B: "delay=9s"}, stream=stream, headers=hurry) == 200
        assert await day.ask("plain", {A: "delay=9s"}, stream=stream, headers=hurry) == 504
    await day.ask("plain", {A: "eof=2"}, stream=True)  # interrupted after the commit
    await day.ask("plain", {A: "error=1"}, stream=True)
    assert await day.ask("plain", {A: "1:reject-stream-options"}, stream=True) == 200
    assert await asyncio.gather(*(day.ask("kept", {A: "delay=100ms"}, temperature=0, seed=1) for _ in range(4))) == (
        [200] * 4
    )
    assert [await day.ask("spent") for _ in range(3)] == [200, 200, 200]  # the third is the cheaper model's
    assert await day.ask("strict") == 429
    assert [await day.ask("tripped", {OWN: "status=503"}) for _ in range(3)] == [200, 200, 200]
    await leaves(day, "plain", {A: "delay=9s"})
    await leaves(day, "plain", {A: "status=503;retry-after-ms=290"})  # between two attempts
    await leaves(day, "hedged", {A: "delay=9s", B: "delay=9s"})  # from two at once


async def leaves(day: Day, pin: str, faults: dict[str, str]) -> None:
    """A client that has waited long enough."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await day.ask(pin, faults)


@pytest.fixture
async def recorded(running: Running, provider: FakeProvider) -> Path:
    async with aiohttp.ClientSession() as http:
        await a_day(Day(running, provider, http))
    shared = running.lifecycle.shared
    await until(lambda: shared.in_flight == 0)
    total = shared.metrics.registry.get_sample_value("sidecar_overhead_seconds_count")
    await until(lambda: len(running.events()) == total)
    return running.folder / "events.jsonl"


def replay(events: Path, *words: str) -> int:
    return main(["replay", str(events), "--pins", str(events.with_name("pins.yaml")), *words])


async def test_a_bad_day(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [e for e in lines(recorded) if e["kind"] == "request"]
    seen = {(a["cause"], a["outcome"]) for e in requests for a in e["attempts"]}
    assert {cause for cause, _ in seen} >= {"first", "retry", "hedge", "fallback", "without_usage", "resend"}
    assert {outcome for _, outcome in seen} == {"ok", "failed", "lost_hedge", "client_gone"}
    assert {e["cache"] for e in requests} >= {"off", "miss", "hit", "coalesced"}
    assert {v["by"] for e in requests for v in e["inputs"]["vetoes"]} >= {"allowance"}
    assert {e["error"] for e in requests} >= {"sidecar_budget_exceeded", "sidecar_stream_interrupted", "client_gone"}
    for config in ([], ["--config", str(recorded.with_name("sidecar.yaml"))]):
        code = replay(recorded, *config)
        said = capsys.readouterr()
        assert code == 0, said.out
        assert f"{len(requests)} decisions are the same, 0 differ, 0 could not" in said.out
    await asyncio.to_thread(_tampering, recorded, capsys)


def _tampering(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each lie about one event is found, and no other event is called a liar."""
    whole = [json.loads(line) for line in events.read_text().splitlines()]

    def first(holds: Callable[[dict[str, Any]], bool]) -> int:
        return next(n for n, e in enumerate(whole) if e["kind"] == "request" and holds(e))

    def causes(event: dict[str, Any]) -> list[str]:
        return [a["cause"] for a in event["attempts"]]

    retried = first(lambda e: causes(e) == ["first", "retry"] and e["status"] == 200)
    fell = first(lambda e: causes(e) == ["first", "retry", "fallback"])
    hedged = first(lambda e: causes(e) == ["first", "hedge"] and e["attempts"][0]["outcome"] == "lost_hedge")
    vetoed = first(lambda e: bool(e["inputs"]["vetoes"]))
    spent = first(lambda e: e["error"] == "sidecar_budget_exceeded")
    cheaper = first(lambda e: e["model_id"] == CHEAP)
    ill = first(lambda e: "open" in str(e["inputs"]["health"]))
    lies: list[tuple[int, Callable[[dict[str, Any]], object]]] = [
        (retried, lambda e: e["attempts"].pop()),
        (retried, lambda e: e["attempts"][1].update(cause="hedge")),
        (retried, lambda e: e["attempts"][1].update(model=B)),
        (retried, lambda e: e["attempts"][1].update(due_ms=e["attempts"][1]["due_ms"] + 1)),
        (retried, lambda e: e["attempts"][0].update(fault="caller")),
        (retried, lambda e: e["attempts"][0].update(retryable=False)),
        (retried, lambda e: e["attempts"][1].update(commit_ms=None)),
        (retried, lambda e: e.update(request_id="req_other")),
        (retried, lambda e: e["inputs"].update(repeatable=False)),
        (fell, lambda e: e["attempts"][2].update(provider="other")),
        (fell, lambda e: e["inputs"].update(no_fallback=True)),
        (fell, lambda e: e.update(status=500)),
        (fell, lambda e: e.update(model_id=A)),
        (hedged, lambda e: e["inputs"].update(hedge_after_s=0.5)),
        (hedged, lambda e: e["inputs"].update(hedge_least_s=1e6)),
        (hedged, lambda e: e["inputs"].update(slow_ms=None)),
        (hedged, lambda e: e["inputs"].update(no_hedge=True, hedge_after_s=None)),
        (hedged, lambda e: e["attempts"][1].update(commit_ms=None)),
        (vetoed, lambda e: e["inputs"].update(vetoes=[])),
        (vetoed, lambda e: e["inputs"]["vetoes"][0].update(why=[])),
        (vetoed, lambda e: e["inputs"]["vetoes"].append({"attempt": 9, "cause": "retry", "by": "budget", "why": []})),
        (spent, lambda e: e["inputs"].update(budget=dict.fromkeys(e["inputs"]["budget"], 1.0))),
        (spent, lambda e: e.update(status=200, error=None)),
        (cheaper, lambda e: e["inputs"].update(budget=dict.fromkeys(e["inputs"]["budget"], 1.0))),
        (ill, lambda e: e["inputs"].update(health={})),
    ]
    for number, (at, lie) in enumerate(lies):
        event = json.loads(json.dumps(whole[at]))
        lie(event)
        told = [event if n == at else e for n, e in enumerate(whole)]
        events.write_text("".join(json.dumps(e) + "\n" for e in told))
        assert replay(events) == 1, f"lie {number} was not found"
        said = capsys.readouterr().out
        assert f"line {at + 1} (" in said
        assert " 1 differ, " in said, said
