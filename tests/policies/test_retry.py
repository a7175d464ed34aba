from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Fault, Target
from sidecar.core.policy import Next
from sidecar.policies.retry import TRANSIENT, Retry, wait
from sidecar.settings.load import read_pins
from sidecar.settings.pins import BUILT_IN_TRIES

TARGET = Target("openai", "m")
PINS = read_pins(b"""
version: 1
generation: 1
unlisted: reject
defaults: {retry: {base: 100ms, max: 2s}}
models: {m-2026-01-01: {provider: openai}}
pins: {chat: {stable: m-2026-01-01}}
""", "pins.yaml", None)  # fmt: skip


def react(fault: Fault, *, retry_after_s: float | None = None, retryable: bool = True, **facts: object) -> Next | None:
    attempt = Attempt(1, TARGET, Cause.FIRST, 0.0, fault=fault, retry_after_s=retry_after_s, retryable=retryable)
    ask = Ask("openai", **({"generates": True} | facts))  # type: ignore[arg-type]
    return Retry(PINS).react(Exchange("r", ask, 0.0, pin="chat", attempts=[attempt]), attempt, 10.0)


@pytest.mark.parametrize("fault", list(Fault))
def test_only_what_passes_by_itself_is_tried_again(fault: Fault) -> None:
    proposal = react(fault)
    assert (proposal is not None) == (fault in TRANSIENT)
    if proposal is not None:
        assert (proposal.target, proposal.cause) == (TARGET, Cause.RETRY)
        assert proposal.not_before is not None
        assert 10.05 <= proposal.not_before <= 10.1


def test_not_where_the_provider_says_no_and_not_what_cannot_be_sent_again() -> None:
    assert react(Fault.OVERLOAD, retryable=False) is None
    assert react(Fault.OVERLOAD, repeatable=False) is None
    assert react(Fault.OVERLOAD, generates=False) is None


def test_what_the_provider_asks_for_is_waited_for_up_to_the_pins_longest_wait() -> None:
    proposal = react(Fault.RATE_LIMIT, retry_after_s=2.0)
    assert proposal is not None
    assert proposal.not_before is not None
    assert 12.0 <= proposal.not_before <= 13.0
    assert react(Fault.RATE_LIMIT, retry_after_s=2.1) is None


@given(st.text(), st.integers(0, 60), st.none() | st.floats(0, 8))
def test_waits_grow_within_bounds_and_jitter_goes_only_upward_from_what_was_asked(
    request_id: str, before: int, asked: float | None
) -> None:
    attempt = Attempt(1, TARGET, Cause.FIRST, 0.0, retry_after_s=asked)
    seconds = wait(request_id, attempt, before, BUILT_IN_TRIES)
    assert seconds == wait(request_id, attempt, before, BUILT_IN_TRIES), "the same dice, so that it can be replayed"
    assert seconds is not None
    if asked is not None:
        assert asked <= seconds <= asked + 1
    else:
        full = min(8.0, 0.2 * 2**before)
        assert full / 2 <= seconds <= full


@pytest.mark.parametrize(
    ("failed", "fault", "again"),
    [
        (Fault.OVERLOAD, Fault.MODEL_GONE, TARGET),
        (Fault.OVERLOAD, Fault.QUOTA, TARGET),
        (Fault.OVERLOAD, Fault.OVERLOAD, TARGET),
        (Fault.QUOTA, Fault.OVERLOAD, Target("openai", "other")),
        (Fault.QUOTA, Fault.MODEL_GONE, None),
    ],
)
def test_a_hedge_that_failed_does_not_cost_the_first_target_its_retry(
    failed: Fault, fault: Fault, again: Target | None
) -> None:
    first = Attempt(1, TARGET, Cause.FIRST, 0.0, fault=failed)
    hedge = Attempt(2, Target("openai", "other"), Cause.HEDGE, 1.0, fault=fault)
    x = Exchange("r", Ask("openai", generates=True), 0.0, pin="chat", targets=(TARGET,), attempts=[first, hedge])
    proposal = Retry(PINS).react(x, hedge, 10.0)
    assert (proposal and proposal.target) == again
