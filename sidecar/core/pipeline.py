"""The loops that run the policies: admit down the order, each attempt in and out, settle back up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sidecar.core.facts import Attempt, Exchange, Outcome, Veto
from sidecar.core.policy import Next, Policy, Verdict


def _own(policy: Policy, hook: str) -> bool:
    return getattr(type(policy), hook) is not getattr(Policy, hook)


class Pipeline:
    """Bound hooks of the policies that are switched on, picked once when a snapshot is built.

    Each with its policy's place in the order; a hook that a policy doesn't have isn't in its list.
    """

    __slots__ = ("_admit", "_all", "_enter", "_leave", "_react", "_settle", "policies")

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = tuple(policies)
        self._all = len(self.policies)
        down = tuple(enumerate(self.policies))
        up = down[::-1]
        self._admit = tuple((i, p.admit) for i, p in down if _own(p, "admit"))
        self._react = tuple(p.react for p in self.policies if _own(p, "react"))
        self._enter = tuple((i, p.enter) for i, p in down if _own(p, "enter"))
        self._leave = tuple((i, p.leave) for i, p in up if _own(p, "leave"))
        self._settle = tuple((i, p.settle) for i, p in up if _own(p, "settle"))

    def admit(self, x: Exchange, now: float) -> Verdict | None:
        """Run the request down the order; the policy that stops it has nothing to settle."""
        for depth, hook in self._admit:
            x.depth = depth
            verdict = hook(x, now)
            if verdict is not None:
                return verdict
        x.depth = self._all
        return None

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Iterator[Next]:
        """The proposals, lazily: the order of the policies is the order of preference."""
        if attempt.result is None:
            x.slow_at = now
        for hook in self._react:
            proposal = hook(x, attempt, now)
            if proposal is not None:
                yield proposal

    def enter(self, x: Exchange, attempt: Attempt, now: float) -> bool:
        """Let the attempt in at every policy, or at none."""
        words = len(x.why)
        for place, enter in self._enter:
            if not enter(x, attempt, now):
                by = type(self.policies[place]).__name__.lower()
                x.vetoes.append(Veto(attempt.number, attempt.cause, by, tuple(x.why[words:])))
                for entered, leave in self._leave:
                    if entered < place:
                        leave(x, attempt, now)
                return False
        return True

    def leave(self, x: Exchange, attempt: Attempt, now: float) -> None:
        """The attempt is over: tell every policy that let it in, last first."""
        for _, leave in self._leave:
            leave(x, attempt, now)

    def bound(self, x: Exchange) -> Bound:
        """The hooks of its attempts, for the race of one request."""
        return Bound(self, x)

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:
        """Tell the policies that the request passed, last first."""
        for depth, hook in self._settle:
            if depth < x.depth:
                hook(x, outcome, now)


@dataclass(slots=True, eq=False)
class Bound:
    """`race.Hooks` of one request."""

    pipeline: Pipeline
    x: Exchange

    def react(self, attempt: Attempt, now: float) -> Iterator[Next]:
        return self.pipeline.react(self.x, attempt, now)

    def enter(self, attempt: Attempt, now: float) -> bool:
        return self.pipeline.enter(self.x, attempt, now)

    def leave(self, attempt: Attempt, now: float) -> None:
        self.pipeline.leave(self.x, attempt, now)
