"""The line of one request: the guide's fields, what served and why, and what replay needs (`inputs`).

Decides its fields. They are structs, made by position: as dicts the same line takes three times as long to make, and a
struct that is made by name hardly less. So a field has the same place here and below; a test fills each with a value of
its own and looks it up by name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from sidecar.core.charge import Charge
from sidecar.core.facts import Attempt, Exchange
from sidecar.core.record import Record
from sidecar.telemetry.lines import NAME_LIMIT, rfc3339, safe

UserId = Literal["sha256", "raw", "none"]
_ID_LIMIT = 1024  # characters of an id from the pin file: longer ones aren't cut in practice, replay needs them whole


class TokensLine(Struct, gc=False):
    prompt: int
    completion: int
    cached: int
    cache_write: int
    reasoning: int
    estimated: bool
    odd: bool


class AttemptLine(Struct, gc=False):
    model: str | None
    provider: str
    cause: str
    due_ms: float
    start_ms: float
    ttft_ms: float | None
    end_ms: float | None
    status: int | None
    fault: str | None
    retry_after_ms: float | None
    retryable: bool
    asked_usage: bool
    tokens: TokensLine | None
    commit_ms: float | None
    outcome: str | None


class VetoLine(Struct, gc=False):
    attempt: int
    cause: str
    by: str
    why: tuple[str, ...]


class Inputs(Struct, gc=False):
    kind: str
    asked: str | None
    chosen: str | None
    provider: str | None
    # What the request says of itself.
    body_bytes: int
    media_bytes: int
    max_output: int | None
    choices: int
    generates: bool
    bound: bool
    side_effects: bool
    deterministic: bool
    repeatable: bool
    required: bool
    no_fallback: bool
    no_hedge: bool
    asked_cache: str
    # What was read of the state when it was decided.
    bucket: int | None
    assignable: bool
    latencies_ms: dict[str, int] | None
    eligible: tuple[str, ...] | None
    default_provider: str | None
    usable: tuple[str, ...] | None
    sizes: dict[str, int] | None
    health: dict[str, str] | None
    budget: dict[str, float] | None
    hedge_after_s: float | None
    hedge_least_s: float | None
    deadline_ms: float | None
    slow_ms: float | None
    injects: dict[str, bool] | None
    recalled: bool
    vetoes: Sequence[VetoLine]
    stopped: tuple[tuple[str, str], ...]


class RequestLine(Struct, gc=False):
    kind: str
    ts: str
    request_id: str
    user_id: str | None
    pin: str | None
    variant: str
    model_id: str | None
    provider: str | None
    tokens_prompt: int | None
    tokens_completion: int | None
    latency_ms: float
    ttft_ms: float | None
    overhead_us: float
    error: str | None
    status: int | None
    task: str | None
    success: None
    quality_score: None
    cost_usd: float | None
    cache: str
    dialect: str
    operation: str
    stream: bool
    generation: int | str
    pins_sha256: str
    why: str
    attempts: list[AttemptLine]
    inputs: Inputs


def request_line(record: Record, *, user_id: UserId = "sha256", salt: str = "") -> RequestLine:
    """The line of a finished request."""
    x, outcome = record.exchange, record.outcome
    ask, winner = x.ask, outcome.winner
    limit = NAME_LIMIT if x.kind == "unlisted" else _ID_LIMIT
    target = winner.target if winner is not None else record.given or (x.targets[0] if x.targets else None)
    usage = winner.usage if winner is not None else record.given_usage
    task = x.task if x.task is not None else ask.task
    return RequestLine(
        "request",
        rfc3339(record.ts),
        x.id,
        user_label(ask.unit, user_id, salt),
        x.pin,
        x.variant,
        safe(target.model, limit) if target is not None and target.model is not None else None,
        target.provider if target is not None else None,
        usage.input if usage is not None else None,  # tokens_prompt
        usage.output if usage is not None else None,  # tokens_completion
        _ms(record.latency_s),
        _ms(record.ttft_s) if record.ttft_s is not None else None,
        (record.overhead_s * 1e7 + 0.5) // 1 / 10,  # µs
        outcome.error,
        outcome.status,
        safe(task) if task is not None else None,
        None,  # success
        None,  # quality_score
        record.cost_usd,
        record.cache,
        ask.dialect,
        ask.operation,
        ask.stream,
        record.generation,
        record.sha256,
        "; ".join(x.why),
        [_attempt(a, cost, x.received_at, limit) for a, cost in record.priced()],
        _inputs(x, record.stopped, limit),
    )


def user_label(unit: str | None, user_id: UserId, salt: str) -> str | None:
    """Who asked, as far as the settings allow to say it: a salted SHA-256 in hex, the unit itself, or nothing."""
    if unit is None or user_id == "none":
        return None
    if user_id == "raw":
        return safe(unit, 512)
    return hashlib.sha256((salt + unit).encode("utf-8", "surrogatepass")).hexdigest()


def _attempt(a: Attempt, cost: Charge | None, received_at: float, limit: int) -> AttemptLine:
    model = a.target.model
    start_ms = _ms(a.started_at - received_at)
    return AttemptLine(
        safe(model, limit) if model is not None else None,
        a.target.provider,
        a.cause,
        start_ms if a.due_at is None or a.due_at == a.started_at else _ms(a.due_at - received_at),
        start_ms,
        _ms(a.first_at - a.started_at) if a.first_at is not None else None,
        _ms(a.ended_at - received_at) if a.ended_at is not None else None,
        a.status,
        a.fault,
        _ms(a.retry_after_s) if a.retry_after_s is not None else None,
        a.retryable,
        a.add_usage,  # asked_usage
        _tokens(a, cost) if cost is not None else None,
        _ms(a.committed_at - received_at) if a.committed_at is not None else None,
        a.result,
    )


def _tokens(a: Attempt, cost: Charge) -> TokensLine | None:
    """What it was charged; None for nothing. `estimated`: not, or not only, what the provider counted."""
    usage, told = cost.usage, cost.told(a)
    if not told and not usage.input and not usage.output:
        return None
    return TokensLine(
        usage.input, usage.output, usage.cached_input, usage.cache_write, usage.reasoning, not told, usage.odd
    )


def _inputs(x: Exchange, stopped: tuple[tuple[str, str], ...], limit: int) -> Inputs:
    """What the decision was made of, beside the pin file and the attempts: enough to make it again."""
    ask = x.ask
    return Inputs(
        x.kind,
        safe(ask.name) if ask.name is not None and x.pin is None else None,  # asked
        safe(x.chosen, limit) if x.chosen is not None else None,
        ask.provider,
        ask.body_bytes,
        ask.media_bytes,
        ask.max_output,
        ask.choices,
        ask.generates,
        ask.bound,
        ask.side_effects,
        ask.deterministic,
        ask.repeatable,
        ask.required,
        ask.no_fallback,
        ask.no_hedge,
        ask.cache,
        x.bucket,
        x.assignable,
        x.latencies_ms,
        x.eligible,
        x.default_provider,
        x.usable,
        x.sizes,
        x.health,
        x.budget,
        x.hedge_after_s,
        x.hedge_least_s,
        _ms(x.deadline - x.received_at) if x.deadline < math.inf else None,
        _ms(x.slow_at - x.received_at) if x.slow_at is not None else None,
        x.injects,
        x.recalled,
        [VetoLine(veto.number, veto.cause, veto.by, veto.said) for veto in x.vetoes] if x.vetoes else (),
        stopped,
    )


def _ms(seconds: float) -> float:
    """Milliseconds to the microsecond. `round` to decimals takes twice as long."""
    return (seconds * 1e6 + 0.5) // 1 / 1e3
