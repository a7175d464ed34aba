from __future__ import annotations

from typing import Any

import pytest

from sidecar.compose import build
from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Fault, Outcome, Result, Target
from sidecar.core.policy import Next
from sidecar.core.race import Launch, Race
from sidecar.policies.hedge import OPERATIONS, Hedge
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State
from sidecar.state.quantiles import ENOUGH_SAMPLES, Kind

SLOW, QUICK = "slow-2026-01-01", "quick-2026-01-01"
FIRST, OTHER = Target("openai", SLOW), Target("openai", QUICK)

PINS = f"""
version: 1
generation: 1
unlisted: reject
models:
  {SLOW}: {{provider: openai, context: 100000}}
  {QUICK}: {{provider: openai, context: 1000, max_output: 500}}
  far-2026-01-01: {{provider: azure}}
pins:
  x: {{stable: {SLOW}, hedge: {{HEDGE}}}}
  bare: {{stable: {SLOW}}}
"""


def parts(hedge: str = "after: 200ms", *, text: str = PINS) -> Parts:
    pins = read_pins(text.replace("{HEDGE}", f"{{{hedge}}}").encode(), "pins.yaml", None)
    return Parts({}, {"openai": "openai"}, pins, State())


def request(name: str = "x", **facts: Any) -> Exchange:
    ask = Ask("openai", **({"operation": "chat", "generates": True, "stream": True, "name": name} | facts))
    x = Exchange("r", ask, 0.0, kind="pin", pin=name, chosen=SLOW, targets=(FIRST,), usable=("openai",))
    x.deadline = 100.0
    return x


def admitted(made: Parts, *, usable: tuple[str, ...] = ("openai",), **facts: Any) -> tuple[Hedge, Exchange]:
    hedge, x = Hedge.build(made), request(**facts)
    x.usable = usable
    assert hedge is not None
    assert hedge.admit(x, 0.0) is None
    return hedge, x


def attempt(x: Exchange, **facts: Any) -> Attempt:
    """The first attempt of a request, at 0."""
    made = Attempt(1, FIRST, Cause.FIRST, 0.0, **facts)
    x.attempts.append(made)
    return made


def feed(made: Parts, model: str, kind: Kind, seconds: list[float]) -> None:
    for each in seconds:
        made.state.quantiles.observe(model, kind, each, 0.0)


def settled(made: Parts, x: Exchange, winner: Attempt | None, now: float = 9.0) -> None:
    hedge = Hedge.build(made)
    assert hedge is not None
    hedge.settle(x, Outcome(tuple(x.attempts), winner, None, 200), now)


# When.


def test_without_a_hedge_in_the_file_there_is_no_policy() -> None:
    assert Hedge.build(parts(text=PINS.replace(", hedge: {HEDGE}", ""))) is None


def test_a_fixed_delay() -> None:
    _, x = admitted(parts())
    assert x.hedge_after_s == 0.2
    assert x.why == ["hedge after 200 ms"]


def test_a_pin_without_a_hedge_has_none() -> None:
    assert admitted(parts(), name="bare")[1].hedge_after_s is None


@pytest.mark.parametrize("rule", ["after: p95", f"model: {QUICK}"], ids=["p95", "p95 by default"])
def test_a_quantile_is_off_until_there_are_fifty_samples(rule: str) -> None:
    made = parts(rule)
    feed(made, SLOW, "first", [0.1 * n for n in range(1, ENOUGH_SAMPLES)])
    assert admitted(made)[1].hedge_after_s is None
    feed(made, SLOW, "first", [5.0])
    assert admitted(made)[1].hedge_after_s == pytest.approx(4.8), "the 48th of 50"


def test_streams_and_whole_answers_are_measured_apart() -> None:
    made = parts("after: p95")
    feed(made, SLOW, "total", [3.0] * 50)
    assert admitted(made, stream=True)[1].hedge_after_s is None
    assert admitted(made, stream=False)[1].hedge_after_s == 3.0


@pytest.mark.parametrize(("measured", "delay"), [(0.01, 0.05), (0.7, 0.7), (9.0, 2.0)])
def test_a_quantile_is_clamped(measured: float, delay: float) -> None:
    made = parts("after: p95, min: 50ms, max: 2s")
    feed(made, SLOW, "first", [measured] * 50)
    assert admitted(made)[1].hedge_after_s == delay


def test_what_an_event_has_kept_is_used_again() -> None:
    hedge, x = Hedge.build(parts("after: p95")), request()
    assert hedge is not None
    x.hedge_after_s = 1.5
    hedge.admit(x, 0.0)
    assert (x.hedge_after_s, x.why) == (1.5, ["hedge after 1500 ms"])


