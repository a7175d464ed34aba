"""Events: one JSON line for each finished request, feedback, swap of the pin file and drill of a fallback.

Decides which fields a line has (a request's: `request_line.py`) and what of a caller's own text may stand in it: never
a prompt, an answer or a credential; names that a caller made up only cut and cleaned; a user's name only as the
settings allow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sidecar.core.facts import Usage
from sidecar.core.record import Record
from sidecar.state.drills import Drill, Drilled
from sidecar.telemetry.batch import Batch, Later
from sidecar.telemetry.lines import encode, rfc3339, safe
from sidecar.telemetry.request_line import UserId, request_line
from sidecar.telemetry.sinks import LineSink


class Events:
    """The events file. With `sink` None nothing is built at all; with `later` requests may wait (`batch.py`)."""

    __slots__ = ("_batch", "_salt", "_sink", "_user_id")

    def __init__(
        self, sink: LineSink | None, *, user_id: UserId = "sha256", salt: str = "", later: Later | None = None
    ) -> None:
        self._sink = sink
        self._user_id = user_id
        self._salt = salt
        self._batch = Batch(self._request, later)

    def request(self, record: Record) -> None:
        """One line for a finished request."""
        if self._sink is not None:
            self._batch.add(record)

    def flush(self) -> None:
        """Hand all lines to the sink, as one must before it is closed."""
        self._batch.flush()

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
            self._put(feedback_line(time.time(), request_id, success, quality_score, task))

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
            self._put(line)

    def drill(self, drill: Drill, done: Drilled, usage: Usage | None = None, cost_usd: float | None = None) -> None:
        """One line for a drill of a fallback."""
        if self._sink is not None:
            self._put(drill_line(drill, done, usage, cost_usd))

    def _request(self, record: Record) -> None:
        if self._sink is not None:
            self._sink.put(encode(request_line(record, user_id=self._user_id, salt=self._salt)))

    def _put(self, line: dict[str, Any]) -> None:
        if self._sink is not None:
            self.flush()  # what happened before stands before it
            self._sink.put(encode(line))


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
