"""The one state machine: which attempts run, which of them the client gets, and when nothing more may start.

It is told what happened (`failed`, `useful`, `ended`, `gone`, `tick`) and answers with commands for the runtime.
It knows no socket, no clock and no policy by name: policies *propose* attempts, the race applies the laws:

1. at most one attempt is committed, and nothing is launched after that;
2. no more than `max_attempts` are launched, none after the deadline or after the client left;
3. every launched attempt ends, fails or is aborted exactly once;
4. an attempt that merely lost, or whose client left, carries no fault;
5. the race can end from every state.

The commit point is the first *useful* event, not the status line. While a later attempt may still be launched
(`holding`), the runtime keeps earlier events back; as soon as it may not, `release` commits at the first byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from sidecar.core.facts import Attempt, Cause, Fault, Result, Target
from sidecar.core.policy import Next

Propose = Callable[[Attempt, float], Next | None]


class Phase(Enum):
    OPEN = auto()
    COMMITTED = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Launch:
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Abort:
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Commit:
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Finish:
    """It is over. `show` is the failed attempt whose answer the client gets, if nothing was committed."""

    show: Attempt | None


Command = Launch | Abort | Commit | Finish


class IllegalMoveError(RuntimeError):
    """The runtime reported something that cannot have happened: a bug, never an upstream's doing."""


class Race:
    """One request's attempts. Create it, `start` it, report to it, do what it says until it is over."""

    __slots__ = ("_deadline", "_first", "_late", "_max_attempts", "_propose", "attempts", "phase", "winner")

    def __init__(
        self, first: Target, *, propose: Propose, max_attempts: int = 3, deadline: float, late: bool = False
    ) -> None:
        self._first = first
        self._propose = propose
        self._max_attempts = max_attempts
        self._deadline = deadline
        self._late = late
        self.attempts: list[Attempt] = []
        self.phase = Phase.OPEN
        self.winner: Attempt | None = None

    @property
    def holding(self) -> bool:
        """True while events before the first useful one must be kept back, since another attempt may follow."""
        return self._late and self.phase is Phase.OPEN and len(self.attempts) < self._max_attempts

    @property
    def wake_at(self) -> float | None:
        """When `tick` must be called at the latest; None once nothing depends on time."""
        return self._deadline if self.phase is Phase.OPEN else None

    def start(self, now: float) -> list[Command]:
        if self.attempts:
            raise IllegalMoveError("a race starts once")
        return [self._launch(self._first, Cause.FIRST, now)]

    def useful(self, attempt: Attempt, now: float) -> list[Command]:
        """The attempt's first useful event came: it wins, if nothing else has."""
        self._must_run(attempt)
        if attempt.first_at is None:
            attempt.first_at = now
        return self._commit(attempt, now)

    def release(self, attempt: Attempt, now: float) -> list[Command]:
        """What was held is let go (no later attempt is possible, too much was held, or it took too long)."""
        self._must_run(attempt)
        return self._commit(attempt, now)

    def failed(self, attempt: Attempt, fault: Fault, now: float) -> list[Command]:
        """The attempt is over without a complete answer."""
        self._must_run(attempt)
        self._end(attempt, Result.FAILED, now, fault)
        if self.phase is not Phase.OPEN:
            return self._over_if_idle(None)
        if now < self._deadline and len(self.attempts) < self._max_attempts:
            proposal = self._propose(attempt, now)
            if proposal is not None:
                return [self._launch(proposal.target, proposal.cause, now)]
        return self._over_if_idle(self._to_show())

    def ended(self, attempt: Attempt, now: float) -> list[Command]:
        """The committed attempt's answer is complete."""
        self._must_run(attempt)
        if attempt is not self.winner:
            raise IllegalMoveError("an attempt must be committed before it can end well")
        self._end(attempt, Result.OK, now)
        return self._over_if_idle(None)

    def gone(self, now: float) -> list[Command]:
        """The client left: everything still running is aborted, and nobody is blamed."""
        commands: list[Command] = [self._abort(a, Result.CLIENT_GONE, now) for a in self._running()]
        if self.phase is not Phase.OVER:
            self.phase = Phase.OVER
            commands.append(Finish(None))
        return commands

    def tick(self, now: float) -> list[Command]:
        """Time has passed. At the deadline whatever has not come far enough is given up."""
        return self.expired(now) if self.phase is Phase.OPEN and now >= self._deadline else []

    def expired(self, now: float) -> list[Command]:
        """A limit ran out that no further attempt could mend: everything that runs has failed for lack of time."""
        if self.phase is Phase.OVER:
            return []
        commands: list[Command] = [self._abort(a, Result.FAILED, now, Fault.TIMEOUT) for a in self._running()]
        show = self._to_show() if self.phase is Phase.OPEN else None
        self.phase = Phase.OVER
        commands.append(Finish(show))
        return commands

    def _launch(self, target: Target, cause: Cause, now: float) -> Launch:
        attempt = Attempt(len(self.attempts) + 1, target, cause, now)
        self.attempts.append(attempt)
        return Launch(attempt)

    def _commit(self, attempt: Attempt, now: float) -> list[Command]:
        if self.phase is not Phase.OPEN:
            return []
        self.phase = Phase.COMMITTED
        self.winner = attempt
        losers: list[Command] = [self._abort(a, Result.LOST_HEDGE, now) for a in self._running() if a is not attempt]
        return [Commit(attempt), *losers]

    def _abort(self, attempt: Attempt, result: Result, now: float, fault: Fault | None = None) -> Abort:
        self._end(attempt, result, now, fault)
        return Abort(attempt)

    def _end(self, attempt: Attempt, result: Result, now: float, fault: Fault | None = None) -> None:
        attempt.result = result
        attempt.fault = fault
        attempt.ended_at = now

    def _running(self) -> list[Attempt]:
        return [a for a in self.attempts if a.result is None]

    def _must_run(self, attempt: Attempt) -> None:
        if self.phase is Phase.OVER or attempt.result is not None:
            raise IllegalMoveError(f"attempt {attempt.number} is over already")

    def _over_if_idle(self, show: Attempt | None) -> list[Command]:
        if self._running():
            return []
        self.phase = Phase.OVER
        return [Finish(show)]

    def _to_show(self) -> Attempt | None:
        """If all fail the app sees the first target's last HTTP answer (DESIGN 3.8), or none if it never answered."""
        answered = [a for a in self.attempts if a.status is not None and a.target == self._first]
        return answered[-1] if answered else None
