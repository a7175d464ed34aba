"""Events: one JSON line for each finished request, feedback, swap of the pin file and drill of a fallback.

Decides which fields a line has and what of a caller's own text may stand in it: never a prompt, an answer or a
credential; names that a caller made up only cut and cleaned; a user's name only as the settings allow.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any, Literal

from sidecar.core.charge import Charge
from sidecar.core.facts import Attempt, Exchange, Usage, Veto
from sidecar.core.record import Record
from sidecar.state.drills import Drill, Drilled
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

    def drill(self, drill: Drill, done: Drilled, usage: Usage | None = None, cost_usd: float | None = None) -> None:
        """One line for a drill of a fallback."""
        if self._sink is not None:
            self._sink.put(encode(drill_line(drill, done, usage, cost_usd)))


def request_line(record: Record, *, user_id: UserId = "sha256", salt: str = "") -> dict[str, Any]:
    """The line of a request: the guide's fields, what served and why, and what replay needs (`inputs`)."""
    x, outcome = record.exchange, record.outcome
    ask, winner = x.ask, outcome.winner
    limit = NAME_LIMIT if x.kind == "unlisted" else _ID_LIMIT
    target = winner.target if winner is not None else record.given or (x.targets[0] if x.targets else None)
    usage = winner.usage if winner is not None else record.given_usage
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
        "attempts": [_attempt(a, cost, x.received_at, limit) for a, cost in record.priced()],
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


def drill_line(drill: Drill, done: Drilled, usage: Usage | None, cost_usd: float | None) -> dict[str, Any]:
    """The line of a drill: whether a pin's fallback would have served. `fault`: or why nothing was sent."""
    return {
        "kind": "drill",
        "ts": rfc3339(done.at),
        "pin": drill.pin,
        "model_id": drill.target.model,
        "provider": drill.target.provider,
        "success": done.ok,
        "status": done.status,
        "fault": done.trouble,
        "latency_ms": round(done.latency_s * 1e3, 3),
        "tokens_prompt": usage.input if usage is not None else None,
        "tokens_completion": usage.output if usage is not None else None,
        "cost_usd": cost_usd,
    }


def user_label(unit: str | None, user_id: UserId, salt: str) -> str | None:
    """Who asked, as far as the settings allow to say it: a salted SHA-256 in hex, the unit itself, or nothing."""
    if unit is None or user_id == "none":
        return None
    if user_id == "raw":
        return safe(unit, 512)
    return hashlib.sha256((salt + unit).encode("utf-8", "surrogatepass")).hexdigest()


def _attempt(a: Attempt, cost: Charge | None, received_at: float, limit: int) -> dict[str, Any]:
    model = a.target.model
    due_at = a.started_at if a.due_at is None else a.due_at
    return {
        "model": safe(model, limit) if model is not None else None,
        "provider": a.target.provider,
        "cause": a.cause,
        "due_ms": _ms(due_at - received_at),
        "start_ms": _ms(a.started_at - received_at),
        "ttft_ms": _ms(a.first_at - a.started_at) if a.first_at is not None else None,
        "end_ms": _ms(a.ended_at - received_at) if a.ended_at is not None else None,
        "status": a.status,
        "fault": a.fault,
        "retry_after_ms": _ms(a.retry_after_s),
        "retryable": a.retryable,
        "asked_usage": a.add_usage,
        "tokens": _tokens(a, cost) if cost is not None else None,
        "commit_ms": _ms(a.committed_at - received_at) if a.committed_at is not None else None,
        "outcome": a.result,
    }


def _tokens(a: Attempt, cost: Charge) -> dict[str, int | bool] | None:
    """What it was charged; None for nothing. `estimated`: not, or not only, what the provider counted."""
    usage, told = cost.usage, cost.told(a)
    if not told and not usage.input and not usage.output:
        return None
    return {
        "prompt": usage.input,
        "completion": usage.output,
        "cached": usage.cached_input,
        "cache_write": usage.cache_write,
        "reasoning": usage.reasoning,
        "estimated": not told,
        "odd": usage.odd,
    }


def _inputs(x: Exchange, stopped: tuple[tuple[str, str], ...], limit: int) -> dict[str, Any]:
    """What the decision was made of, beside the pin file and the attempts: enough to make it again."""
    ask = x.ask
    return {
        "kind": x.kind,
        "asked": safe(ask.name) if ask.name is not None and x.pin is None else None,
        "chosen": safe(x.chosen, limit) if x.chosen is not None else None,
        "provider": ask.provider,
        # What the request says of itself.
        "body_bytes": ask.body_bytes,
        "media_bytes": ask.media_bytes,
        "max_output": ask.max_output,
        "choices": ask.choices,
        "generates": ask.generates,
        "bound": ask.bound,
        "side_effects": ask.side_effects,
        "deterministic": ask.deterministic,
        "repeatable": ask.repeatable,
        "required": ask.required,
        "no_fallback": ask.no_fallback,
        "no_hedge": ask.no_hedge,
        "asked_cache": ask.cache,
        # What was read of the state when it was decided.
        "bucket": x.bucket,
        "assignable": x.assignable,
        "latencies_ms": x.latencies_ms,
        "eligible": x.eligible,
        "default_provider": x.default_provider,
        "usable": x.usable,
        "sizes": x.sizes,
        "health": x.health,
        "budget": x.budget,
        "hedge_after_s": x.hedge_after_s,
        "hedge_least_s": x.hedge_least_s,
        "deadline_ms": _ms(x.deadline - x.received_at) if x.deadline < math.inf else None,
        "slow_ms": _ms(x.slow_at - x.received_at) if x.slow_at is not None else None,
        "injects": x.injects,
        "recalled": x.recalled,
        "vetoes": [_veto(veto) for veto in x.vetoes],
        "stopped": stopped,
    }


def _veto(veto: Veto) -> dict[str, Any]:
    return {"attempt": veto.number, "cause": veto.cause, "by": veto.by, "why": veto.said}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)
