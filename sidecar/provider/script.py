"""Fault scripts: rules that give faults to requests which bear none of their own.

Decides which rule a request falls under and how often a rule may be used. A
script is a list of `{"match": {"path": GLOB, "model": GLOB}, "fault": TEXT, "times": N}`;
`match` and `times` may be absent. The first match wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from sidecar.provider import faults
from sidecar.provider.faults import Fault, FaultError


class ScriptError(ValueError):
    """A script that can't be used; the message says which rule and why."""


@dataclass(slots=True)
class Rule:
    """One line of a script. `left` is how often it may still be used, None for ever."""

    path: str | None
    model: str | None
    text: str
    fault: Fault
    left: int | None

    def matches(self, path: str, model: str) -> bool:
        """Whether a request for `path` and `model` falls under this rule."""
        if self.left == 0:
            return False
        if self.path is not None and not fnmatchcase(path, self.path):
            return False
        return self.model is None or fnmatchcase(model, self.model)


class Script:
    """The rules in force, with their counters."""

    __slots__ = ("rules",)

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = list(rules)

    def take(self, path: str, model: str) -> Fault | None:
        """The fault of the first rule that matches, counted as used; None if there is none."""
        for rule in self.rules:
            if rule.matches(path, model):
                if rule.left is not None:
                    rule.left -= 1
                return rule.fault
        return None


def parse(document: Any) -> Script:
    """A script from its JSON or YAML value. Raises ScriptError."""
    if document is None:
        return Script()
    if not isinstance(document, list):
        raise ScriptError("a script is a list of rules")
    return Script([_rule(number, entry) for number, entry in enumerate(document, 1)])


def load(path: Path) -> Script:
    """A script from a YAML or JSON file. Raises ScriptError and OSError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ScriptError(f"{path}: {error}") from error
    return parse(document)


def _rule(number: int, entry: Any) -> Rule:
    where = f"rule {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("fault"), str):
        raise ScriptError(f"{where}: needs a `fault` text")
    if unknown := entry.keys() - {"match", "fault", "times"}:
        raise ScriptError(f"{where}: unknown keys {sorted(unknown)}")
    match = entry.get("match") or {}
    if not isinstance(match, dict) or match.keys() - {"path", "model"}:
        raise ScriptError(f"{where}: `match` takes `path` and `model`")
    times = entry.get("times")
    if times is not None and (not isinstance(times, int) or times < 0):
        raise ScriptError(f"{where}: `times` is a whole number")
    try:
        fault = faults.parse(entry["fault"])
    except FaultError as error:
        raise ScriptError(f"{where}: {error}") from error
    return Rule(match.get("path"), match.get("model"), entry["fault"], fault, times)
