"""The laws of the race, whatever the runtime reports, the policies propose and veto, in whatever order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.core.facts import Attempt, Cause, Fault, Result, Target
from sidecar.core.policy import Next
from sidecar.core.race import Abort, Command, Commit, Finish, Launch, Phase, Race

NAMED = [Target("a", "m1"), Target("a", "m2"), Target("b", "m3")]
ELSEWHERE = Target("c", "m4")  # a hedge's model need not be one of the request's targets
DEADLINE = 100.0

FURTHER = [cause for cause in Cause if cause is not Cause.FIRST]
PROPOSALS = st.lists(
    st.tuples(
        st.sampled_from([*NAMED, ELSEWHERE]),
        st.sampled_from(FURTHER),
        st.none() | st.floats(-1, 70),  # waits
        st.integers(0, 3).map(bool),  # let in
    ),
    max_size=3,
)


class RaceMachine(RuleBasedStateMachine):
    """Runs a race, and is its hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.proposals: list[tuple[Target, Cause, float | None, bool]] = []
        self.admits = True
        self.asked_if_slow = 0
        self.entered: list[Attempt] = []
        self.left: list[Attempt] = []
        self.launched: list[Attempt] = []
        self.commits: list[Attempt] = []
        self.over: Counter[int] = Counter()  # attempt's number → how often it failed, ended or was aborted
        self.shown: list[Attempt | None] = []
        self.client_left = False

    # The hooks.

    def react(self, attempt: Attempt, now: float) -> Iterator[Next]:
        assert now == self.now
        if attempt.result is None:
            assert self.slow_after_s is not None
            assert now >= attempt.started_at + self.slow_after_s, "it is not slow yet"
            assert self.running() == [attempt]
            self.asked_if_slow += 1
        else:
            assert attempt.result is Result.FAILED
            assert not self.running(), "beside one that runs, a failure is nothing"
        for target, cause, wait_s, admits in self.proposals:
            self.admits = admits
            yield Next(target, cause, None if wait_s is None else now + wait_s)

    def enter(self, attempt: Attempt, now: float) -> bool:
        assert now == attempt.started_at < DEADLINE
        assert now >= self.now
        assert attempt.result is None
        if not self.admits:
            return False
        self.entered.append(attempt)
        return True

    def leave(self, attempt: Attempt, now: float) -> None:
        assert any(a is attempt for a in self.entered), "only what was let in"
        assert not any(a is attempt for a in self.left), "only once"
        assert (attempt.result is not None) == any(a is attempt for a in self.launched)
        self.left.append(attempt)

    # What is known from outside.

    def running(self) -> list[Attempt]:
        return [a for a in self.launched if a.result is None]

    def waiting(self) -> list[Attempt]:
        known = [*self.launched, *self.left]
        return [a for a in self.entered if not any(a is b for b in known)]

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Launch(attempt):
                    self.check_launch(attempt)
                    self.launched.append(attempt)
                case Commit(attempt):
                    self.commits.append(attempt)
                case Abort(attempt):
                    assert attempt.result in (Result.LOST_HEDGE, Result.CLIENT_GONE)
                    self.over[attempt.number] += 1
                case Finish(show):
                    self.shown.append(show)

    def check_launch(self, attempt: Attempt) -> None:
        assert not self.commits, "nothing is launched after a commit"
        assert not self.client_left, "nothing is launched once the client left"
        assert self.now < DEADLINE
        assert attempt.started_at == self.now
        if attempt.cause is Cause.WITHOUT_USAGE:
            return
        left = self.limit - sum(a.cause is not Cause.WITHOUT_USAGE for a in self.launched)
        assert left > 0
        tried = [a.target for a in self.launched]
        if left == 1 and attempt.target in tried:
            assert all(t in tried for t in self.targets), "the last one is kept for what is untried"

    # What happens.

    @initialize(
        named=st.integers(1, 3),
        limit=st.integers(1, 4),
        late=st.booleans(),
        slow_after_s=st.none() | st.floats(0, 30),
    )
    def begin(self, named: int, limit: int, late: bool, slow_after_s: float | None) -> None:
        self.targets, self.limit, self.late, self.slow_after_s = NAMED[:named], limit, late, slow_after_s
        self.race = Race(
            self.targets, self, max_attempts=limit, deadline=DEADLINE, slow_after_s=slow_after_s, late=late
        )
        self.obey(self.race.start(self.now))

    @precondition(lambda self: self.running())
    @rule(
        data=st.data(),
        fault=st.sampled_from(list(Fault)),
        status=st.none() | st.just(503),
        proposals=PROPOSALS,
    )
    def fail(
        self,
        data: st.DataObject,
        fault: Fault,
        status: int | None,
        proposals: list[tuple[Target, Cause, float | None, bool]],
    ) -> None:
        attempt = data.draw(st.sampled_from(self.running()))
        others = len(self.running()) > 1
        attempt.status = status
        self.proposals = proposals
        launched = len(self.launched)
        self.over[attempt.number] += 1
        self.obey(self.race.failed(attempt, fault, self.now))
        assert attempt.fault is fault
        if fault is Fault.CALLER and attempt.target == self.targets[0]:
            assert self.race.phase is Phase.OVER, "the caller's own fault ends all"
        if others or fault is Fault.CALLER:
            assert len(self.launched) == launched
            assert not self.waiting()

    @precondition(lambda self: self.running())
    @rule(data=st.data(), useful=st.booleans())
    def commit(self, data: st.DataObject, useful: bool) -> None:
        attempt = data.draw(st.sampled_from(self.running()))
        self.obey((self.race.useful if useful else self.race.release)(attempt, self.now))
        assert self.running() == [attempt], "the others are aborted"

    @precondition(lambda self: self.race.winner is not None and self.race.winner.result is None)
    @rule()
    def end(self) -> None:
        assert self.race.winner is not None
        self.over[self.race.winner.number] += 1
        self.obey(self.race.ended(self.race.winner, self.now))

    @rule()
    def client_leaves(self) -> None:
        self.client_left = True
        self.obey(self.race.gone(self.now))
        assert self.race.phase is Phase.OVER, "it can end from every state"

    @rule(seconds=st.floats(0, 60), proposals=PROPOSALS)
    def time_passes(self, seconds: float, proposals: list[tuple[Target, Cause, float | None, bool]]) -> None:
        self.tick_at(self.now + seconds, proposals)

    @precondition(lambda self: self.race.wake_at is not None)
    @rule(late_s=st.sampled_from([0.0, 0.0, 0.001, 90.0]), proposals=PROPOSALS)
    def timer_fires(self, late_s: float, proposals: list[tuple[Target, Cause, float | None, bool]]) -> None:
        assert self.race.wake_at is not None
        self.tick_at(max(self.now, self.race.wake_at) + late_s, proposals)
        if self.race.wake_at is not None and self.race.wake_at <= self.now:
            self.tick_at(self.now, proposals)  # what waited was launched, and may be slow by now
        assert self.race.wake_at is None or self.race.wake_at > self.now, "it doesn't fire for ever"

    def tick_at(self, now: float, proposals: list[tuple[Target, Cause, float | None, bool]]) -> None:
        self.now = now
        self.proposals = proposals
        self.obey(self.race.tick(self.now))

    # What holds at all times.

    @invariant()
    def attempts_are_let_in_and_out_once(self) -> None:
        for attempt in self.launched:
            assert any(a is attempt for a in self.entered)
            assert any(a is attempt for a in self.left) == (attempt.result is not None)
            assert self.over[attempt.number] == (attempt.result is not None)
        if self.shown:
            assert len(self.left) == len(self.entered)

    @invariant()
    def one_commit_and_one_end(self) -> None:
        assert len(self.commits) <= 1
        assert len(self.shown) == (bool(self.launched) and self.race.phase is Phase.OVER)
        assert sum(a.cause is not Cause.WITHOUT_USAGE for a in self.launched) <= (self.limit if self.launched else 0)
        assert self.asked_if_slow <= 1
        for show in self.shown:
            if show is not None:
                assert not self.commits
                assert (show.target, show.result, show.status) == (self.targets[0], Result.FAILED, 503)

    @invariant()
    def nobody_is_blamed_for_losing(self) -> None:
        for attempt in self.launched:
            assert (attempt.fault is not None) == (attempt.result is Result.FAILED)

    @invariant()
    def it_never_stands_still(self) -> None:
        if not self.launched:
            return
        race, running, waiting = self.race, self.running(), self.waiting()
        if race.phase is Phase.OVER:
            assert not running
            assert not waiting
        else:
            assert len(running) + len(waiting) >= 1
            assert not (running and waiting), "beside one that runs nothing waits"
            assert [race.wake_at] == [a.started_at for a in waiting] or not waiting
        if race.phase is not Phase.OPEN:
            assert race.wake_at is None
            assert not race.holding
        elif len(running) > 1:
            assert race.holding is self.late, "the first useful event decides between those that run"
        if self.now < DEADLINE:
            assert self.now < race.give_up_at(self.now) <= DEADLINE


RaceMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=20, deadline=None)
TestRaceLaws = RaceMachine.TestCase
