"""The one state machine: which attempts run, which of them the client gets, and when nothing more may start.

It is told what happened (`failed`, `useful`, `release`, `ended`, `gone`, `tick`) and answers with commands for the
runtime. It knows no socket, no clock and no policy by name: policies *propose* attempts and let them in (`Hooks`), the
race applies the laws:

1. at most one attempt is committed, and nothing is launched after that;
2. no more than `max_attempts` are launched, none after the deadline or after the client left, and a target that was
   tried doesn't get the last one while another target is untried; only an attempt that mends what we ourselves had
   added to the request (`without_usage`) is always allowed, since the app would not have needed it;
3. every attempt that was let in is let out exactly once, and every launched one ends, fails or is aborted exactly once;
4. an attempt that merely lost, or whose client left, carries no fault;
5. while an attempt runs, the failure of another launches nothing, and nothing waits to be launched; the caller's own
   fault at the first target ends all, at another one it launches nothing more;
6. the race can end from every state.

The commit point is the first *useful* event, not the status line. While another attempt runs or may still be launched
(`holding`), the runtime keeps earlier events back; as soon as none does, `release` commits at the first byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from sidecar.core.facts import Attempt, Cause, Fault, Result, Target
from sidecar.core.policy import Next


class Hooks(Protocol):
    """What the race asks the policies, with the request already filled in."""

    def react(self, attempt: Attempt, now: float) -> Iterable[Next]: ...

    def enter(self, attempt: Attempt, now: float) -> bool: ...

    def leave(self, attempt: Attempt, now: float) -> None: ...


class Phase(Enum):
    OPEN = auto()
    COMMITTED = auto()
    OVER = auto()


@dataclass(slots=True)
class Launch:
    attempt: Attempt


@dataclass(slots=True)
class Abort:
    attempt: Attempt


@dataclass(slots=True)
class Commit:
    attempt: Attempt


@dataclass(slots=True)
class Finish:
    """It is over. `show` is the failed attempt whose answer the client gets, if nothing was committed."""

    show: Attempt | None


Command = Launch | Abort | Commit | Finish


class IllegalMoveError(RuntimeError):
    """The runtime reported something that cannot have happened: a bug, never an upstream's doing."""


