"""The loops that run the policies: admit down the order, react in order until one proposes, settle back up."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.core.facts import Attempt, Exchange, Outcome
from sidecar.core.policy import Next, Policy
from sidecar.errors import Refusal


def _own(policy: Policy, hook: str) -> bool:
    return getattr(type(policy), hook) is not getattr(Policy, hook)


class Pipeline:
    """Bound hooks of the policies that are switched on, picked once when a snapshot is built."""

    __slots__ = ("_admit", "_all", "_react", "_settle", "late", "policies")

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = tuple(policies)
        self._all = len(self.policies)
        self._admit = tuple((i, p.admit) for i, p in enumerate(self.policies) if _own(p, "admit"))
        self._react = tuple(p.react for p in self.policies if _own(p, "react"))
        self._settle = tuple((i, p.settle) for i, p in reversed(list(enumerate(self.policies))) if _own(p, "settle"))
        self.late = any(p.late for p in self.policies)

    def admit(self, x: Exchange, now: float) -> Refusal | None:
        """Run the request down the order; the policy that stops it has nothing to settle."""
        for depth, hook in self._admit:
            x.depth = depth
            refusal = hook(x, now)
            if refusal is not None:
                return refusal
        x.depth = self._all
        return None

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:
        """The first proposal wins: the order of the policies is the order of preference."""
        for hook in self._react:
            proposal = hook(x, attempt, now)
            if proposal is not None:
                return proposal
        return None

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:
        """Tell the policies that the request passed, last first."""
        for depth, hook in self._settle:
            if depth < x.depth:
                hook(x, outcome, now)