@pytest.mark.parametrize(
    "facts",
    [
        {"no_hedge": True},
        {"side_effects": True},
        {"generates": False},
        {"repeatable": False},
        {"operation": "image_generation"},
        {"operation": "speech"},
        {"operation": "transcription"},
    ],
    ids=str,
)
def test_what_may_not_be_done_twice_is_not_hedged(facts: dict[str, Any]) -> None:
    assert admitted(parts(), **facts)[1].hedge_after_s is None


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_what_leaves_nothing_behind_is(operation: str) -> None:
    assert admitted(parts(), operation=operation)[1].hedge_after_s == 0.2


def test_an_over_budget_request_has_no_money_for_a_copy() -> None:
    hedge, x = Hedge.build(parts()), request()
    assert hedge is not None
    x.over_budget = True
    hedge.admit(x, 0.0)
    assert x.hedge_after_s is None


def test_one_attempt_leaves_no_room() -> None:
    made = parts(text=PINS.replace("hedge:", "max_attempts: 1, hedge:"))
    assert admitted(made)[1].hedge_after_s is None


# Where to.


@pytest.mark.parametrize(
    ("facts", "may"),
    [
        ({"body_bytes": 3900}, True),  # 975 tokens of 1000
        ({"body_bytes": 4100}, False),
        ({"body_bytes": 3900, "max_output": 100}, False),
        ({"max_output": 500}, True),
        ({"max_output": 501}, False),
    ],
    ids=str,
)
def test_the_hedge_model_must_hold_the_request(facts: dict[str, Any], may: bool) -> None:
    _, x = admitted(parts(f"model: {QUICK}, after: 200ms"), **facts)
    assert (x.hedge_after_s is not None) is may


def test_what_was_left_out_as_too_small_is_no_hedge() -> None:
    hedge, x = Hedge.build(parts(f"model: {QUICK}, after: 200ms")), request()
    assert hedge is not None
    x.left_out = (QUICK,)
    hedge.admit(x, 0.0)
    assert x.hedge_after_s is None


def test_another_provider_needs_a_credential_of_its_own() -> None:
    made = parts("model: far-2026-01-01, after: 200ms")
    assert admitted(made)[1].hedge_after_s is None
    hedge, x = admitted(made, usable=("azure", "openai"))
    assert hedge.react(x, attempt(x), 0.2) == Next(Target("azure", "far-2026-01-01"), Cause.HEDGE)


@pytest.mark.parametrize("facts", [{"bound": True}, {"provider": "openai"}], ids=str)
def test_a_request_that_is_tied_to_its_provider_stays_there(facts: dict[str, Any]) -> None:
    made = parts("model: far-2026-01-01, after: 200ms")
    assert admitted(made, usable=("azure", "openai"), **facts)[1].hedge_after_s is None
    assert admitted(parts(f"model: {QUICK}, after: 200ms"), **facts)[1].hedge_after_s == 0.2


# A slow one.


def test_a_slow_one_gets_company_once() -> None:
    hedge, x = admitted(parts())
    slow = attempt(x)
    assert hedge.react(x, slow, 0.2) == Next(FIRST, Cause.HEDGE)
    x.attempts.append(Attempt(2, FIRST, Cause.HEDGE, 0.2))
    assert hedge.react(x, slow, 0.4) is None


def test_by_another_model_if_the_pin_says_so() -> None:
    hedge, x = admitted(parts(f"model: {QUICK}, after: 200ms"))
    assert hedge.react(x, attempt(x), 0.2) == Next(OTHER, Cause.HEDGE)


def test_a_fallback_that_is_slow_gets_none() -> None:
    hedge, x = admitted(parts())
    attempt(x, result=Result.FAILED, fault=Fault.REFUSED)
    fallback = Attempt(2, OTHER, Cause.FALLBACK, 1.0)
    x.attempts.append(fallback)
    assert hedge.react(x, fallback, 2.0) is None


@pytest.mark.parametrize(("now", "may"), [(98.0, True), (98.1, False)])
def test_it_needs_twice_the_median_before_the_deadline(now: float, may: bool) -> None:
    made = parts(f"model: {QUICK}, after: 200ms")
    feed(made, QUICK, "first", [1.0] * 50)
    hedge, x = admitted(made)
    assert (hedge.react(x, attempt(x), now) is not None) is may


@pytest.mark.parametrize(("now", "may"), [(99.7, True), (99.9, False)])
def test_or_the_delay_itself_where_nothing_was_measured(now: float, may: bool) -> None:
    hedge, x = admitted(parts())
    assert (hedge.react(x, attempt(x), now) is not None) is may


# One that failed early.

TRANSIENT = {Fault.OVERLOAD, Fault.CONNECT, Fault.TIMEOUT, Fault.BROKEN, Fault.STALE}


