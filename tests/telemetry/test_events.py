"""Events: the exact fields, what a caller's text may do, and what stays out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.charge import charge
from sidecar.core.facts import Ask, Attempt, Cause, Fault, Outcome, Result, Target, Usage, Veto
from sidecar.core.record import Record
from sidecar.state.drills import Drill, Drilled
from sidecar.telemetry import events as module
from sidecar.telemetry.events import Events, drill_line, feedback_line, request_line, swap_line, user_label
from sidecar.telemetry.lines import encode
from sidecar.telemetry.sinks import LineSink

Make = Callable[..., Record]
MODEL = "gpt-5.4-2025-11-02"
GUIDE = {
    "ts", "request_id", "user_id", "variant", "model_id", "tokens_prompt", "tokens_completion", "latency_ms", "error",
    "task", "success", "quality_score",
}  # fmt: skip
MORE = {
    "kind", "pin", "generation", "pins_sha256", "provider", "dialect", "operation", "stream", "status", "ttft_ms",
    "overhead_us", "cost_usd", "cache", "why", "attempts", "inputs",
}  # fmt: skip
INPUTS = {
    "kind", "asked", "chosen", "provider",
    "body_bytes", "media_bytes", "max_output", "choices", "generates", "bound", "side_effects", "deterministic",
    "repeatable", "required", "no_fallback", "no_hedge", "asked_cache",
    "bucket", "assignable", "latencies_ms", "eligible", "default_provider", "usable", "sizes", "health", "budget",
    "hedge_after_s", "hedge_least_s", "deadline_ms", "slow_ms", "injects", "recalled", "vetoes", "stopped",
}  # fmt: skip
ATTEMPT = {
    "model", "provider", "cause", "due_ms", "start_ms", "ttft_ms", "end_ms", "status", "fault", "retry_after_ms",
    "retryable", "asked_usage", "tokens", "commit_ms", "outcome",
}  # fmt: skip
TOKENS = {"prompt", "completion", "cached", "cache_write", "reasoning", "estimated", "odd"}


def as_read(record: Record, **options: Any) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(encode(request_line(record, **options)))
    return line


def test_a_request_has_exactly_these_fields(make: Make) -> None:
    line = as_read(make())
    assert set(line) == GUIDE | MORE
    assert set(line["inputs"]) == INPUTS
    assert set(line["attempts"][0]) == ATTEMPT
    assert set(line["attempts"][0]["tokens"]) == TOKENS


def test_all_that_a_request_says_of_itself_is_there() -> None:
    """A new field of Ask must be stored for replay, or named here with the reason why it needn't be."""
    elsewhere = {"dialect", "operation", "stream", "name", "task"}  # stand in the line itself
    secret = {"identity", "prompt"}  # what a client wrote; what was found by it is kept
    needless = {"unit", "may_add_usage"}  # its bucket is kept; each attempt's `asked_usage` is
    stored = {"asked_cache" if f.name == "cache" else f.name for f in fields(Ask)}
    assert stored - elsewhere - secret - needless <= INPUTS


