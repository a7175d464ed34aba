"""Events: the lines beside a request's, their order, and that none is built for nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.core.facts import Target
from sidecar.core.record import Record
from sidecar.state.drills import Drill, Drilled
from sidecar.telemetry import events as module
from sidecar.telemetry.events import Events, drill_line, feedback_line, swap_line
from sidecar.telemetry.sinks import LineSink

Make = Callable[..., Record]


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


def test_requests_that_wait_come_before_what_follows_them(make: Make, tmp_path: Path) -> None:
    sink = LineSink(tmp_path / "events.jsonl", name="events")
    events = Events(sink, later=lambda _delay_s, _call: None)
    events.request(make())
    events.request(make())
    events.feedback(request_id="req-1", success=True)
    events.request(make())
    events.flush()
    sink.close(5)
    lines = [json.loads(line)["kind"] for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert lines == ["request", "request", "feedback", "request"]


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
