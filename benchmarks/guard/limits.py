"""The limits, as written in limits.toml: read, compared, and the exact counts written anew.

`update` changes numbers and leaves every comment where it is. It never touches `[ratios]`: those are decided by people.
"""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FILE = Path(__file__).with_name("limits.toml")
PACKAGES = ("aiohttp", "uvloop")
_SECTION = re.compile(r"\[(?P<name>[\w.]+)\]\s*(#.*)?$")
_VALUE = re.compile(r"(?P<key>\w+)(?P<between>\s*=\s*)(?P<value>\"[^\"]*\"|[^\s#]+)(?P<rest>.*)$", re.DOTALL)

Counts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Limits:
    """`ratios` by case; `counts` by case and name; `tolerance` by name, as a share; `written` for what they hold."""

    ratios: dict[str, float]
    counts: dict[str, dict[str, float]]
    tolerance: dict[str, float]
    written: dict[str, str]

    def of(self, case: str, name: str) -> float:
        """Up to where a count may go."""
        return self.counts[case][name] * (1 + self.tolerance.get(name, 0.0))


@dataclass(frozen=True, slots=True)
class Difference:
    """A count that isn't what is written."""

    case: str
    name: str
    measured: float
    limit: float

    @property
    def rose(self) -> bool:
        return self.measured > self.limit


def read(path: Path = FILE) -> Limits:
    """Raises OSError, tomllib.TOMLDecodeError, KeyError (the section that is missing)."""
    told = tomllib.loads(path.read_text())
    return Limits(told["ratios"], told["counts"], told["tolerance"], told["written"])


def compare(counts: Counts, limits: Limits) -> list[Difference]:
    """What rose over its limit, or fell by more than its tolerance. A count without a limit has to be written first."""
    found = []
    for case, counted in counts.items():
        for name, measured in counted.items():
            written = limits.counts.get(case, {}).get(name)
            if written is None:
                found.append(Difference(case, name, measured, 0.0))
            elif measured > limits.of(case, name) or measured < written * (1 - limits.tolerance.get(name, 0.0)):
                found.append(Difference(case, name, measured, written))
    return found


def here() -> dict[str, str]:
    """What counts depend on: the interpreter's minor version and the packages that do the work."""
    told = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        try:
            told[package] = version(package)
        except PackageNotFoundError:
            told[package] = "none"
    return told


def written_elsewhere(limits: Limits, found: Mapping[str, str]) -> list[str]:
    """In words, what differs between here and where the counts were written."""
    return [
        f"{name} {found.get(name, 'none')} instead of {value}"
        for name, value in limits.written.items()
        if found.get(name) != value
    ]


def updated(text: str, counts: Counts, found: Mapping[str, str]) -> str:
    """The file's text with these counts, and with what they were counted with. What wasn't counted stays as it is."""
    values = {f"counts.{case}": {name: number(value) for name, value in of.items()} for case, of in counts.items()}
    values["written"] = {name: f'"{value}"' for name, value in found.items()}
    lines: list[str] = []
    left: dict[str, str] = {}

    def add_missing() -> None:
        blank = 0
        while lines and not lines[-1 - blank].strip() and blank < len(lines) - 1:
            blank += 1
        lines[len(lines) - blank : len(lines) - blank] = [f"{name} = {value}\n" for name, value in left.items()]
        left.clear()

    for line in text.splitlines(keepends=True):
        if section := _SECTION.match(line):
            add_missing()
            left = values.pop(section["name"], {})
        elif (value := _VALUE.match(line)) and value["key"] in left:
            line = _with(value, left.pop(value["key"]))  # noqa: PLW2901
        lines.append(line)
    add_missing()
    for section_name, missing in values.items():
        lines += ["\n", f"[{section_name}]\n", *(f"{name} = {value}\n" for name, value in missing.items())]
    return "".join(lines)


def _with(line: re.Match[str], value: str) -> str:
    """The line with this value; its comment stays in its column."""
    comment = line["rest"].lstrip(" ")
    spaces = len(line["rest"]) - len(comment) + len(line["value"]) - len(value)
    return f"{line['key']}{line['between']}{value}{' ' * max(spaces, 2) if comment.strip() else ''}{comment}"


def number(value: float) -> str:
    """As short as it can be said, to a hundredth."""
    return f"{round(value, 2):g}" if abs(value) < 100_000 else f"{value:.0f}"
