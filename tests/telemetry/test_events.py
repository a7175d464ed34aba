"""Events: the exact fields, what a caller's text may do, and what stays out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.facts import Attempt, Cause, Fault, Outcome, Result, Target
from sidecar.core.record import Record
from sidecar.telemetry import events as module
from sidecar.telemetry.events import Events, feedback_line, request_line, swap_line, user_label
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
    "kind", "asked", "chosen", "bucket", "assignable", "provider", "input_tokens", "bound", "required", "latencies_ms",
    "eligible", "default_provider", "credential", "stopped",
}  # fmt: skip
ATTEMPT = {"model", "provider", "cause", "start_ms", "ttft_ms", "status", "fault", "tokens", "outcome"}


def as_read(record: Record, **options: Any) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(encode(request_line(record, **options)))
    return line


def test_a_request_has_exactly_these_fields(make: Make) -> None:
    line = as_read(make())
    assert set(line) == GUIDE | MORE
    assert set(line["inputs"]) == INPUTS
    assert set(line["attempts"][0]) == ATTEMPT


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
                "model": MODEL, "provider": "openai", "cause": "first", "start_ms": 1.0, "ttft_ms": 199.0,
                "status": 200, "fault": None, "outcome": "ok",
                "tokens": {"prompt": 100, "completion": 50, "cached": 10, "reasoning": 5},
            }
        ],
        "inputs": None,
    }  # fmt: skip
    assert line["inputs"] == {
        "kind": "pin", "asked": None, "chosen": MODEL, "bucket": None, "assignable": True, "provider": None,
        "input_tokens": 25, "bound": False, "required": False, "latencies_ms": None, "eligible": None,
        "default_provider": None, "credential": None, "stopped": [["chat.core", "canary"]],
    }  # fmt: skip


def test_attempts_that_failed_are_told_one_by_one(make: Make) -> None:
    record = make()
    first = Attempt(1, Target("openai", MODEL), Cause.FIRST, 10.0, status=None, fault=Fault.STALE)
    first.result = Result.FAILED
    second = record.outcome.attempts[0]
    second.cause = Cause.RESEND
    told = as_read(make(outcome=Outcome((first, second), second, None, 200)))["attempts"]
    assert [(a["cause"], a["outcome"], a["fault"], a["tokens"] is None) for a in told] == [
        ("first", "failed", "stale", True),
        ("resend", "ok", None, False),
    ]


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

    for name in ("request_line", "feedback_line", "swap_line", "encode"):
        monkeypatch.setattr(module, name, never)
    events = Events(None)
    events.request(make())
    events.feedback(request_id="r")
    events.swap(result="ok", generation=1, sha256=None, changes=[], reason=None)
