"""The one shape that every policy has."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.facts import Attempt, Cause, Exchange, Outcome, Target
from sidecar.errors import Refusal


@dataclass(frozen=True, slots=True)
class Next:
    """A proposal to launch one more attempt. The race decides whether there is room for it."""

    target: Target
    cause: Cause


class Policy:
    """One decision about a request, at up to three moments.

    Hooks are synchronous, get the time as `now` (monotonic seconds), and touch nothing but `x` and the state that the
    policy was built with. A hook that a policy doesn't override is never called.
    """

    __slots__ = ()

    late = False
    """True if `react` may answer a failure that comes after the headers of an answer: then events are held back."""

    def admit(self, x: Exchange, now: float) -> Refusal | None:
        """Nothing is sent yet: write your fields on `x`, or stop the request."""

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:
        """`attempt` failed before anything was committed: propose what to launch instead, if anything."""

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:
        """It is over, however it ended. Called exactly once for each policy that the request passed."""
