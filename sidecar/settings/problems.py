"""What is wrong with a file, said so that a person can mend it.

Decides: the one shape in which every error and warning about a settings or pin file is reported.
Does not decide: what is wrong, or whether a warning counts as a failure (`pins check --strict` does).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]
"""Where a value stands: mapping keys and list indexes from the top of the file."""

Severity = Literal["error", "warning"]

MAX_PROBLEMS = 100
MAX_COMPARED = 300
_PLAIN_PART = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of one file. `line` counts from 1 and is None where no line can be named; `path` is dotted."""

    file: str
    line: int | None
    path: str
    message: str
    fix: str
    severity: Severity = "error"

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"
        return f"{text} — fix: {self.fix}" if self.fix else text

    def as_dict(self) -> dict[str, str | int | None]:
        """The problem as plain data, for `--format json`."""
        return {
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "path": self.path,
            "message": self.message,
            "fix": self.fix,
        }


class ConfigError(Exception):
    """A file that cannot be used. `problems` holds every fault found, in file order, never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class UnreadableError(ConfigError):
    """The file's bytes could not be had at all."""


def dotted(path: Path) -> str:
    """A path as people write it: `pins.chat.core.fallback[0]`. Odd keys are quoted, so the text is always ASCII."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        shown = part if _PLAIN_PART.fullmatch(part) and len(part) <= 256 else json.dumps(part[:80])
        text += f".{shown}" if text else shown
    return text


def shown(value: object) -> str:
    """A value as it may be shown in a message: short, ASCII, containers by kind only."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = json.dumps(value) if isinstance(value, str | bool) else ascii(value)
    return text if len(text) <= 60 else f"{text[:56]}..."


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words most like `word`, best first; none if nothing is near.

    Long words are not compared, and of many known words only those that begin alike: comparing costs 10 µs a word.
    """
    if len(word) > 256:
        return []
    words = [other for other in known if len(other) <= 256]
    if len(words) > MAX_COMPARED:
        words = [other for other in words if other[:3] == word[:3]][:MAX_COMPARED]
    return difflib.get_close_matches(word, words, n=count, cutoff=0.6)


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean …?` for a mistyped word, else `otherwise`."""
    near = nearest(word, known)
    return f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else otherwise
