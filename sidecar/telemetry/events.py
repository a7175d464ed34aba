"""Events: one JSON line for each finished request, feedback and swap of the pin file.

Decides which fields a line has and what of a caller's own text may stand in it: never a prompt, an answer or a
credential; names that a caller made up only cut and cleaned; a user's name only as the settings allow.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any, Literal

from sidecar.core.facts import Attempt, Exchange, Usage
from sidecar.core.record import Record
from sidecar.telemetry.lines import NAME_LIMIT, encode, rfc3339, safe
from sidecar.telemetry.sinks import LineSink

UserId = Literal["sha256", "raw", "none"]
_ID_LIMIT = 1024  # characters of an id from the pin file: longer ones aren't cut in practice, replay needs them whole


class Events:
    """The events file. With `sink` None nothing is built at all."""

    __slots__ = ("_salt", "_sink", "_user_id")

    def __init__(self, sink: LineSink | None, *, user_id: UserId = "sha256", salt: str = "") -> None:
        self._sink = sink
        self._user_id = user_id
        self._salt = salt

    def request(self, record: Record) -> None:
        """One line for a finished request."""
        if self._sink is not None:
            self._sink.put(encode(request_line(record, user_id=self._user_id, salt=self._salt)))

    def feedback(
        self,
        *,
        request_id: str,
        success: bool | None = None,
        quality_score: float | None = None,
        task: str | None = None,
    ) -> None:
        """One line for what the app says became of an answer."""
        if self._sink is not None:
            self._sink.put(encode(feedback_line(time.time(), request_id, success, quality_score, task)))

    def swap(
        self,
        *,
        result: str,
        generation: str | int | None,
        sha256: str | None,
        changes: Sequence[str],
        reason: str | None,
    ) -> None:
        """One line for a pin file accepted, refused, or a variant stopped."""
        if self._sink is not None:
            line = swap_line(
                time.time(), result=result, generation=generation, sha256=sha256, changes=changes, reason=reason
            )
            self._sink.put(encode(line))


def request_line(record: Record, *, user_id: UserId = "sha256", salt: str = "") -> dict[str, Any]:
    """The line of a request: the guide's fields, what served and why, and what replay needs (`inputs`)."""
    x, outcome = record.exchange, record.outcome
    ask, winner = x.ask, outcome.winner
    limit = NAME_LIMIT if x.kind == "unlisted" else _ID_LIMIT
    target = winner.target if winner is not None else x.targets[0] if x.targets else None
    usage = winner.usage if winner is not None else None
    task = x.task if x.task is not None else ask.task
    return {
        "kind": "request",
        "ts": rfc3339(record.ts),
        "request_id": x.id,
        "user_id": user_label(ask.unit, user_id, salt),
        "pin": x.pin,
        "variant": x.variant,
        "model_id": safe(target.model, limit) if target is not None and target.model is not None else None,
        "provider": target.provider if target is not None else None,
        "tokens_prompt": usage.input if usage is not None else None,
        "tokens_completion": usage.output if usage is not None else None,
        "latency_ms": round(record.latency_s * 1e3, 3),
        "ttft_ms": _ms(record.ttft_s),
        "overhead_us": round(record.overhead_s * 1e6, 1),
        "error": outcome.error,
        "status": outcome.status,
        "task": safe(task) if task is not None else None,
        "success": None,
        "quality_score": None,
        "cost_usd": record.cost_usd,
        "cache": record.cache,
        "dialect": ask.dialect,
        "operation": ask.operation,
        "stream": ask.stream,
        "generation": record.generation,
        "pins_sha256": record.sha256,
        "why": "; ".join(x.why),
        "attempts": [_attempt(a, x.received_at, limit) for a in outcome.attempts],
        "inputs": _inputs(x, record.stopped, limit),
    }


def feedback_line(
    ts: float, request_id: str, success: bool | None, quality_score: float | None, task: str | None
) -> dict[str, Any]:
    """The line that joins an outcome to the request of that id."""
    return {
        "kind": "feedback",
        "ts": rfc3339(ts),
        "request_id": safe(request_id),
        "success": success,
        "quality_score": quality_score,
        "task": safe(task) if task is not None else None,
    }


def swap_line(
    ts: float,
    *,
    result: str,
    generation: str | int | None,
    sha256: str | None,
    changes: Sequence[str],
    reason: str | None,
) -> dict[str, Any]:
    """The line of a swap: `result` is ok, rollback, rejected or stop."""
    return {
        "kind": "swap",
        "ts": rfc3339(ts),
        "result": result,
        "generation": generation,
        "pins_sha256": sha256,
        "changes": list(changes),
        "reason": reason,
    }


def user_label(unit: str | None, user_id: UserId, salt: str) -> str | None:
    """Who asked, as far as the settings allow to say it: a salted SHA-256 in hex, the unit itself, or nothing."""
    if unit is None or user_id == "none":
        return None
    if user_id == "raw":
        return safe(unit, 512)
    return hashlib.sha256((salt + unit).encode("utf-8", "surrogatepass")).hexdigest()


def _attempt(a: Attempt, received_at: float, limit: int) -> dict[str, Any]:
    model = a.target.model
    return {
        "model": safe(model, limit) if model is not None else None,
        "provider": a.target.provider,
        "cause": a.cause,
        "start_ms": round((a.started_at - received_at) * 1e3, 3),
        "ttft_ms": _ms(a.first_at - a.started_at) if a.first_at is not None else None,
        "status": a.status,
        "fault": a.fault,
        "tokens": _tokens(a.usage) if a.usage is not None else None,
        "outcome": a.result,
    }


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "prompt": usage.input,
        "completion": usage.output,
        "cached": usage.cached_input,
        "reasoning": usage.reasoning,
    }


def _inputs(x: Exchange, stopped: tuple[tuple[str, str], ...], limit: int) -> dict[str, Any]:
    """What the decision was made of, beside the pin file: enough to make it again."""
    ask = x.ask
    return {
        "kind": x.kind,
        "asked": safe(ask.name) if ask.name is not None and x.pin is None else None,
        "chosen": safe(x.chosen, limit) if x.chosen is not None else None,
        "bucket": x.bucket,
        "assignable": x.assignable,
        "provider": ask.provider,
        "input_tokens": ask.input_tokens,
        "bound": ask.bound,
        "required": ask.required,
        "latencies_ms": x.latencies_ms,
        "eligible": x.eligible,
        "default_provider": x.default_provider,
        "credential": x.credential,
        "stopped": stopped,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)
