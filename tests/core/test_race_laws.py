"""The laws of the race, whatever the runtime reports in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.core.facts import Attempt, Cause, Fault, Result, Target
from sidecar.core.policy import Next
from sidecar.core.race import Abort, Command, Commit, Finish, Launch, Phase, Race

TARGETS = [Target("a", "m1"), Target("b", "m2")]
DEADLINE = 100.0


class RaceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.commits: list[Attempt] = []
        self.launched: list[Attempt] = []
        self.aborted: list[Attempt] = []
        self.finished = 0
        self.left = False

    @initialize(limit=st.integers(1, 4), eager=st.booleans(), onto=st.sampled_from(TARGETS))
    def begin(self, limit: int, eager: bool, onto: Target) -> None:
        self.limit = limit
        propose = (lambda a, now: Next(onto, Cause.RESEND)) if eager else (lambda a, now: None)
        self.race = Race(TARGETS[0], propose=propose, max_attempts=limit, deadline=DEADLINE, late=eager)
        self.obey(self.race.start(self.now))

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Launch(attempt):
                    assert not self.commits, "nothing is launched after a commit"
                    assert not self.left, "nothing is launched once the client left"
                    assert self.now < DEADLINE
                    self.launched.append(attempt)
                case Commit(attempt):
                    self.commits.append(attempt)
                case Abort(attempt):
                    self.aborted.append(attempt)
                case Finish():
                    self.finished += 1

    def running(self) -> list[Attempt]:
        return [a for a in self.launched if a.result is None]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), fault=st.sampled_from(list(Fault)), status=st.none() | st.just(503))
    def fail(self, data: st.DataObject, fault: Fault, status: int | None) -> None:
        attempt = data.draw(st.sampled_from(self.running()))
        attempt.status = status
        self.obey(self.race.failed(attempt, fault, self.now))

    @precondition(lambda self: self.running())
    @rule(data=st.data(), useful=st.booleans())
    def commit(self, data: st.DataObject, useful: bool) -> None:
        attempt = data.draw(st.sampled_from(self.running()))
        self.obey((self.race.useful if useful else self.race.release)(attempt, self.now))

    @precondition(lambda self: self.race.winner is not None and self.race.winner.result is None)
    @rule()
    def end(self) -> None:
        self.obey(self.race.ended(self.race.winner, self.now))

    @rule()
    def leave(self) -> None:
        self.left = True
        self.obey(self.race.gone(self.now))

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.obey(self.race.tick(self.now))

    @precondition(lambda self: self.race.phase is not Phase.OVER)
    @rule()
    def limit_ran_out(self) -> None:
        self.obey(self.race.expired(self.now))

    @invariant()
    def laws(self) -> None:
        if not self.launched:
            return
        assert len(self.commits) <= 1
        assert len(self.launched) <= self.limit
        assert len(self.aborted) == len({a.number for a in self.aborted})
        assert self.finished == (self.race.phase is Phase.OVER)
        for attempt in self.launched:
            if attempt.result in (Result.CLIENT_GONE, Result.LOST_HEDGE, Result.OK):
                assert attempt.fault is None
            if attempt.result is Result.FAILED:
                assert attempt.fault is not None
        if self.race.phase is Phase.OVER:
            assert not self.running(), "every launched attempt has ended exactly once"
        assert self.race.wake_at is None or self.race.phase is Phase.OPEN


RaceMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestRaceLaws = RaceMachine.TestCase
