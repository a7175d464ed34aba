"""A pin file's text with another generation, and nothing else changed.

Decides: whether that one number can be found and replaced for sure. No I/O.
"""

from __future__ import annotations

import re

from sidecar.settings.problems import ConfigError
from sidecar.settings.strict import parse

_YAML = re.compile(r"^(?P<head>(?P<quote>[\"']?)generation(?P=quote)\s*:\s*)[+]?[0-9]+(?=\s|$)", re.MULTILINE)
_JSON = re.compile(r"(?P<head>\"generation\"\s*:\s*)[0-9]+(?![0-9.eE])")
_FLOW = re.compile(r"(?P<head>(?P<quote>[\"']?)\bgeneration\b(?P=quote)\s*:\s*)[+]?[0-9]+(?=\s*[,}\s])")


def renumbered(content: str, key: str, generation: int) -> str | None:
    """The file with that generation; None where the edit would not be this one alone. `key` tells JSON from YAML."""
    try:
        before = parse(content.encode(), key).data
    except ConfigError:
        return None
    if not isinstance(before, dict):
        return None
    for pattern in (_JSON,) if key.endswith(".json") else (_YAML, _FLOW):
        for match in pattern.finditer(content):
            edited = f"{content[: match.start()]}{match['head']}{generation}{content[match.end() :]}"
            if _is(edited, key, {**before, "generation": generation}):
                return edited
    return None


def _is(content: str, key: str, wanted: object) -> bool:
    try:
        found: object = parse(content.encode(), key).data
    except ConfigError:
        return False
    return found == wanted
