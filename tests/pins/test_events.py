"""Events of requests of every kind: exactly the fields of DESIGN 3.7, in whole lines, soon; and the metrics."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar, until
from tests.pins.kit import bases, chat, model_of, pins, value

GUIDE = {
    "ts", "request_id", "user_id", "variant", "model_id", "tokens_prompt", "tokens_completion", "latency_ms", "error",
    "task", "success", "quality_score",
}  # fmt: skip
OURS = {
    "kind", "pin", "generation", "pins_sha256", "provider", "dialect", "stream", "status", "ttft_ms", "overhead_us",
    "cost_usd", "cache", "why", "attempts", "operation", "inputs",
}  # fmt: skip
ATTEMPT = {
    "model", "provider", "cause", "due_ms", "start_ms", "ttft_ms", "end_ms", "status", "fault", "retry_after_ms",
    "retryable", "asked_usage", "tokens", "commit_ms", "outcome",
}  # fmt: skip
MODEL = model_of(7)


def outcomes(event: dict[str, Any]) -> list[tuple[str, str, Any, str]]:
    assert set(event) == GUIDE | OURS
    for attempt in event["attempts"]:
        assert set(attempt) == ATTEMPT
    return [(a["model"], a["cause"], a["fault"], a["outcome"]) for a in event["attempts"]]


def said(event: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(event[name] for name in names)


async def test_a_whole_answer(seven: Running, http: aiohttp.ClientSession) -> None:
    began = time.time()
    answer = await chat(http, seven, user="ann", headers={"x-sidecar-task": "summarise"})
    usage = json.loads(answer.body)["usage"]
    event = await seven.event()
    assert outcomes(event) == [(answer.headers["x-sidecar-model"], "first", None, "ok")]
    assert said(event, "request_id", "pin", "variant", "model_id") == tuple(
        answer.headers[f"x-sidecar-{name}"] for name in ("request-id", "pin", "variant", "model")
    )
    assert said(event, "tokens_prompt", "tokens_completion") == (usage["prompt_tokens"], usage["completion_tokens"])
    price = (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 2.0) / 1e6
    assert event["cost_usd"] == pytest.approx(price)
    assert said(event, "error", "status", "stream", "cache", "task") == (None, 200, False, "off", "summarise")
    assert said(event, "success", "quality_score", "dialect", "provider") == (None, None, "openai", "openai")
    assert said(event, "generation", "operation") == (7, "chat")
    assert event["user_id"] == hashlib.sha256(b"ann").hexdigest()
    assert 0 < event["overhead_us"] < event["latency_ms"] * 1000
    assert abs(datetime.fromisoformat(event["ts"]).timestamp() - began) < 10
    assert event["inputs"]["kind"] == "pin"
    assert event["attempts"][0]["tokens"] == {
        "prompt": usage["prompt_tokens"],
        "completion": usage["completion_tokens"],
        "cached": 0,
        "cache_write": 0,
        "reasoning": 0,
        "estimated": False,
        "odd": False,
    }


async def test_a_stream(seven: Running, http: aiohttp.ClientSession) -> None:
    await chat(http, seven, stream=True)
    event = await seven.event()
    assert outcomes(event) == [(MODEL, "first", None, "ok")]
    assert said(event, "stream", "status", "error") == (True, 200, None)
    assert event["ttft_ms"] > 0
    assert event["tokens_completion"] > 0


async def test_refused(seven: Running, http: aiohttp.ClientSession) -> None:
    await chat(http, seven, "invented-by-a-client")
    event = await seven.event()
    assert outcomes(event) == []
    assert said(event, "status", "error") == (404, "sidecar_unknown_model")
    assert said(event, "pin", "model_id", "provider") == (None, None, None)
    assert event["inputs"]["asked"] == "invented-by-a-client"
    assert value(seven, "sidecar_unlisted_total", {"dialect": "openai"}) == 1


async def test_unlisted_and_passed_on(provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with sidecar(tmp_path, bases(provider), pins=pins(7, unlisted="pass")) as running:
        answer = await chat(http, running, "gpt-unlisted")
        assert (answer.status, "x-sidecar-model" in answer.headers) == (200, False)
        event = await running.event()
        assert outcomes(event) == [("gpt-unlisted", "first", None, "ok")]
        assert said(event, "pin", "model_id", "error") == (None, "gpt-unlisted", None)
        assert event["inputs"]["kind"] == "unlisted"
        assert value(running, "sidecar_unlisted_total", {"dialect": "openai"}) == 1


async def test_an_untouched_path(seven: Running, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{seven.url}/v1/files") as answer:
        assert answer.status == 200
    event = await seven.event()
    assert outcomes(event) == [(None, "first", None, "ok")]
    assert said(event, "pin", "model_id", "provider", "operation", "status") == (None, None, "openai", "other", 200)
    assert value(seven, "sidecar_untouched_total", {"dialect": "openai"}) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_the_client_leaves(seven: Running, stream: bool) -> None:
    body = json.dumps({"model": "chat.core", "messages": [], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    fault = "gap=5s" if stream else "delay=30s"
    reader, writer = await asyncio.open_connection("127.0.0.1", seven.port)
    writer.write(f"{head}x-fake-fault: {fault}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
    if stream:
        await reader.readuntil(b"data: ")
    await until(lambda: seven.lifecycle.shared.in_flight == 1)
    await asyncio.sleep(0.05)
    writer.transport.abort()
    event = await seven.event()
    assert outcomes(event) == [(MODEL, "first", None, "client_gone")]
    assert said(event, "error", "status") == ("client_gone", 200 if stream else None)


async def test_the_provider_fails(seven: Running, http: aiohttp.ClientSession) -> None:
    answer = await chat(http, seven, headers={"x-fake-fault": "status=429;retry-after=60"})
    assert (answer.status, "x-sidecar-error" in answer.headers) == (429, False)
    event = await seven.event()
    assert outcomes(event) == [(MODEL, "first", "rate_limit", "failed")]
    assert said(event, "error", "status", "tokens_prompt", "cost_usd") == ("rate_limit", 429, None, 0.0)
    await chat(http, seven, headers={"x-fake-fault": "cut=headers"})
    event = await seven.event(count=2)
    assert said(event, "error", "status") == ("sidecar_upstream_unreachable", 502)
    assert [o[1:] for o in outcomes(event)] == [
        ("first", "stale", "failed"),
        ("resend", "broken", "failed"),
        ("retry", "broken", "failed"),
    ]


async def test_a_stream_breaks_off(seven: Running, http: aiohttp.ClientSession) -> None:
    async with http.post(
        f"{seven.url}/v1/chat/completions",
        json={"model": "chat.core", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        headers={"x-fake-fault": "eof=2"},
    ) as answer:
        assert b"sidecar_stream_interrupted" in await answer.content.read()
    event = await seven.event()
    assert outcomes(event) == [(MODEL, "first", "broken", "failed")]
    assert said(event, "error", "status") == ("sidecar_stream_interrupted", 200)


PEPPERED = hashlib.sha256(b"pepperann").hexdigest()


@pytest.mark.parametrize(("user_id", "wanted"), [("raw", "ann"), ("none", None), ("sha256", PEPPERED)])
async def test_who_asked(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path, user_id: str, wanted: str | None
) -> None:
    events = {"path": "events.jsonl", "user_id": user_id, "salt": "pepper"}
    async with sidecar(tmp_path, bases(provider), pins=pins(7), events=events) as running:
        await chat(http, running, user="ann")
        assert (await running.event())["user_id"] == wanted
    if user_id != "raw":
        everything = (tmp_path / "events.jsonl").read_text() + (tmp_path / "log.jsonl").read_text()
        assert '"ann"' not in everything


async def test_lines_are_whole_and_soon(seven: Running, http: aiohttp.ClientSession) -> None:
    """Promised within a second; asserted within ten."""
    path = seven.folder / "events.jsonl"
    slowest = 0.0
    for count in range(1, 31):
        await chat(http, seven, stream=count % 2 == 0)
        began = time.monotonic()
        await until(lambda n=count: len(seven.events()) == n)
        slowest = max(slowest, time.monotonic() - began)
        assert path.read_bytes().endswith(b"\n")
    assert slowest < 10
    assert len({e["request_id"] for e in seven.events()}) == 30


async def test_another_model_answers(seven: Running, http: aiohttp.ClientSession) -> None:
    for stream in (False, True):
        answer = await chat(http, seven, stream=stream, headers={"x-fake-fault": "model=gpt-other-2026-01-01"})
        assert answer.headers["x-sidecar-model"] == MODEL
        assert b"gpt-other-2026-01-01" in answer.body  # left as the provider wrote it
    await chat(http, seven)
    await seven.event(count=3)
    assert value(seven, "sidecar_model_drift_total", {"model": MODEL}) == 2


@pytest.mark.parametrize("unlisted", ["reject", "pass"])
async def test_invented_names_add_no_series(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path, unlisted: str
) -> None:
    """10,000 names: most at the policies and the metrics, where they would be kept; some all the way."""
    async with sidecar(tmp_path, bases(provider), pins=pins(7, unlisted=unlisted), events={"path": "/dev/null"}) as at:
        shared = at.lifecycle.shared

        def series() -> set[str]:
            samples = [sample for family in shared.metrics.registry.collect() for sample in family.samples]
            return {f"{sample.name} {sample.labels}" for sample in samples}

        async def invent(names: range) -> None:
            for number in names:
                headers = {"x-sidecar-unit": f"u{number}", "x-sidecar-task": f"t{number}"}
                await chat(http, at, f"invented-{number}", headers=headers)

        await invent(range(20))
        _decide_and_count(at, 10)
        before = series()
        await asyncio.gather(*(invent(range(n, n + 40)) for n in range(100, 500, 40)))
        _decide_and_count(at, 10_000)
        assert series() == before
        assert value(at, "sidecar_unlisted_total", {"dialect": "openai"}) == 10_430


def _decide_and_count(at: Running, count: int) -> None:
    from sidecar.compose import resolve
    from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Outcome, Result
    from sidecar.core.record import Record

    shared = at.lifecycle.shared
    snapshot = shared.pinned.snapshot
    assert snapshot is not None
    for number in range(count):
        x = Exchange("r", Ask(dialect="openai", operation="chat", name=f"new-{number}", required=True), 0.0)
        refusal = resolve(snapshot, x)
        attempts: tuple[Attempt, ...] = ()
        if refusal is None:
            attempts = (Attempt(1, x.targets[0], Cause.FIRST, 0.0, result=Result.OK, served=f"served-{number}"),)
        outcome = Outcome(attempts, attempts[0] if attempts else None, refusal.code if refusal else None, 200)
        record = Record(0.0, x, outcome, "7", "0" * 64, (), 0.1, None, 0.0, None)
        shared.metrics.observe(record)


async def test_a_request_refused_before_its_name_was_read_has_its_line_too(proxy: Running) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{proxy.url}/v1/chat/completions", data=b"{") as answer:
            assert answer.status == 400
        async with http.get(f"{proxy.url}/v1/models", headers={"Host": "attacker.example"}) as answer:
            assert answer.status == 403
    await proxy.event(count=2)
    bad, foreign = proxy.events()
    assert (bad["error"], bad["status"], bad["operation"]) == ("sidecar_bad_request", 400, "chat")
    assert (foreign["error"], foreign["status"], foreign["pin"]) == ("sidecar_forbidden", 403, None)
    assert {bad["inputs"]["kind"], foreign["inputs"]["kind"]} == {"undecided"}
    assert bad["attempts"] == []
