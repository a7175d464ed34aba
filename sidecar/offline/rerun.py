"""The race of a recorded request, run again: the same machine and the same policies, told what happened when.

Decided anew: every further attempt (whether there is one, its target, its cause, and the time when it was due), how
each ended that didn't end by itself, what was committed or shown. Taken from the event: what providers and clients did
and when, and which attempts a policy didn't let in (`vetoes`), since that hung on the state of that moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from sidecar.compose import Snapshot
from sidecar.core.facts import Attempt, Exchange, Fault, Result
from sidecar.core.policy import Next
from sidecar.core.race import Command, Finish, IllegalMoveError, Phase, Race

_COMPARED = ("model", "provider", "cause", "due_ms", "fault", "outcome")

ROUNDED_MS = 0.005
"""Times are kept to a thousandth of a millisecond; a sum of some of them may be off by a few."""

STALLED_MS = 1000.0
"""A timer may come late where the machine stood still. An answer that came later than this was not seen before it."""

_GONE = "client_gone"
_COMMIT, _END, _SLOW, _START = range(4)


@dataclass(frozen=True, slots=True)
class Again:
    """What came of it: the attempts as they are compared, the winner, and what that says of the request's end."""

    attempts: list[dict[str, Any]]
    winner: Attempt | None
    error: str | None
    status: int | None