class Race:
    """One request's attempts. Create it, `start` it, report to it, do what it says until it is over.

    `targets` in the order of preference; `attempts` is the list to fill; `slow_after_s` is when the policies are asked,
    once, about an attempt that still runs, counted from that attempt's start; `late` is False where nothing can follow
    an answer's headers, so that nothing is held back.
    """

    __slots__ = (
        "_deadline",
        "_hooks",
        "_late",
        "_left",
        "_running",
        "_slow_after_s",
        "_slow_at",
        "_targets",
        "_waiting",
        "attempts",
        "phase",
        "winner",
    )  # fmt: skip

    def __init__(
        self,
        targets: Sequence[Target],
        hooks: Hooks,
        *,
        attempts: list[Attempt] | None = None,
        max_attempts: int = 3,
        deadline: float,
        slow_after_s: float | None = None,
        late: bool = True,
    ) -> None:
        self._targets = tuple(targets)
        self._hooks = hooks
        self._left = max_attempts  # how many may still be launched
        self._running = 0
        self._deadline = deadline
        self._slow_after_s = slow_after_s
        self._slow_at: float | None = None
        self._late = late
        self._waiting: Attempt | None = None  # let in, to be launched at its `started_at`
        self.attempts: list[Attempt] = [] if attempts is None else attempts
        self.phase = Phase.OPEN
        self.winner: Attempt | None = None

    @property
    def holding(self) -> bool:
        """True while events before the first useful one must be kept back: another attempt runs, or may follow."""
        return self._late and self.phase is Phase.OPEN and (self._left > 0 or self._running > 1)

    @property
    def may_overlap(self) -> bool:
        """Whether two attempts may run at once."""
        return self._slow_after_s is not None

    @property
    def wake_at(self) -> float | None:
        """When `tick` must be called; None while nothing depends on time."""
        if self.phase is not Phase.OPEN:
            return None
        if self._waiting is not None:
            return self._waiting.started_at
        return self._slow_at

    def give_up_at(self, now: float) -> float:
        """Until when an attempt launched now may take to its first useful event.

        Equal shares of what is left of the time, one for it and one for each untried target that may still follow;
        the last of them has it all.
        """
        followers = min(self._untried(), self._left)
        return self._deadline if followers <= 0 else now + (self._deadline - now) / (followers + 1)

    def start(self, now: float) -> list[Command]:
        if self.attempts:
            raise IllegalMoveError("a race starts once")
        if self._slow_after_s is not None:
            self._slow_at = now + self._slow_after_s
        first = Attempt(1, self._targets[0], Cause.FIRST, now)
        self._hooks.enter(first, now)
        return [self._launch(first)]

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
        if fault is Fault.CALLER and attempt.target == self._targets[0]:
            self.phase = Phase.OVER
            show = attempt if attempt.status is not None else None  # a broken upload has no answer
            return [*self._abort_all(Result.LOST_HEDGE, now), Finish(show)]
        if self._running:
            return []
        launched = None if fault is Fault.CALLER else self._follow(attempt, now)
        if launched is not None:
            return launched
        return self._over_if_idle(self._to_show())

    def ended(self, attempt: Attempt, now: float) -> list[Command]:
        """The committed attempt's answer is complete."""
        self._must_run(attempt)
        if attempt is not self.winner:
            raise IllegalMoveError("an attempt must be committed before it can end well")
        self._end(attempt, Result.OK, now)
        return self._over_if_idle(None)

    def gone(self, now: float) -> list[Command]:
        """The client left, or we shut down: everything still running is aborted, and nobody is blamed."""
        commands: list[Command] = [*self._abort_all(Result.CLIENT_GONE, now)]
        self._forget_waiting(now)
        if self.phase is not Phase.OVER:
            self.phase = Phase.OVER
            commands.append(Finish(None))
        return commands

    def tick(self, now: float) -> list[Command]:
        """Time has passed: what waited is launched, and what still runs may be slow."""
        if self.phase is not Phase.OPEN:
            return []
        if self._waiting is not None:
            if now < self._waiting.started_at:
                return []
            if now >= self._deadline:  # the timer came late
                self._forget_waiting(now)
                return self._over_if_idle(self._to_show())
            attempt, self._waiting = self._waiting, None
            attempt.started_at = now
            return [self._launch(attempt)]
        if self._slow_at is None or self._slow_after_s is None or now < self._slow_at:
            return []
        self._slow_at = None
        if self._running != 1:
            return []
        running = next(a for a in self.attempts if a.result is None)
        its_own = running.started_at + self._slow_after_s
        if now < its_own:  # it followed one that failed: it is not slow yet
            self._slow_at = its_own
            return []
        return self._follow(running, now) or []

    def _follow(self, attempt: Attempt, now: float) -> list[Command] | None:
        """Launch, or let wait, what the policies propose and the laws allow; None if that is nothing."""
        for proposal in self._hooks.react(attempt, now):
            at = now if proposal.not_before is None else max(now, proposal.not_before)
            if at >= self._deadline or not self._has_room(proposal):
                continue
            if at > now and self._running:
                continue
            extra = Attempt(len(self.attempts) + 1, proposal.target, proposal.cause, at, due_at=at)
            if not self._hooks.enter(extra, at):
                continue
            if extra.cause is Cause.HEDGE:
                self._slow_at = None  # one hedge is enough
            if at > now:
                self._waiting = extra
                return []
            return [self._launch(extra)]
        return None

    def _has_room(self, proposal: Next) -> bool:
        """A target that was tried doesn't get the last attempt while another one is untried.

        A hedge's model need not be one of the targets; the first time it counts as untried, too.
        """
        if proposal.cause is Cause.WITHOUT_USAGE:
            return True
        tried = any(a.target == proposal.target for a in self.attempts)
        return self._left > (1 if tried and self._untried() else 0)

    def _untried(self) -> int:
        """How many of the targets got no attempt. The first one goes to the first of them."""
        if self.attempts and len(self._targets) == 1:
            return 0
        tried = {a.target for a in self.attempts}
        return len([t for t in self._targets if t not in tried])

    def _launch(self, attempt: Attempt) -> Launch:
        self.attempts.append(attempt)
        self._running += 1
        if attempt.cause is not Cause.WITHOUT_USAGE:
            self._left -= 1
        return Launch(attempt)

    def _commit(self, attempt: Attempt, now: float) -> list[Command]:
        if self.phase is not Phase.OPEN:
            return []
        self.phase = Phase.COMMITTED
        self.winner = attempt
        attempt.committed_at = now
        if self._running == 1:
            return [Commit(attempt)]
        return [Commit(attempt), *self._abort_all(Result.LOST_HEDGE, now, but=attempt)]

    def _abort_all(self, result: Result, now: float, *, but: Attempt | None = None) -> list[Abort]:
        """Those that run, but for one."""
        losers = [a for a in self.attempts if a.result is None and a is not but]
        for attempt in losers:
            self._end(attempt, result, now)
        return [Abort(attempt) for attempt in losers]

    def _end(self, attempt: Attempt, result: Result, now: float, fault: Fault | None = None) -> None:
        self._running -= 1
        attempt.result = result
        attempt.fault = fault
        attempt.ended_at = now
        self._hooks.leave(attempt, now)

    def _forget_waiting(self, now: float) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._hooks.leave(waiting, now)

    def _must_run(self, attempt: Attempt) -> None:
        if self.phase is Phase.OVER or attempt.result is not None:
            raise IllegalMoveError(f"attempt {attempt.number} is over already")

    def _over_if_idle(self, show: Attempt | None) -> list[Command]:
        if self._running:
            return []
        self.phase = Phase.OVER
        return [Finish(show)]

    def _to_show(self) -> Attempt | None:
        """If all fail the app sees the first target's last HTTP answer (DESIGN 3.8), or none if it never answered."""
        answered = [a for a in self.attempts if a.status is not None and a.target == self._targets[0]]
        return answered[-1] if answered else None