def test_what_the_fields_of_a_request_say(make: Make) -> None:
    line = as_read(make(), user_id="raw")
    assert line | {"inputs": None} == {
        "kind": "request", "ts": "2025-11-22T08:26:40.250Z", "request_id": "req-1", "user_id": "u1",
        "pin": "chat.core", "variant": "stable", "model_id": MODEL, "provider": "openai", "tokens_prompt": 100,
        "tokens_completion": 50, "latency_ms": 1000.0, "ttft_ms": 199.0, "overhead_us": 300.0, "error": None,
        "status": 200, "task": None, "success": None, "quality_score": None, "cost_usd": 0.000625, "cache": "off",
        "dialect": "openai", "operation": "chat", "stream": True, "generation": 7, "pins_sha256": "ab" * 32,
        "why": "pin chat.core; stable: no variants",
        "attempts": [
            {
                "model": MODEL, "provider": "openai", "cause": "first", "due_ms": 1.0, "start_ms": 1.0,
                "ttft_ms": 199.0, "end_ms": 1000.0, "status": 200, "fault": None, "retry_after_ms": None,
                "retryable": True, "asked_usage": False, "commit_ms": 199.5, "outcome": "ok",
                "tokens": {
                    "prompt": 100, "completion": 50, "cached": 10, "cache_write": 0, "reasoning": 5,
                    "estimated": False, "odd": False,
                },
            }
        ],
        "inputs": None,
    }  # fmt: skip
    assert line["inputs"] == {
        "kind": "pin", "asked": None, "chosen": MODEL, "bucket": None, "assignable": True, "provider": None,
        "body_bytes": 100, "media_bytes": 0, "max_output": None, "choices": 1, "generates": True, "bound": False,
        "side_effects": False, "deterministic": False, "repeatable": True, "required": False, "no_fallback": False,
        "no_hedge": False, "asked_cache": "use", "latencies_ms": None, "eligible": None, "default_provider": None,
        "usable": None, "sizes": None, "health": None, "budget": None, "hedge_after_s": None, "hedge_least_s": None,
        "deadline_ms": None, "slow_ms": None, "injects": None, "recalled": False, "vetoes": [],
        "stopped": [["chat.core", "canary"]],
    }  # fmt: skip


def test_attempts_that_failed_are_told_one_by_one(make: Make) -> None:
    record = make()
    first = Attempt(1, Target("openai", MODEL), Cause.FIRST, 10.0, status=None, fault=Fault.STALE)
    first.result = Result.FAILED
    second = record.outcome.attempts[0]
    second.cause = Cause.RESEND
    costs = tuple(charge(a, 25, 1024) for a in (first, second))
    told = as_read(make(outcome=Outcome((first, second), second, None, 200), charges=costs))["attempts"]
    assert [(a["cause"], a["outcome"], a["fault"], a["tokens"] is None) for a in told] == [
        ("first", "failed", "stale", True),
        ("resend", "ok", None, False),
    ]


def test_what_was_charged_without_being_told_is_marked(make: Make) -> None:
    lost = Attempt(1, Target("openai", MODEL), Cause.FIRST, 10.0, ended_at=10.5, result=Result.LOST_HEDGE)
    refused = Attempt(2, Target("openai", MODEL), Cause.HEDGE, 10.2, ended_at=10.3, status=500, fault=Fault.OVERLOAD)
    refused.result = Result.FAILED
    costs = (charge(lost, 25, 1024), charge(refused, 25, 1024))
    told = as_read(make(outcome=Outcome((lost, refused), None, "overload", 500), charges=costs))["attempts"]
    assert told[0]["tokens"] == dict.fromkeys(TOKENS, 0) | {
        "prompt": 25, "completion": 1024, "estimated": True, "odd": False,
    }  # fmt: skip
    assert told[1]["tokens"] is None


def test_nonsense_in_a_usage_is_flagged(make: Make) -> None:
    record = make()
    attempt = record.outcome.attempts[0]
    attempt.usage = Usage(0, 7, odd=True)
    tokens = as_read(make(outcome=Outcome((attempt,), attempt, None, 200), charges=(charge(attempt, 25, 5),)))
    assert tokens["attempts"][0]["tokens"] | {"cached": 0} == {
        "prompt": 25, "completion": 7, "cached": 0, "cache_write": 0, "reasoning": 0, "estimated": True, "odd": True,
    }  # fmt: skip


def test_an_answer_given_again_shows_its_own_usage_and_costs_nothing(make: Make) -> None:
    given = make(attempted=False, cache="hit", given=Target("openai", "b"), given_usage=Usage(9, 3), cost_usd=0.0)
    line = as_read(given)
    assert (line["model_id"], line["tokens_prompt"], line["tokens_completion"]) == ("b", 9, 3)
    assert (line["cost_usd"], line["attempts"], line["cache"]) == (0.0, [], "hit")


def test_vetoes_and_times_of_the_race(make: Make) -> None:
    record = make()
    x = record.exchange
    x.deadline, x.slow_at = 40.0, 10.2
    x.vetoes = [Veto(2, Cause.HEDGE, "allowance", ("no extra load left",))]
    inputs = as_read(record)["inputs"]
    assert (inputs["deadline_ms"], inputs["slow_ms"]) == (30_000.0, 200.0)
    assert inputs["vetoes"] == [{"attempt": 2, "cause": "hedge", "by": "allowance", "why": ["no extra load left"]}]


