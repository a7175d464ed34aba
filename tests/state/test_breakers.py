"""The breaker as a table of moves, and its laws under any order of events."""

from __future__ import annotations

import msgspec
import pybreaker
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from sidecar.core.facts import Target
from sidecar.settings.schema import BreakerSpec
from sidecar.settings.units import Duration
from sidecar.state import breakers as module
from sidecar.state.breakers import SLICES, Breakers, Verdict, Window

A, B = Target("openai", "gpt-a"), Target("openai", "gpt-b")
SPEC = BreakerSpec(
    failures=3, ratio=0.5, minimum=10, window=Duration(30), cooldown=Duration(10), max_cooldown=Duration(35)
)
EAGER = msgspec.structs.replace(SPEC, failures=1)


class Bench:
    """Breakers with one target in the fore, and attempts with names."""

    def __init__(self) -> None:
        self.trips: list[tuple[Target, float]] = []
        self.breakers = Breakers(lambda target, until: self.trips.append((target, until)))

    def enter(self, key: str, now: float, *, panic: bool = False) -> bool:
        return self.breakers.enter(A, key, now, panic=panic)

    def leave(self, key: str, verdict: Verdict, now: float, spec: BreakerSpec = SPEC) -> str:
        self.breakers.leave(A, key, verdict, spec, now)
        return self.state(now)

    def state(self, now: float) -> str:
        return self.breakers.state(A, now)

    def run(self, verdicts: str, now: float, spec: BreakerSpec = SPEC) -> str:
        """One attempt after the other: `s`uccess, `f`ailure, `n`eutral."""
        for short in verdicts:
            assert self.enter("x", now, panic=True)
            self.leave("x", {"s": "success", "f": "failure", "n": "neutral"}[short], now, spec)  # type: ignore[arg-type]
        return self.state(now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_unknown_targets_are_closed(bench: Bench) -> None:
    assert bench.state(0) == "closed"
    assert bench.breakers.probe_free(A)
    assert bench.breakers.reopens_at(A) == 0.0
    assert bench.breakers.states(0) == {}


def test_consecutive_failures_trip(bench: Bench) -> None:
    assert bench.run("ffsffs", 0) == "closed"
    assert bench.run("ff", 1) == "closed"
    assert bench.run("f", 2) == "open"
    assert bench.trips == [(A, 12.0)]
    assert bench.state(11.999) == "open"
    assert bench.state(12) == "half_open"
    assert bench.breakers.state(B, 2) == "closed"


def test_cancellations_neither_count_nor_wipe_what_counted(bench: Bench) -> None:
    """pybreaker's own paths trip on a cancellation, and forget the failures at an exception that doesn't count."""
    assert bench.run("ffnnnnnn", 0) == "closed"
    assert bench.run("f", 0) == "open"


def test_a_windows_ratio_trips_from_the_minimum_on(bench: Bench) -> None:
    assert bench.run("sfsfsfsfs", 0) == "closed"
    assert bench.run("f", 0) == "open"


def test_a_success_never_trips_whatever_the_window_says(bench: Bench) -> None:
    assert bench.run("ffsffsffss", 0) == "closed"
    assert bench.run("f", 0) == "open"


def test_a_window_forgets(bench: Bench) -> None:
    assert bench.run("sfsfsfsfs", 0) == "closed"
    assert bench.run("f", 31) == "closed"


def test_a_trip_at_once_rests_the_longest(bench: Bench) -> None:
    bench.enter("x", 0)
    assert bench.leave("x", "trip", 0) == "open"
    assert bench.trips == [(A, 35.0)]


def test_the_cooldown_doubles_up_to_its_bound_and_a_good_probe_resets_it(bench: Bench) -> None:
    now = 0.0
    rests = []
    for _ in range(4):
        bench.run("f", now, EAGER)
        rests.append(bench.breakers.reopens_at(A) - now)
        now = bench.breakers.reopens_at(A)
    assert rests == [10, 20, 35, 35]
    assert bench.run("s", now, EAGER) == "closed"
    bench.run("f", now, EAGER)
    assert bench.breakers.reopens_at(A) - now == 10


def test_one_probe_at_a_time(bench: Bench) -> None:
    bench.run("fff", 0)
    assert not bench.enter("early", 9.9)
    assert bench.enter("probe", 10)
    assert not bench.breakers.probe_free(A)
    assert not bench.enter("second", 10)
    assert bench.leave("probe", "neutral", 11) == "half_open"
    assert bench.breakers.probe_free(A)
    assert bench.enter("third", 11)
    assert bench.leave("third", "success", 12) == "closed"
    assert bench.enter("more", 12)
    assert bench.enter("still more", 12)


def test_who_was_in_before_the_trip_has_no_say_after_it(bench: Bench) -> None:
    for key in ("good", "bad", "gone"):
        bench.enter(key, 0)
    bench.run("fff", 1)
    assert bench.leave("good", "success", 2) == "open"
    bench.leave("bad", "failure", 3)
    bench.leave("gone", "trip", 3)
    assert bench.breakers.reopens_at(A) == 11.0
    assert bench.trips == [(A, 11.0)]
    assert bench.run("s", 11) == "closed"
    assert bench.run("ff", 12) == "closed", "nor is the old row gone on with"


def test_panic(bench: Bench) -> None:
    bench.run("fff", 0)
    for key in ("bad", "gone", "cut", "good", "late"):
        assert bench.enter(key, 1, panic=True)
    bench.leave("bad", "failure", 2)
    bench.leave("gone", "trip", 2)
    assert bench.leave("cut", "neutral", 2) == "open"
    assert bench.breakers.reopens_at(A) == 10.0
    assert bench.leave("good", "success", 3) == "closed"
    assert bench.leave("late", "failure", 4) == "closed"
    assert bench.run("ff", 5) == "closed"


def test_a_panic_success_beside_a_probe_closes_and_the_probe_says_nothing_more(bench: Bench) -> None:
    bench.run("fff", 0)
    bench.enter("panic", 1, panic=True)
    bench.enter("probe", 10)
    assert bench.leave("panic", "success", 11) == "closed"
    assert bench.leave("probe", "failure", 12) == "closed"
    assert bench.breakers.probe_free(A)


def test_a_shorter_pause_never_shortens_a_longer_one(bench: Bench) -> None:
    """BerriAI/litellm #40130: Retry-After 60, then Retry-After 5."""
    bench.breakers.rest(A, 60.0)
    bench.breakers.rest(A, 5.0)
    assert bench.state(10) == "open"
    assert not bench.enter("x", 10)
    assert bench.state(60) == "closed", "a pause is no failure: no probe is needed after it"
    bench.run("fff", 60)
    bench.breakers.rest(A, 62.0)
    assert bench.breakers.reopens_at(A) == 70.0
    bench.breakers.rest(A, 75.0)
    assert bench.state(74) == "open"
    assert bench.state(75) == "half_open"


def test_a_pause_outlives_the_success_of_a_probe(bench: Bench) -> None:
    bench.run("fff", 0)
    bench.enter("probe", 10)
    bench.breakers.rest(A, 30.0)
    assert bench.leave("probe", "success", 11) == "open"
    assert bench.state(30) == "closed"


def test_a_retry_that_lies_ahead_is_judged_by_its_own_time(bench: Bench) -> None:
    bench.breakers.rest(A, 5.0)
    assert not bench.enter("retry", 4.9)
    assert bench.enter("retry", 5.0)
    assert bench.state(1) == "open"
    assert bench.leave("retry", "neutral", 1) == "open"


def test_a_trip_taken_over_is_not_told_again(bench: Bench) -> None:
    bench.enter("before", 0)
    bench.breakers.trip(A, 20.0)
    assert bench.state(1) == "open"
    assert bench.trips == []
    assert bench.leave("before", "success", 2) == "open"
    bench.breakers.trip(A, 15.0)
    assert bench.breakers.reopens_at(A) == 20.0
    assert bench.enter("probe", 20)
    bench.breakers.trip(A, 40.0)
    assert bench.leave("probe", "success", 21) == "open"
    assert bench.breakers.probe_free(A)
    assert bench.run("s", 40) == "closed"


def test_a_probe_of_an_older_era_neither_blocks_the_next_one_nor_gives_its_permit_back(bench: Bench) -> None:
    bench.run("fff", 0)
    bench.enter("old", 10)
    bench.breakers.trip(A, 30.0)
    assert bench.enter("new", 30)
    bench.leave("old", "neutral", 31)
    assert not bench.enter("third", 31)
    assert bench.leave("new", "success", 32) == "closed"


def test_whoever_isnt_in_changes_nothing(bench: Bench) -> None:
    bench.run("ff", 0)
    bench.leave("stranger", "failure", 0)
    bench.breakers.leave(B, "stranger", "trip", SPEC, 0)
    bench.enter("x", 0)
    bench.leave("x", "neutral", 0)
    assert bench.leave("x", "failure", 0) == "closed"


def test_the_pin_file_may_change_while_it_counts(bench: Bench) -> None:
    bench.run("ff", 0)
    assert bench.run("f", 0, msgspec.structs.replace(SPEC, failures=4, window=Duration(1))) == "closed"
    assert bench.run("f", 0, SPEC) == "open"


def test_pybreaker_holds_the_state(bench: Bench) -> None:
    def held() -> str:
        return bench.breakers._circuits[A].breaker.current_state

    bench.run("fff", 0)
    assert held() == pybreaker.STATE_OPEN
    bench.enter("probe", 10)
    assert held() == pybreaker.STATE_HALF_OPEN
    bench.leave("probe", "success", 11)
    assert held() == pybreaker.STATE_CLOSED


def test_targets_that_left_the_pin_file_dont_pile_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 20)
    bench.run("fff", 0)
    for number in range(1000):
        target = Target("openai", f"old-{number}")
        assert bench.breakers.enter(target, number, 1.0)
        bench.breakers.leave(target, number, "success", SPEC, 1.0)
    assert len(bench.breakers.states(1)) <= 20
    assert bench.state(1) == "open", "what is tripped is remembered"
    for number in range(1000):
        bench.breakers.trip(Target("openai", f"tripped-{number}"), 100.0 + number)
    assert len(bench.breakers.states(1)) <= 20


