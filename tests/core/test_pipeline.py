"""Admit runs down the order and stops at a refusal; settle runs back up from where it stopped."""

from __future__ import annotations

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Outcome, Target
from sidecar.core.pipeline import Pipeline
from sidecar.core.policy import Next, Policy
from sidecar.errors import Code, Refusal

TARGET = Target("p", "m")
ATTEMPT = Attempt(1, TARGET, Cause.FIRST, 0.0)
OVER = Outcome((), None, None, 200)


class Told(Policy):
    """Writes down what it is asked."""

    def __init__(self, name: str, told: list[str], *, refuses: bool = False, proposes: bool = False) -> None:
        self.name, self.told, self.refuses, self.proposes = name, told, refuses, proposes

    def admit(self, x: Exchange, now: float) -> Refusal | None:
        self.told.append(f"admit {self.name}")
        return Refusal(Code.NO_TARGET, self.name) if self.refuses else None

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:
        self.told.append(f"react {self.name}")
        return Next(TARGET, Cause.RESEND) if self.proposes else None

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:
        self.told.append(f"settle {self.name}")


class Silent(Policy):
    """Overrides nothing, so it is never called."""


def made(told: list[str], **refuses: bool) -> tuple[Pipeline, Exchange]:
    policies = [Told(name, told, refuses=refuses.get(name, False)) for name in "abc"]
    return Pipeline([policies[0], Silent(), *policies[1:]]), Exchange("r", Ask("openai"), 0.0)


def test_all_the_way_down_and_back_up() -> None:
    told: list[str] = []
    pipeline, x = made(told)
    assert pipeline.admit(x, 0.0) is None
    pipeline.settle(x, OVER, 1.0)
    assert told == ["admit a", "admit b", "admit c", "settle c", "settle b", "settle a"]


def test_the_policy_that_refuses_has_nothing_to_settle() -> None:
    told: list[str] = []
    pipeline, x = made(told, b=True)
    refusal = pipeline.admit(x, 0.0)
    assert refusal is not None
    pipeline.settle(x, OVER, 1.0)
    assert told == ["admit a", "admit b", "settle a"]


def test_proposals_come_in_order_and_only_when_asked_for() -> None:
    told: list[str] = []
    pipeline = Pipeline([Told("a", told), Told("b", told, proposes=True), Told("c", told, proposes=True)])
    proposals = pipeline.react(Exchange("r", Ask("openai"), 0.0), ATTEMPT, 0.0)
    assert next(proposals) == Next(TARGET, Cause.RESEND)
    assert told == ["react a", "react b"]
    assert len(list(proposals)) == 1
    assert told == ["react a", "react b", "react c"]


class Gate(Policy):
    """Writes down who goes in and out, and may refuse."""

    def __init__(self, name: str, told: list[str], *, refuses: bool = False) -> None:
        self.name, self.told, self.refuses = name, told, refuses

    def enter(self, x: Exchange, attempt: Attempt, now: float) -> bool:
        self.told.append(f"enter {self.name} at {now:g}")
        return not self.refuses

    def leave(self, x: Exchange, attempt: Attempt, now: float) -> None:
        self.told.append(f"leave {self.name} at {now:g}")


class Counter(Policy):
    """Only looks at those that leave."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def leave(self, x: Exchange, attempt: Attempt, now: float) -> None:
        self.told.append("counted")


def test_an_attempt_enters_all_and_leaves_all_last_first() -> None:
    told: list[str] = []
    hooks = Pipeline([Gate("a", told), Silent(), Gate("b", told)]).bound(Exchange("r", Ask("openai"), 0.0))
    assert hooks.enter(ATTEMPT, 1.0)
    hooks.leave(ATTEMPT, 2.0)
    assert told == ["enter a at 1", "enter b at 1", "leave b at 2", "leave a at 2"]


def test_a_vetoed_attempt_leaves_only_where_it_had_entered() -> None:
    told: list[str] = []
    pipeline = Pipeline([Gate("a", told), Counter(told), Gate("b", told, refuses=True), Gate("c", told)])
    assert not pipeline.enter(Exchange("r", Ask("openai"), 0.0), ATTEMPT, 1.0)
    assert told == ["enter a at 1", "enter b at 1", "counted", "leave a at 1"]
