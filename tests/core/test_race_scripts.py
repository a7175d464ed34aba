"""The race, told as scripts: what is reported, `----`, what the race says. Rewrite them by RACE_REWRITE=1.

`race targets=a,b attempts=3 deadline=120 slow=0.2 propose=overload:retry+2,slow:hedge@c veto=retry` stands for policies
that propose, in this order: after an overload a retry in 2 seconds, beside a slow attempt a hedge at c (once); all
retries are vetoed. Without `@` a fallback goes to the next untried target, anything else to the same one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.facts import Attempt, Cause, Fault, Target
from sidecar.core.policy import Next
from sidecar.core.race import Abort, Command, Commit, Finish, IllegalMoveError, Launch, Race

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
RULE = re.compile(r"(?P<when>\w+):(?P<cause>\w+)(?:@(?P<target>\w+))?(?:\+(?P<wait>[\d.]+))?")


class Rules:
    """The policies of a script: `race.Hooks`."""

    def __init__(self, rules: str, vetoes: str, targets: list[Target]) -> None:
        self.rules = [m for rule in rules.split(",") if (m := RULE.fullmatch(rule))]
        self.vetoes = set(vetoes.split(","))
        self.targets = targets
        self.attempts: list[Attempt] = []
        self.said: list[str] = []

    def react(self, attempt: Attempt, now: float) -> Iterator[Next]:
        when = "slow" if attempt.result is None else str(attempt.fault)
        for rule in self.rules:
            cause = Cause(rule["cause"])
            if rule["when"] != when or (cause is Cause.HEDGE and any(a.cause is cause for a in self.attempts)):
                continue
            tried = {a.target for a in self.attempts}
            untried = [t for t in self.targets if t not in tried]
            if rule["target"]:
                target = Target(rule["target"], "m")
            elif cause is not Cause.FALLBACK:
                target = attempt.target
            elif untried:
                target = untried[0]
            else:
                continue
            yield Next(target, cause, now + float(rule["wait"]) if rule["wait"] else None)

    def enter(self, attempt: Attempt, now: float) -> bool:
        if attempt.cause in self.vetoes:
            self.said.append(f"> veto {attempt.cause}")
            return False
        return True

    def leave(self, attempt: Attempt, now: float) -> None:
        if attempt.result is None:
            self.said.append(f"> never launched: {attempt.number} {attempt.target.provider} {attempt.cause}")


class Player:
    """Runs one script."""

    def __init__(self) -> None:
        self.race: Race | None = None
        self.rules = Rules("", "", [])

    def play(self, line: str) -> list[str]:
        verb, *words = line.split()
        named = dict(word.split("=") for word in words if "=" in word)
        now = float(named.get("t", 0))
        plain = [word for word in words if "=" not in word]
        if verb == "race":
            return self.create(named)
        race = self.race
        assert race is not None
        match verb:
            case "wake":
                return ["> wake at never" if race.wake_at is None else f"> wake at {race.wake_at:g}"]
            case "holding":
                return [f"> holding {'yes' if race.holding else 'no'}"]
            case "share":
                return [f"> give up at {race.give_up_at(now):g}"]
            case "start" | "gone" | "tick":
                return self.told(getattr(race, verb)(now))
        attempt = race.attempts[int(plain[0]) - 1]
        if "status" in named:
            attempt.status = int(named["status"])
        try:
            if verb == "failed":
                return self.told(race.failed(attempt, Fault(plain[1]), now))
            return self.told(getattr(race, verb)(attempt, now))
        except IllegalMoveError as exc:
            return [f"! {exc}"]

    def create(self, named: dict[str, str]) -> list[str]:
        targets = [Target(name, "m") for name in named["targets"].split(",")]
        self.rules = Rules(named.get("propose", ""), named.get("veto", ""), targets)
        self.race = Race(
            targets,
            self.rules,
            attempts=self.rules.attempts,
            max_attempts=int(named.get("attempts", 3)),
            deadline=float(named.get("deadline", 120)),
            slow_after_s=float(named["slow"]) if "slow" in named else None,
            late=named.get("late") != "no",
        )
        return []

    def told(self, commands: list[Command]) -> list[str]:
        lines, self.rules.said = self.rules.said, []
        for command in commands:
            match command:
                case Launch(a):
                    lines.append(f"> launch {a.number} {a.target.provider} {a.cause}")
                case Commit(a):
                    lines.append(f"> commit {a.number}")
                case Abort(a):
                    lines.append(f"> abort {a.number} ({a.result})")
                case Finish(show):
                    lines.append("> finish" + (f", show {show.number}" if show else ""))
        return lines


def blocks(text: str) -> list[tuple[str, list[str], list[str]]]:
    """(title, commands, expected) of each block; blocks are separated by blank lines."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        title = lines.pop(0)
        cut = lines.index("----")
        found.append((title, lines[:cut], lines[cut + 1 :]))
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script(path: Path) -> None:
    written = []
    for title, commands, expected in blocks(path.read_text()):
        player = Player()
        got: list[str] = []
        for line in commands:
            got += player.play(line)
        written.append("\n".join([title, *commands, "----", *got]))
        if not os.environ.get("RACE_REWRITE"):
            assert got == expected, title
    if os.environ.get("RACE_REWRITE"):
        path.write_text("\n\n".join(written) + "\n")


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 4
