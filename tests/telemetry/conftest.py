"""Records to project, and waiting for a sink's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.core.charge import charge
from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Outcome, Result, Target, Usage
from sidecar.core.record import Record

MODEL = "gpt-5.4-2025-11-02"


def _record(
    *,
    name: str | None = "chat.core",
    kind: str = "pin",
    model: str | None = MODEL,
    status: int | None = 200,
    error: str | None = None,
    served: str | None = MODEL,
    unit: str | None = "u1",
    attempted: bool = True,
    **changes: Any,
) -> Record:
    ask = Ask("openai", "chat", name, unit=unit, stream=True, body_bytes=100, generates=True)
    target = Target("openai", model)
    attempt = Attempt(1, target, Cause.FIRST, 10.001, 10.1, 10.2, 11.0, status)
    attempt.result = Result.OK if error is None else Result.FAILED
    attempt.usage = Usage(input=100, output=50, cached_input=10, reasoning=5)
    attempt.served = served
    attempt.committed_at = 10.1995 if error is None else None
    known = kind not in {"none", "unlisted"}
    exchange = Exchange("req-1", ask, 10.0, kind=kind, pin=name if known else None, chosen=model if known else None)
    exchange.why = ["pin chat.core", "stable: no variants"]
    attempts: tuple[Attempt, ...] = ()
    if attempted:
        exchange.targets = (target,)
        attempts = (attempt,)
    winner = attempt if attempted and error is None else None
    record = Record(
        ts=1_763_800_000.25,
        exchange=exchange,
        outcome=Outcome(attempts, winner, error, status),
        generation=7,
        sha256="ab" * 32,
        stopped=(("chat.core", "canary"),),
        latency_s=1.0,
        ttft_s=0.199,
        overhead_s=0.0003,
        cost_usd=0.000625,
        charges=tuple(charge(a, 25, 1024) for a in attempts),
    )
    return record._replace(**changes)


@pytest.fixture(scope="session")
def make() -> Callable[..., Record]:
    """Makes records: by default a stream of `chat.core` that went well."""
    return _record


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait until something holds: the sinks write from threads of their own."""

    def wait(holds: Callable[[], Any], within_s: float = 5.0) -> None:
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, "it never came to hold"
            time.sleep(0.005)

    return wait
