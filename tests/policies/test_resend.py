from __future__ import annotations

import pytest

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Fault, Target
from sidecar.policies.resend import Resend


@pytest.mark.parametrize("fault", list(Fault))
def test_only_a_dead_kept_connection_is_sent_again(fault: Fault) -> None:
    target = Target("openai", "m")
    attempt = Attempt(1, target, Cause.FIRST, 0.0, fault=fault)
    proposal = Resend().react(Exchange("r", Ask("openai"), 0.0), attempt, 1.0)
    if fault is Fault.STALE:
        assert proposal is not None
        assert (proposal.target, proposal.cause) == (target, Cause.RESEND)
    else:
        assert proposal is None