@pytest.mark.parametrize("fault", list(Fault))
def test_an_early_failure_launches_it_at_once(fault: Fault) -> None:
    for rule, wanted in [
        ("after: 200ms", TRANSIENT),
        (f"model: {QUICK}, after: 200ms", TRANSIENT | {Fault.RATE_LIMIT, Fault.QUOTA, Fault.MODEL_GONE}),
    ]:
        hedge, x = admitted(parts(rule))
        proposal = hedge.react(x, attempt(x, result=Result.FAILED, fault=fault), 0.1)
        assert (proposal is not None) is (fault in wanted), rule
        assert proposal is None or proposal.not_before is None


@pytest.mark.parametrize("facts", [{"retryable": False}, {"retry_after_s": 1.0}], ids=str)
def test_a_provider_that_wants_to_be_left_alone_is(facts: dict[str, Any]) -> None:
    for rule, may in [("after: 200ms", False), (f"model: {QUICK}, after: 200ms", True)]:
        hedge, x = admitted(parts(rule))
        failed = attempt(x, result=Result.FAILED, fault=Fault.OVERLOAD, **facts)
        assert (hedge.react(x, failed, 0.1) is not None) is may


def test_a_late_failure_is_for_retries() -> None:
    hedge, x = admitted(parts())
    assert hedge.react(x, attempt(x, result=Result.FAILED, fault=Fault.OVERLOAD), 0.2) is None


def test_no_hedge_was_decided_on_none_is_proposed() -> None:
    hedge, x = admitted(parts(), no_hedge=True)
    assert hedge.react(x, attempt(x, result=Result.FAILED, fault=Fault.OVERLOAD), 0.1) is None


# What is measured.


@pytest.mark.parametrize(("stream", "seconds"), [(True, 1.0), (False, 4.0)])
def test_the_winners_time_is_fed(stream: bool, seconds: float) -> None:
    made = parts("after: p95")
    for _ in range(50):
        x = request(stream=stream)
        first_at = 1.0 if stream else None
        settled(made, x, attempt(x, first_at=first_at, ended_at=4.0, result=Result.OK))
    kind: Kind = "first" if stream else "total"
    assert made.state.quantiles.quantile(SLOW, kind, 0.95, 9.0) == seconds


def test_a_whole_answers_time_is_not_its_clients() -> None:
    made = parts("after: p95")
    for _ in range(50):
        x = request(stream=False)
        settled(made, x, attempt(x, first_at=1.0, ended_at=60.0, result=Result.OK))
    assert made.state.quantiles.quantile(SLOW, "total", 0.95, 9.0) == 1.0


def test_a_first_that_lost_counts_as_slow_and_a_hedge_that_lost_not_at_all() -> None:
    made = parts(f"model: {QUICK}, after: p95")
    for _ in range(50):
        x = request()
        attempt(x, ended_at=0.9, result=Result.LOST_HEDGE)
        won = Attempt(2, OTHER, Cause.HEDGE, 0.5, first_at=0.9, ended_at=2.0, result=Result.OK)
        x.attempts.append(won)
        settled(made, x, won)
        y = request()
        first = attempt(y, first_at=0.9, ended_at=2.0, result=Result.OK)
        y.attempts.append(Attempt(2, OTHER, Cause.HEDGE, 0.5, ended_at=0.9, result=Result.LOST_HEDGE))
        settled(made, y, first)
    measured = made.state.quantiles
    assert measured.quantile(SLOW, "first", 0.5, 9.0) == 0.9
    assert measured.quantile(QUICK, "first", 0.01, 9.0) == measured.quantile(QUICK, "first", 0.99, 9.0) == 0.4


@pytest.mark.parametrize("result", [Result.FAILED, Result.CLIENT_GONE])
def test_what_went_wrong_is_not_fed(result: Result) -> None:
    made = parts("after: p95")
    for _ in range(50):
        x = request()
        settled(made, x, attempt(x, first_at=1.0, ended_at=4.0, result=result))
    assert made.state.quantiles.quantile(SLOW, "first", 0.95, 9.0) is None


# With the others (fault 84).


def test_a_provider_that_is_always_slow_gets_at_most_a_twentieth_more() -> None:
    made = parts()
    snapshot = build(made)
    launched = 0
    for n in range(1000):
        x = Exchange(f"r{n}", Ask("openai", operation="chat", generates=True, stream=True, name="x"), 0.0)
        assert snapshot.pipeline.admit(x, 0.0) is None
        race = Race(
            x.targets, snapshot.pipeline.bound(x), attempts=x.attempts, deadline=100.0, slow_after_s=x.hedge_after_s
        )
        commands = [*race.start(0.0), *race.tick(0.2)]
        launched += sum(isinstance(c, Launch) for c in commands)
        race.useful(x.attempts[-1], 1.0)
        race.ended(x.attempts[-1], 2.0)
    assert launched == 1000 + 10 + 49, "the full bucket, and one for every twentieth request after the first took one"
