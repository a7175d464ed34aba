"""Who goes to the back, who may still be tried, and which outcome speaks against a target."""

from __future__ import annotations

import pytest

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Fault, Result, Target
from sidecar.policies.breaker import MAX_REST_S, Breaker, verdict
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.settings.schema import BreakerSpec
from sidecar.settings.units import Duration
from sidecar.state import State

PINS = """
version: 1
unlisted: reject
models:
  a-2026-01-01: {provider: openai, breaker: {failures: 2, cooldown: 10s, max_cooldown: 60s}}
  b-2026-01-01: {provider: openai, breaker: {failures: 1, cooldown: 20s, slow_first_event: 3s}}
  c-2026-01-01: {provider: openai, breaker: {failures: 1}}
  plain-2026-01-01: {provider: openai}
"""
A, B, C, PLAIN = (Target("openai", f"{name}-2026-01-01") for name in ("a", "b", "c", "plain"))


class Bench:
    def __init__(self, state: State | None = None) -> None:
        self.state = state or State()
        policy = Breaker.build(Parts({}, {}, read_pins(PINS.encode(), "pins.yaml", None), self.state))
        assert policy is not None
        self.policy = policy

    def asked(
        self, *targets: Target, now: float = 0.0, generates: bool = True, health: dict[str, str] | None = None
    ) -> Exchange:
        x = Exchange("r", Ask("openai", generates=generates), now, targets=targets, health=health)
        self.policy.admit(x, now)
        return x

    def attempt(
        self,
        target: Target,
        fault: Fault | None,
        now: float,
        *,
        cause: Cause = Cause.FIRST,
        result: Result | None = None,
        retry_after_s: float | None = None,
    ) -> bool:
        """One attempt, in and out. False if it was vetoed."""
        x = Exchange("r", Ask("openai", generates=True), now, targets=(target,))
        attempt = Attempt(1, target, cause, now, retry_after_s=retry_after_s)
        if not self.policy.enter(x, attempt, now):
            return False
        attempt.result = result or (Result.OK if fault is None else Result.FAILED)
        attempt.fault = fault
        self.policy.leave(x, attempt, now)
        return True

    def trip(self, target: Target, now: float) -> None:
        assert self.attempt(target, Fault.OVERLOAD, now)
        assert self.attempt(target, Fault.OVERLOAD, now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_off_where_no_model_has_one() -> None:
    pins = read_pins(b"version: 1\nunlisted: reject\nmodels: {m-2026-01-01: {provider: openai}}", "pins.yaml", None)
    assert Breaker.build(Parts({}, {}, pins, State())) is None


def test_healthy_targets_stay_as_they_are(bench: Bench) -> None:
    x = bench.asked(A, PLAIN, B)
    assert x.targets == (A, PLAIN, B)
    assert x.health == {}
    assert x.why == []


def test_a_tripped_target_goes_to_the_back_and_why_says_so(bench: Bench) -> None:
    bench.trip(A, 0)
    x = bench.asked(A, PLAIN, B, now=2.5)
    assert x.targets == (PLAIN, B, A)
    assert x.health == {"a-2026-01-01": "open:7.5"}
    assert x.why == ["breaker: a-2026-01-01 open", "to plain-2026-01-01 at openai"]
    assert bench.asked(PLAIN, A, now=2.5).why == ["breaker: a-2026-01-01 open"]


def test_panic_the_least_bad_first_when_all_are_open(bench: Bench) -> None:
    bench.trip(B, 0)
    bench.trip(A, 0)
    bench.attempt(C, Fault.QUOTA, 0)
    x = bench.asked(C, B, A, now=1)
    assert x.targets == (A, B, C)
    assert x.why[-2:] == ["breaker: all open, the least bad is tried", "to a-2026-01-01 at openai"]
    assert bench.attempt(A, None, 2), "it is let in"
    assert bench.state.breakers.state(A, 2) == "closed"


def test_due_for_a_probe_it_takes_its_place_again_for_one_attempt(bench: Bench) -> None:
    bench.trip(A, 0)
    x = bench.asked(A, B, now=10)
    assert x.targets == (A, B)
    assert x.health == {"a-2026-01-01": "half_open"}
    assert x.why == []
    probe = Attempt(1, A, Cause.FIRST, 10)
    assert bench.policy.enter(x, probe, 10)
    second = bench.asked(A, B, now=11)
    assert second.targets == (B, A)
    assert second.health == {"a-2026-01-01": "open:0.0"}
    probe.result = Result.CLIENT_GONE
    bench.policy.leave(x, probe, 12)
    assert bench.asked(A, B, now=12).targets == (A, B)


@pytest.mark.parametrize(
    "health", [{}, {"a-2026-01-01": "open:3.0", "b-2026-01-01": "open:1.5"}, {"a-2026-01-01": "half_open"}]
)
def test_replay_decides_from_what_the_event_kept(bench: Bench, health: dict[str, str]) -> None:
    """On a bench of its own, whose breakers know nothing, or something else."""
    fresh = Bench()
    bench.trip(B, 0)
    bench.trip(C, 0)
    there, here = (b.asked(A, PLAIN, B, now=5, health=dict(health)) for b in (fresh, bench))
    assert (there.targets, there.why) == (here.targets, here.why)
    assert here.health == health
    recorded = bench.asked(A, C, B, now=5)
    again = fresh.asked(A, C, B, now=0, health=recorded.health)
    assert (again.targets, again.why) == (recorded.targets, recorded.why)


def test_only_calls_of_a_model_with_a_breaker_are_looked_at(bench: Bench) -> None:
    bench.trip(A, 0)
    lookup = bench.asked(A, B, generates=False)
    assert lookup.targets == (A, B)
    assert lookup.health is None
    for _ in range(100):
        assert bench.attempt(PLAIN, Fault.OVERLOAD, 0)
        assert bench.attempt(Target("openai", None), Fault.OVERLOAD, 0)
    assert bench.state.breakers.states(0) == {A: "open"}
    failing = Attempt(1, B, Cause.FIRST, 0)
    assert bench.policy.enter(lookup, failing, 0)
    failing.result, failing.fault = Result.FAILED, Fault.OVERLOAD
    bench.policy.leave(lookup, failing, 0)
    assert bench.state.breakers.state(B, 0) == "closed"


@pytest.mark.parametrize("cause", Cause)
def test_which_further_attempts_a_tripped_target_gets(bench: Bench, cause: Cause) -> None:
    bench.trip(A, 0)
    let_in = cause not in (Cause.RETRY, Cause.HEDGE)
    assert bench.attempt(A, Fault.CALLER, 1, cause=cause) is let_in
    assert bench.attempt(A, Fault.CALLER, 10, cause=cause) is let_in, "half-open is not closed"
    assert bench.attempt(A, None, 10)
    assert bench.attempt(A, Fault.CALLER, 10, cause=cause)


def test_a_veto_says_why(bench: Bench) -> None:
    bench.trip(A, 0)
    x = Exchange("r", Ask("openai", generates=True), 0, targets=(C,))
    assert not bench.policy.enter(x, Attempt(2, A, Cause.HEDGE, 1), 1)
    assert x.why == ["breaker: no hedge to a-2026-01-01"]


def test_a_retry_may_lie_beyond_the_pause_that_was_asked_for(bench: Bench) -> None:
    assert bench.attempt(A, Fault.RATE_LIMIT, 0, retry_after_s=5)
    assert not bench.attempt(A, None, 4, cause=Cause.RETRY)
    assert bench.attempt(A, None, 5, cause=Cause.RETRY)


def test_a_rate_limit_is_a_pause_and_no_failure(bench: Bench) -> None:
    for _ in range(10):
        bench.attempt(C, Fault.RATE_LIMIT, 0)
    assert bench.state.breakers.state(C, 0) == "closed", "nothing was asked for"
    bench.attempt(C, Fault.RATE_LIMIT, 0, retry_after_s=60)
    bench.attempt(C, Fault.RATE_LIMIT, 1, retry_after_s=5)
    assert bench.asked(C, A, now=10).health == {"c-2026-01-01": "open:50.0"}
    assert bench.asked(C, A, now=60).health == {}
    bench.attempt(C, Fault.RATE_LIMIT, 60, retry_after_s=1e6)
    assert bench.state.breakers.reopens_at(C) == 60 + MAX_REST_S


def test_an_attempt_that_was_vetoed_elsewhere_gives_the_permit_back(bench: Bench) -> None:
    bench.trip(A, 0)
    x = bench.asked(A, now=10)
    waiting = Attempt(2, A, Cause.FALLBACK, 10)
    assert bench.policy.enter(x, waiting, 10)
    assert not bench.state.breakers.probe_free(A)
    bench.policy.leave(x, waiting, 10)
    assert bench.state.breakers.probe_free(A)


def test_what_is_known_survives_a_swap_of_the_pin_file(bench: Bench) -> None:
    bench.trip(A, 0)
    assert Bench(bench.state).asked(A, B, now=1).targets == (B, A)


SPEC = BreakerSpec(slow_first_event=Duration(2))


@pytest.mark.parametrize("fault", Fault)
def test_what_a_failure_says(fault: Fault) -> None:
    failures = {Fault.OVERLOAD, Fault.CONNECT, Fault.TIMEOUT, Fault.SLOW, Fault.BROKEN}
    expected = "failure" if fault in failures else "trip" if fault in (Fault.MODEL_GONE, Fault.QUOTA) else "neutral"
    attempt = Attempt(1, A, Cause.FIRST, 0.0, fault=fault, result=Result.FAILED)
    assert verdict(attempt, SPEC) == expected


@pytest.mark.parametrize("result", [Result.LOST_HEDGE, Result.CLIENT_GONE, None])
def test_who_lost_left_or_never_started_says_nothing(result: Result | None) -> None:
    assert verdict(Attempt(1, A, Cause.HEDGE, 0.0, first_at=9.0, result=result), SPEC) == "neutral"


@pytest.mark.parametrize(("first_at", "expected"), [(1.9, "success"), (2.1, "failure"), (None, "success")])
def test_a_slow_first_event_is_a_failure_where_that_is_asked_for(first_at: float | None, expected: str) -> None:
    attempt = Attempt(1, A, Cause.FIRST, 0.0, first_at=first_at, result=Result.OK)
    assert verdict(attempt, SPEC) == expected
    assert verdict(attempt, BreakerSpec()) == "success"
