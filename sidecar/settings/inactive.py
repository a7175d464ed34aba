"""Sections that are accepted though their feature isn't built yet: listed, and each kind warned of once.

`KINDS` shrinks as features are built; when it is empty this file goes.
"""

from __future__ import annotations

from functools import cache

from sidecar.settings.problems import Path, dotted
from sidecar.settings.report import Report
from sidecar.settings.schema import PinFile, Section

KINDS = (
    "hedge",
    "cache",
    "budget",
    "breaker",
    "over_budget",
    "drill",
    "retry",
    "extra_load",
    "max_attempts",
    "fallback",
    "hold",
)


@cache
def _kinds(holder: type[Section]) -> tuple[str, ...]:
    return tuple(kind for kind in KINDS if hasattr(holder, kind))


def inactive_sections(report: Report, spec: PinFile) -> tuple[str, ...]:
    """Dotted paths of all such sections, in file order of models, pins and defaults."""
    found: list[str] = []
    first: dict[str, Path] = {}

    def look(holder: Section, path: Path) -> None:
        for kind in _kinds(type(holder)):
            if (value := getattr(holder, kind)) is not None and value != ():
                found.append(dotted((*path, kind)))
                first.setdefault(kind, (*path, kind))

    if spec.defaults is not None:
        look(spec.defaults, ("defaults",))
    for name, model in spec.models.items():
        look(model, ("models", name))
    for name, pin in spec.pins.items():
        look(pin, ("pins", name))
    for kind, path in first.items():
        said = f"`{kind}` is accepted but does nothing yet in this version"
        report.warn(path, said, "nothing, it is ready for later")
    return tuple(found)
