"""The race, told as scripts: what is reported, `----`, what the race says. Rewrite them by RACE_REWRITE=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.core.facts import Attempt, Cause, Fault, Target
from sidecar.core.policy import Next
from sidecar.core.race import Abort, Command, Commit, Finish, IllegalMoveError, Launch, Race

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


class Player:
    """Runs one script: `race targets=a,b attempts=3 deadline=9 propose=stale:resend`, then what happens."""

    def __init__(self) -> None:
        self.race: Race | None = None

    def play(self, line: str) -> list[str]:
        verb, *words = line.split()
        named = dict(word.split("=") for word in words if "=" in word)
        now = float(named.get("t", 0))
        plain = [word for word in words if "=" not in word]
        if verb == "race":
            return self.create(named)
        assert self.race is not None
        if verb in ("start", "gone", "tick", "expired"):
            return self.said(getattr(self.race, verb)(now))
        attempt = self.race.attempts[int(plain[0]) - 1]
        if "status" in named:
            attempt.status = int(named["status"])
        try:
            if verb == "failed":
                return self.said(self.race.failed(attempt, Fault(plain[1]), now))
            return self.said(getattr(self.race, verb)(attempt, now))
        except IllegalMoveError as exc:
            return [f"! {exc}"]

    def create(self, named: dict[str, str]) -> list[str]:
        proposals = dict(pair.split(":") for pair in named.get("propose", "").split(",") if pair)

        def propose(attempt: Attempt, now: float) -> Next | None:
            cause = proposals.get(str(attempt.fault))
            return Next(attempt.target, Cause(cause)) if cause else None

        self.race = Race(
            Target(named["target"], named["target"]),
            propose=propose,
            max_attempts=int(named.get("attempts", 3)),
            deadline=float(named.get("deadline", 120)),
            late=named.get("late") == "yes",
        )
        return []

    def said(self, commands: list[Command]) -> list[str]:
        lines = []
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
    assert SCRIPTS