def test_a_refused_request_names_no_model(make: Make) -> None:
    line = as_read(make(kind="none", name="gpt-9", attempted=False, error="sidecar_unknown_model", status=404))
    assert (line["model_id"], line["provider"], line["pin"]) == (None, None, None)
    assert (line["inputs"]["asked"], line["error"], line["attempts"]) == ("gpt-9", "sidecar_unknown_model", [])


def test_the_model_is_the_first_targets_where_none_won(make: Make) -> None:
    line = as_read(make(error="overload", status=529))
    assert (line["model_id"], line["provider"], line["tokens_prompt"]) == (MODEL, "openai", None)


@given(st.text(st.characters(), min_size=1, max_size=300))
def test_an_invented_name_is_cut_and_cleaned(make: Make, name: str) -> None:
    line = as_read(make(kind="unlisted", name=name, model=name))
    for shown in (line["inputs"]["asked"], line["model_id"], line["attempts"][0]["model"]):
        assert len(shown) <= 128
        assert shown.replace("\ufffd", "").isprintable()
    assert line["pin"] is None


def test_a_name_of_a_megabyte_stays_short(make: Make) -> None:
    name = "x" * 2**20
    assert len(encode(request_line(make(kind="unlisted", name=name, model=name)))) < 4096


def test_user_ids() -> None:
    assert user_label("u1", "sha256", "pepper") == hashlib.sha256(b"pepperu1").hexdigest()
    assert user_label("u1", "raw", "pepper") == "u1"
    assert user_label("u1", "none", "pepper") is None
    assert user_label(None, "sha256", "pepper") is None
    assert user_label("\ud800", "sha256", "") is not None


def test_feedback_and_swap_lines() -> None:
    assert feedback_line(0.0, "req-1", True, 0.5, "answer") == {
        "kind": "feedback", "ts": "1970-01-01T00:00:00.000Z", "request_id": "req-1", "success": True,
        "quality_score": 0.5, "task": "answer",
    }  # fmt: skip
    drill = drill_line(Drill("p", Target("openai", "m-002")), Drilled(False, 0.0, 503, "overload", 0.25), None, None)
    assert drill == {
        "kind": "drill", "ts": "1970-01-01T00:00:00.000Z", "pin": "p", "model_id": "m-002", "provider": "openai",
        "success": False, "status": 503, "fault": "overload", "latency_ms": 250.0,
        "tokens_prompt": None, "tokens_completion": None, "cost_usd": None,
    }  # fmt: skip
    swap = swap_line(0.0, result="ok", generation=8, sha256="cd", changes=["chat.core: a -> b"], reason=None)
    assert swap == {
        "kind": "swap", "ts": "1970-01-01T00:00:00.000Z", "result": "ok", "generation": 8, "pins_sha256": "cd",
        "changes": ["chat.core: a -> b"], "reason": None,
    }  # fmt: skip


def test_events_are_written_in_order(make: Make, tmp_path: Path) -> None:
    sink = LineSink(tmp_path / "events.jsonl", name="events", on_trouble=None)
    events = Events(sink, user_id="none", salt="")
    events.request(make())
    events.feedback(request_id="req-1", success=False, quality_score=None, task=None)
    events.swap(result="rejected", generation=None, sha256=None, changes=[], reason="empty file")
    sink.close(5)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert [line["kind"] for line in lines] == ["request", "feedback", "swap"]
    assert lines[0]["user_id"] is None


def test_switched_off_events_build_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("built a line for nobody")

    for name in ("request_line", "feedback_line", "swap_line", "drill_line", "encode"):
        monkeypatch.setattr(module, name, never)
    events = Events(None)
    events.request(make())
    events.feedback(request_id="r")
    events.swap(result="ok", generation=1, sha256=None, changes=[], reason=None)
    events.drill(Drill("p", Target("openai", "m")), Drilled(True, 0.0, 200, None, 0.1))
