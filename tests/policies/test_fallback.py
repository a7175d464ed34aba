from __future__ import annotations

import pytest

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Fault, Target
from sidecar.policies.fallback import ELSEWHERE, Fallback
from sidecar.state.credentials import Credentials

A, B, C = Target("openai", "a"), Target("openai", "b"), Target("elsewhere", "c")


def after(fault: Fault, tried: list[Target], *, injects: bool = False) -> Target | None:
    """Where a request with the targets A, B, C goes next, once the last of `tried` has failed."""
    credentials = Credentials()
    if injects:
        credentials.put("openai", "sk-ours")
    attempts = [Attempt(n, target, Cause.FIRST, 0.0, fault=fault) for n, target in enumerate(tried, 1)]
    x = Exchange("r", Ask("openai"), 0.0, targets=(A, B, C), attempts=attempts)
    proposal = Fallback(credentials).react(x, attempts[-1], 1.0)
    assert proposal is None or (proposal.cause is Cause.FALLBACK and proposal.not_before is None)
    return proposal.target if proposal is not None else None


@pytest.mark.parametrize("fault", sorted(ELSEWHERE - {Fault.REFUSED}))
def test_the_next_untried_target_in_order(fault: Fault) -> None:
    assert after(fault, [A]) == B
    assert after(fault, [A, A, B]) == C
    assert after(fault, [A, B, C]) is None


@pytest.mark.parametrize("fault", sorted(set(Fault) - ELSEWHERE))
def test_no_other_target_would_do_better(fault: Fault) -> None:
    assert after(fault, [A]) is None


def test_our_own_credential_refused_leads_to_another_provider() -> None:
    assert after(Fault.REFUSED, [A], injects=True) == C
    assert after(Fault.REFUSED, [A], injects=False) is None, "the caller's credential is the caller's business"


def test_a_slow_attempt_leads_on_while_it_still_runs_nowhere() -> None:
    running = Attempt(1, A, Cause.FIRST, 0.0)
    x = Exchange("r", Ask("openai"), 0.0, targets=(A, B), attempts=[running])
    assert Fallback(Credentials()).react(x, running, 1.0) is None
