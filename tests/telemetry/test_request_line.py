"""The line of a request: the exact fields, what a caller's text may do, and what stays out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.charge import Charge, charge
from sidecar.core.facts import Ask, Attempt, Cause, Fault, Outcome, Result, Target, Usage, Veto
from sidecar.core.record import Record
from sidecar.telemetry.lines import encode
from sidecar.telemetry.request_line import request_line, user_label

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


# What each field of a record's parts shows as: (part, field, value) → {name in the line: value there}.
PLACES: list[tuple[str, str, Any, dict[str, Any]]] = [
    *(("ask", f, 77, {f"inputs.{f}": 77}) for f in ("body_bytes", "media_bytes", "max_output", "choices")),
    *(
        ("ask", flag, True, {f"inputs.{flag}": True})
        for flag in ("generates", "bound", "side_effects", "deterministic", "required", "no_fallback", "no_hedge")
    ),
    ("ask", "repeatable", False, {"inputs.repeatable": False}),
    ("ask", "provider", "else", {"inputs.provider": "else"}),
    ("ask", "cache", "refresh", {"inputs.asked_cache": "refresh"}),
    ("ask", "dialect", "else", {"dialect": "else"}),
    ("ask", "operation", "else", {"operation": "else"}),
    ("ask", "stream", True, {"stream": True}),
    ("ask", "task", "else", {"task": "else"}),
    ("ask", "unit", "else", {"user_id": "else"}),
    ("x", "id", "else", {"request_id": "else"}),
    ("x", "variant", "else", {"variant": "else"}),
    ("x", "pin", "else", {"pin": "else"}),
    ("x", "kind", "alias", {"inputs.kind": "alias"}),
    ("x", "chosen", "else", {"inputs.chosen": "else"}),
    ("x", "why", ["a", "b"], {"why": "a; b"}),
    ("x", "bucket", 77, {"inputs.bucket": 77}),
    ("x", "assignable", False, {"inputs.assignable": False}),
    ("x", "latencies_ms", {"m": 7}, {"inputs.latencies_ms": {"m": 7}}),
    ("x", "eligible", ("p",), {"inputs.eligible": ["p"]}),
    ("x", "default_provider", "else", {"inputs.default_provider": "else"}),
    ("x", "usable", ("p",), {"inputs.usable": ["p"]}),
    ("x", "sizes", {"m": 7}, {"inputs.sizes": {"m": 7}}),
    ("x", "health", {"m": "open"}, {"inputs.health": {"m": "open"}}),
    ("x", "budget", {"m": 0.5}, {"inputs.budget": {"m": 0.5}}),
    ("x", "hedge_after_s", 0.5, {"inputs.hedge_after_s": 0.5}),
    ("x", "hedge_least_s", 0.5, {"inputs.hedge_least_s": 0.5}),
    ("x", "deadline", 15.0, {"inputs.deadline_ms": 5000.0}),
    ("x", "slow_at", 15.0, {"inputs.slow_ms": 5000.0}),
    ("x", "injects", {"p": True}, {"inputs.injects": {"p": True}}),
    ("x", "recalled", True, {"inputs.recalled": True}),
    ("attempt", "target", Target("p", "m"),
     {"provider": "p", "model_id": "m", "attempts.0.provider": "p", "attempts.0.model": "m"}),
    ("attempt", "cause", Cause.RETRY, {"attempts.0.cause": "retry"}),
    ("attempt", "due_at", 10.5, {"attempts.0.due_ms": 500.0}),
    ("attempt", "started_at", 10.0,
     {"attempts.0.due_ms": 0.0, "attempts.0.start_ms": 0.0, "attempts.0.ttft_ms": 200.0}),
    ("attempt", "first_at", 11.0, {"attempts.0.ttft_ms": 999.0}),
    ("attempt", "ended_at", 12.0, {"attempts.0.end_ms": 2000.0}),
    ("attempt", "committed_at", 10.5, {"attempts.0.commit_ms": 500.0}),
    ("attempt", "status", 201, {"attempts.0.status": 201}),
    ("attempt", "fault", Fault.SLOW, {"attempts.0.fault": "slow"}),
    ("attempt", "result", Result.FAILED, {"attempts.0.outcome": "failed"}),
    ("attempt", "retry_after_s", 0.5, {"attempts.0.retry_after_ms": 500.0}),
    ("attempt", "retryable", False, {"attempts.0.retryable": False}),
    ("attempt", "add_usage", True, {"attempts.0.asked_usage": True}),
    ("usage", "input", 77, {"tokens_prompt": 77, "attempts.0.tokens.prompt": 77}),
    ("usage", "output", 77, {"tokens_completion": 77, "attempts.0.tokens.completion": 77}),
    ("usage", "cached_input", 77, {"attempts.0.tokens.cached": 77}),
    ("usage", "cache_write", 77, {"attempts.0.tokens.cache_write": 77}),
    ("usage", "reasoning", 77, {"attempts.0.tokens.reasoning": 77}),
    ("usage", "odd", True, {"attempts.0.tokens.odd": True}),
    ("record", "ts", 0.0, {"ts": "1970-01-01T00:00:00.000Z"}),
    ("record", "generation", "8+stop", {"generation": "8+stop"}),
    ("record", "sha256", "cd", {"pins_sha256": "cd"}),
    ("record", "stopped", (("p", "v"),), {"inputs.stopped": [["p", "v"]]}),
    ("record", "latency_s", 0.5, {"latency_ms": 500.0}),
    ("record", "ttft_s", 0.5, {"ttft_ms": 500.0}),
    ("record", "overhead_s", 0.5, {"overhead_us": 500_000.0}),
    ("record", "cost_usd", 0.5, {"cost_usd": 0.5}),
    ("record", "cache", "miss", {"cache": "miss"}),
    ("outcome", "error", "else", {"error": "else"}),
    ("outcome", "status", 201, {"status": 201}),
]  # fmt: skip


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Names of leaves, such as `attempts.0.tokens.odd`, and their values. Inside `inputs` nothing is opened."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if at.count(".") == 1 and at.startswith("inputs."):
        return {at: value}
    return {k: v for key, inner in items for k, v in flat(inner, f"{at}.{key}".lstrip(".")).items()} or {at: value}


@pytest.mark.parametrize(("part", "field", "value", "shown"), PLACES, ids=lambda v: v if isinstance(v, str) else "")
def test_each_field_has_its_own_place(make: Make, part: str, field: str, value: Any, shown: dict[str, Any]) -> None:
    """The structs are made by position, so a mistake there would be a value under another's name."""

    def told(*, changed: bool) -> dict[str, Any]:
        record = make()
        x, outcome = record.exchange, record.outcome
        x.ask = Ask("openai", "chat", "chat.core", unit="u1", body_bytes=100)
        usage = Usage(input=100, output=50, cached_input=10, reasoning=5)
        attempt = outcome.attempts[0]
        attempt.usage = usage
        record = record._replace(charges=(Charge(usage, kept=False),))
        if not changed:
            pass
        elif part == "record":
            record = record._replace(**{field: value})
        elif part == "outcome":
            record = record._replace(outcome=outcome._replace(**{field: value}))
        else:
            setattr({"ask": x.ask, "x": x, "attempt": attempt, "usage": usage}[part], field, value)
        return flat(as_read(record, user_id="raw"))

    before, after = told(changed=False), told(changed=True)
    assert {k: v for k, v in after.items() if before.get(k) != v} == shown


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