def test_what_is_under_way_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    breakers = Breakers()
    targets = [Target("openai", f"busy-{number}") for number in range(10)]
    for target in targets:
        breakers.enter(target, target, 0.0)
    for target in targets:
        breakers.leave(target, target, "trip", SPEC, 0.0)
        assert breakers.state(target, 0.0) == "open"


def test_a_window_needs_no_more_memory_for_more_outcomes() -> None:
    window = Window()
    for number in range(10_000):
        window.add(number % 2 == 0, 3.0, number / 100)
    assert len(window._slices) <= SLICES
    total, failures = window.sums()
    assert 280 <= total <= 300
    assert abs(failures - total / 2) <= 1


class Machine(RuleBasedStateMachine):
    """Any order of attempts, pauses and foreign trips, at a clock that only goes on."""

    inside = Bundle("inside")

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.count = 0
        self.promised = 0.0  # nothing but a success may bring it back before
        self.breakers = Breakers(self.tripped)
        self.held: set[int] = set()

    def tripped(self, target: Target, until: float) -> None:
        assert target == A
        assert self.now + SPEC.cooldown <= until <= self.now + SPEC.max_cooldown
        self.promised = until

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def until_it_reopens(self) -> None:
        self.now = max(self.now, self.breakers.reopens_at(A))
        assert self.breakers.state(A, self.now) != "open"

    @rule(target=inside, panic=st.booleans())
    def enter(self, panic: bool) -> object:
        before, free = self.breakers.state(A, self.now), self.breakers.probe_free(A)
        key, self.count = self.count, self.count + 1
        came_in = self.breakers.enter(A, key, self.now, panic=panic)
        assert came_in == (panic or before == "closed" or (before == "half_open" and free))
        if not came_in:
            return multiple()
        self.held.add(key)
        return key

    @rule(key=consumes(inside), verdict=st.sampled_from(["success", "failure", "trip", "neutral"]))
    def leave(self, key: int, verdict: Verdict) -> None:
        before, reopens_at = self.breakers.state(A, self.now), self.breakers.reopens_at(A)
        # Tripped, and not only told by the provider to pause: what came in before such a pause may still trip it.
        rests = self.now < self.breakers._circuits[A].tripped_until
        self.breakers.leave(A, key, verdict, SPEC, self.now)
        after = self.breakers.state(A, self.now)
        self.held.discard(key)
        if verdict == "neutral":
            assert (after, self.breakers.reopens_at(A)) == (before, reopens_at)
        if rests and verdict != "success":
            assert (after, self.breakers.reopens_at(A)) == (before, reopens_at)
        if verdict == "success":
            assert not (before == "closed" and after != "closed")
        if not self.breakers._circuits[A].tripped:
            assert verdict == "success" or not self.promised
            self.promised = 0.0

    @rule(seconds=st.floats(0, 60))
    def rest(self, seconds: float) -> None:
        self.breakers.rest(A, self.now + seconds)
        assert self.breakers.reopens_at(A) >= self.now + seconds

    @rule(seconds=st.floats(0.1, 60))
    def taken_over(self, seconds: float) -> None:
        before = self.breakers.reopens_at(A)
        self.breakers.trip(A, self.now + seconds)
        assert self.breakers.reopens_at(A) == max(before, self.now + seconds)

    @precondition(lambda self: not self.held)
    @rule()
    def never_stuck(self) -> None:
        """With nothing under way, one good probe after the rest brings it back."""
        self.now = max(self.now, self.breakers.reopens_at(A))
        assert self.breakers.enter(A, "last", self.now)
        self.breakers.leave(A, "last", "success", SPEC, self.now)
        assert self.breakers.state(A, self.now) == "closed"
        self.promised = 0.0

    @invariant()
    def one_permit_and_who_holds_it_is_under_way(self) -> None:
        circuit = self.breakers._circuits.get(A)
        if circuit is not None and circuit.probe is not None:
            assert circuit.probe in self.held
            assert circuit.tripped

    @invariant()
    def nothing_is_kept_of_who_left(self) -> None:
        circuit = self.breakers._circuits.get(A)
        assert set(circuit.inside if circuit else ()) == self.held

    @invariant()
    def never_earlier_than_promised(self) -> None:
        if self.now < self.promised:
            assert self.breakers.state(A, self.now) == "open"


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
