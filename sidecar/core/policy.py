"""The one shape that every policy has."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core.answers import Flight, Stored
from sidecar.core.facts import Attempt, Cause, Exchange, Outcome, Target
from sidecar.errors import Refusal


class Next(NamedTuple):
    """A proposal to launch one more attempt, now or at `not_before`. The race decides whether there is room for it."""

    target: Target
    cause: Cause
    not_before: float | None = None


class Hit(NamedTuple):
    """Stop here: the answer is at hand. `entry` is what state/answers keeps; the runtime sends it."""

    entry: Stored


class Follow(NamedTuple):
    """Stop here: the same request is under way already. `flight` is what state/flights knows of it."""

    flight: Flight


Verdict = Refusal | Hit | Follow


class Policy:
    """One decision about a request: when it is admitted, at each of its attempts, and when it is over.

    Hooks are synchronous, get the time as `now` (monotonic seconds), and touch nothing but `x` and the state that the
    policy was built with. A hook that a policy doesn't override is never called.
    """

    __slots__ = ()

    def admit(self, x: Exchange, now: float) -> Verdict | None:
        """Nothing is sent yet: write your fields on `x`, or stop the request."""

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:
        """`attempt` failed before anything was committed, or (its `result` is None) is slow: propose what to launch.

        Another policy's proposal may be preferred, and yours refused: change nothing that depends on its launch.
        """

    def enter(self, x: Exchange, attempt: Attempt, now: float) -> bool:  # noqa: ARG002 - what every policy does by default
        """`attempt` is about to be launched (at `now`, which may lie ahead): take what it needs. False: it may not be.

        The first attempt of a request must not be refused here: that is what `admit` is for.
        """
        return True

    def leave(self, x: Exchange, attempt: Attempt, now: float) -> None:
        """An attempt that entered is over, exactly once. Its `result` is None if it was never launched after all."""

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:
        """It is over, however it ended. Called exactly once for each policy that the request passed."""
