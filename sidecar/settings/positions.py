"""The line of each value in a JSON text, and the keys that stand twice. Asked only once something is wrong.

A scanner of its own, because the JSON that YAML parsers accept is not quite JSON (surrogate escapes, long keys).
It may take for granted that the text is valid JSON: the json module has read it before.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from sidecar.settings.problems import Path

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]|[^\s"{}\[\],:]+')


@dataclass(slots=True)
class Positions:
    """`lines`: path → line of its key (or of the list item), from 1. `duplicates`: (path, line) of each second key."""

    lines: dict[Path, int] = field(default_factory=dict)
    duplicates: list[tuple[Path, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Level:
    mapping: bool
    at: str | int | None = None  # the current key, None before one was read; or the current index


def json_positions(text: str) -> Positions:
    """Positions in a valid JSON text of reasonable depth."""
    found = Positions()
    line = 1
    stack: list[_Level] = []

    def mark() -> None:
        path = tuple(level.at for level in stack if level.at is not None)
        if path in found.lines and stack and stack[-1].mapping:
            found.duplicates.append((path, line))
        found.lines.setdefault(path, line)

    for match in _PIECE.finditer(text):
        piece = match[0]
        top = stack[-1] if stack else None
        if piece == "\n":
            line += 1
        elif piece in "}]":
            stack.pop()
        elif piece == ",":
            assert top is not None
            top.at = None if top.mapping else int(top.at or 0) + 1
        elif piece != ":":
            if top is not None and top.mapping and top.at is None:
                top.at = json.loads(piece)
                mark()
                continue
            if top is None or not top.mapping:
                mark()
            if piece in "{[":
                stack.append(_Level(piece == "{", None if piece == "{" else 0))
    return found