@dataclass(slots=True)
class _Hooks:
    """The policies' proposals, and the vetoes of the event in place of what their state would say now."""

    snapshot: Snapshot
    x: Exchange
    rows: list[dict[str, Any]]
    vetoes: dict[tuple[int, str], list[str]]
    unused: set[tuple[int, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.unused = set(self.vetoes)

    def react(self, attempt: Attempt, now: float) -> Iterable[Next]:
        return self.snapshot.pipeline.react(self.x, attempt, now)

    def enter(self, attempt: Attempt, now: float) -> bool:  # noqa: ARG002 - the race's protocol
        asked = attempt.number, attempt.cause.value
        if asked in self.vetoes:
            self.unused.discard(asked)
            self.x.why.extend(self.vetoes[asked])
            return False
        if attempt.number <= len(self.rows):
            attempt.add_usage = self.rows[attempt.number - 1]["asked_usage"]
        return True

    def leave(self, attempt: Attempt, now: float) -> None:
        """Nothing was taken."""


def recorded(event: dict[str, Any]) -> list[dict[str, Any]]:
    """What is compared of each attempt."""
    return [
        {key: row[key] for key in _COMPARED} | {"committed": row["commit_ms"] is not None} for row in event["attempts"]
    ]


def rerun(snapshot: Snapshot, x: Exchange, event: dict[str, Any]) -> Again:
    """Run the attempts of `event` again. `x` was admitted by `snapshot`; its words go on growing."""
    rows, inputs = event["attempts"], event["inputs"]
    vetoes = {(v["attempt"], v["cause"]): v["why"] for v in inputs["vetoes"]}
    hooks = _Hooks(snapshot, x, rows, vetoes)
    deadline_ms = inputs["deadline_ms"]
    x.deadline = math.inf if deadline_ms is None else deadline_ms / 1e3
    race = Race(
        x.targets,
        hooks,
        attempts=x.attempts,
        max_attempts=snapshot.pins.tries(x.pin).max_attempts,
        deadline=x.deadline,
        slow_after_s=x.hedge_after_s,
        late=x.ask.generates,
    )
    shown = _run(race, rows, inputs["slow_ms"])
    _close(race, event, shown)
    attempts = [_compared(a, rows, race.winner) for a in race.attempts]
    if race.phase is not Phase.OVER:
        attempts.append({"missing": "another attempt, or the end of this one"})
    if hooks.unused:
        attempts.append({"missing": f"proposals that were vetoed: {sorted(hooks.unused)}"})
    if rows and _slept(x.hedge_after_s, rows, inputs["slow_ms"]):
        attempts.append({"missing": "the question what to do about a slow attempt"})
    error, status = _end(race, event, shown[-1] if shown else None)
    return Again(attempts, race.winner, error, status)


def _run(race: Race, rows: list[dict[str, Any]], slow_ms: float | None) -> list[Attempt | None]:
    """Tell the race all that happened, in order. Returns what it finished with, if it did."""
    shown: list[Attempt | None] = []

    def heed(commands: list[Command]) -> None:
        shown.extend(command.show for command in commands if isinstance(command, Finish))

    try:
        heed(race.start(rows[0]["start_ms"] / 1e3))
        for at_ms, kind, number in _moments(rows, slow_ms):
            now = at_ms / 1e3
            if kind in (_SLOW, _START):
                heed(race.tick(now + ROUNDED_MS / 1e3))
                continue
            attempt, row = race.attempts[number - 1], rows[number - 1]
            if kind == _COMMIT:
                heed(race.release(attempt, now))
            elif row["outcome"] == Result.CLIENT_GONE:
                heed(race.gone(now))
            elif row["outcome"] == Result.OK:
                heed(race.ended(attempt, now))
            else:
                attempt.status = row["status"]
                asked_ms = row["retry_after_ms"]
                attempt.retry_after_s = None if asked_ms is None else asked_ms / 1e3
                attempt.retryable = row["retryable"]
                heed(race.failed(attempt, Fault(row["fault"]), now))
    except (IllegalMoveError, IndexError):
        pass  # it went another way: the comparison will tell
    for attempt, row in zip(race.attempts, rows, strict=False):
        attempt.status = row["status"]
    return shown


def _moments(rows: list[dict[str, Any]], slow_ms: float | None) -> list[tuple[float, int, int]]:
    """(time, kind, attempt) of all that the race didn't do by itself."""
    found: list[tuple[float, int, int]] = [] if slow_ms is None else [(slow_ms, _SLOW, 0)]
    gone = False
    for number, row in enumerate(rows, 1):
        if row["start_ms"] > row["due_ms"]:
            found.append((row["start_ms"], _START, number))
        if row["commit_ms"] is not None:
            found.append((row["commit_ms"], _COMMIT, number))
        if row["outcome"] in (Result.OK, Result.FAILED) or (row["outcome"] == Result.CLIENT_GONE and not gone):
            gone = gone or row["outcome"] == Result.CLIENT_GONE
            found.append((row["end_ms"], _END, number))
    return sorted(found, key=itemgetter(0, 1))


def _close(race: Race, event: dict[str, Any], shown: list[Attempt | None]) -> None:
    """Nothing more is recorded, and the race isn't over: somebody left while it waited, or its time was up."""
    if race.phase is Phase.OVER:
        return
    late = event["error"] not in (_GONE, "sidecar_draining", "sidecar_internal")
    wake_at = race.wake_at
    deadline_ms = event["inputs"]["deadline_ms"]
    if late and wake_at is not None and deadline_ms is not None and event["latency_ms"] >= deadline_ms:
        shown.extend(c.show for c in race.tick(max(wake_at, deadline_ms / 1e3)) if isinstance(c, Finish))
    elif not late:
        race.gone(event["latency_ms"] / 1e3)


def _slept(hedge_after_s: float | None, rows: list[dict[str, Any]], slow_ms: float | None) -> bool:
    """Whether a slow attempt must have been asked about, and wasn't."""
    if slow_ms is not None or hedge_after_s is None:
        return False
    first = rows[0]
    done_ms = first["end_ms"] if first["commit_ms"] is None else first["commit_ms"]
    due_ms = first["start_ms"] + hedge_after_s * 1e3
    return bool(done_ms > due_ms + STALLED_MS)


def _compared(attempt: Attempt, rows: list[dict[str, Any]], winner: Attempt | None) -> dict[str, Any]:
    due_ms = round((attempt.started_at if attempt.due_at is None else attempt.due_at) * 1e3, 3)
    if attempt.number <= len(rows) and abs(due_ms - rows[attempt.number - 1]["due_ms"]) <= 2 * ROUNDED_MS:
        due_ms = rows[attempt.number - 1]["due_ms"]
    return {
        "model": attempt.target.model,
        "provider": attempt.target.provider,
        "cause": attempt.cause.value,
        "due_ms": due_ms,
        "fault": None if attempt.fault is None else attempt.fault.value,
        "committed": attempt is winner,
        "outcome": None if attempt.result is None else attempt.result.value,
    }


def _end(race: Race, event: dict[str, Any], show: Attempt | None) -> tuple[str | None, int | None]:
    """Error and status of the request as the race leaves them; the recorded ones where that isn't its decision."""
    error, status = event["error"], event["status"]
    winner = race.winner
    if race.phase is not Phase.OVER or error == _GONE or any(a.result is Result.CLIENT_GONE for a in race.attempts):
        return error, status
    seen = winner or show
    if seen is None:  # nobody answered: the words for that are ours, or what was wrong with the upload
        return (error if str(error).startswith("sidecar_") else "sidecar_upstream_unreachable"), status
    if seen.result is Result.OK:
        return None, seen.status
    fault = None if seen.fault is None else seen.fault.value
    return (error if seen is winner and error == "sidecar_stream_interrupted" else fault), seen.status
