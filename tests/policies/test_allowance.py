from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Result, Target
from sidecar.policies.allowance import Allowance
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State

A, B = Target("openai", "a-2026-01-01"), Target("openai", "b-2026-01-01")
KEY = ("openai", "a-2026-01-01")

PINS = """
version: 1
generation: 1
unlisted: pass
defaults: {extra_load: {ratio: 0.5, burst: 2}}
models:
  a-2026-01-01: {provider: openai}
  b-2026-01-01: {provider: openai}
pins:
  x: {stable: a-2026-01-01}
  off: {stable: a-2026-01-01, extra_load: {burst: 0}}
"""


def built(text: str = PINS, state: State | None = None) -> tuple[Allowance | None, State]:
    state = state or State()
    return Allowance.build(Parts({}, {}, read_pins(text.encode(), "pins.yaml", None), state)), state


def made(text: str = PINS, state: State | None = None) -> tuple[Allowance, State]:
    policy, state = built(text, state)
    assert policy is not None
    return policy, state


def sent(policy: Allowance, pin: str = "x", target: Target = A, **facts: Any) -> Exchange:
    """A request whose first attempt is under way."""
    x = Exchange("r", Ask("openai", **({"generates": True} | facts)), 0.0, kind="pin", pin=pin, targets=(target, B))
    first = Attempt(1, target, Cause.FIRST, 0.0)
    assert policy.enter(x, first, 0.0), "the first is never refused"
    x.attempts.append(first)
    return x


def extra(policy: Allowance, x: Exchange, cause: Cause, target: Target = A) -> bool:
    return policy.enter(x, Attempt(len(x.attempts) + 1, target, cause, 1.0), 1.0)


def drain(policy: Allowance, x: Exchange) -> int:
    taken = 0
    while extra(policy, x, Cause.RETRY):
        taken += 1
    return taken


def test_where_nothing_is_tried_twice_there_is_no_policy() -> None:
    assert built(PINS.replace("defaults: {", "defaults: {max_attempts: 1, "))[0] is None
    text = PINS.replace("defaults: {", "defaults: {max_attempts: 1, ").replace("  x: {", "  x: {max_attempts: 2, ")
    assert built(text)[0] is not None


@pytest.mark.parametrize("cause", [c for c in Cause if c is not Cause.FIRST])
def test_retries_and_hedges_draw_the_others_do_not(cause: Cause) -> None:
    policy, state = made()
    assert extra(policy, sent(policy), cause)
    assert state.allowance.level(KEY, 2) == (1 if cause in (Cause.RETRY, Cause.HEDGE) else 2)


@pytest.mark.parametrize("cause", [c for c in Cause if c is not Cause.FIRST])
def test_an_empty_bucket_vetoes_only_those_that_draw(cause: Cause) -> None:
    policy, _ = made()
    x = sent(policy)
    assert drain(policy, x) == 2
    assert extra(policy, x, cause) is (cause not in (Cause.RETRY, Cause.HEDGE))
    assert x.why == ["no extra load left"], "said once"


def test_each_request_sent_there_first_earns() -> None:
    policy, _ = made()
    x = sent(policy)
    drain(policy, x)
    sent(policy)
    assert not extra(policy, x, Cause.HEDGE)
    sent(policy)
    assert extra(policy, x, Cause.HEDGE)


def test_it_is_the_first_targets_bucket_wherever_the_extra_goes() -> None:
    policy, state = made()
    x = sent(policy)
    assert extra(policy, x, Cause.HEDGE, B)
    assert state.allowance.level(KEY, 2) == 1
    assert state.allowance.level(("openai", B.model), 2) == 2


def test_what_never_went_is_given_back() -> None:
    policy, state = made()
    x = sent(policy)
    retry = Attempt(2, A, Cause.RETRY, 1.0)
    policy.enter(x, retry, 1.0)
    policy.leave(x, retry, 1.0)
    assert state.allowance.level(KEY, 2) == 2
    policy.enter(x, retry, 1.0)
    retry.result = Result.LOST_HEDGE
    policy.leave(x, retry, 1.0)
    assert state.allowance.level(KEY, 2) == 1, "what went is spent, however it ended"


def test_a_fallback_that_never_went_gives_nothing_back() -> None:
    policy, state = made()
    x = sent(policy)
    drain(policy, x)
    fallback = Attempt(2, B, Cause.FALLBACK, 1.0)
    policy.enter(x, fallback, 1.0)
    policy.leave(x, fallback, 1.0)
    assert state.allowance.level(KEY, 2) == 0


def test_a_pin_may_forbid_extras_without_touching_the_others() -> None:
    policy, _ = made()
    assert drain(policy, sent(policy, "off")) == 0
    assert drain(policy, sent(policy)) == 2


def test_the_level_survives_a_swap_and_the_new_burst_counts_at_once() -> None:
    policy, state = made()
    x = sent(policy)
    assert extra(policy, x, Cause.RETRY)
    after, _ = made(PINS.replace("burst: 2", "burst: 5"), state)
    assert drain(after, x) == 1


def test_what_is_no_call_of_a_model_earns_nothing() -> None:
    policy, state = made()
    drain(policy, sent(policy))
    for _ in range(4):
        sent(policy, generates=False)
    assert state.allowance.level(KEY, 2) == 0


def test_invented_names_share_one_bucket() -> None:
    policy, state = made()
    drain(policy, sent(policy, target=Target("openai", "made-up-1")))
    assert drain(policy, sent(policy, target=Target("openai", "made-up-2"))) == 0
    assert state.allowance.level(KEY, 2) == 2
