"""What was measured, as data: every figure with all its repeated values, so that spread and ratios can be made of it.

A ratio is made pair by pair: repetition i of one system over repetition i of another, which ran next to it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

YARDSTICK = "passthrough"


@dataclass(slots=True)
class Figure:
    """One thing measured of one system in one case: a value for each repetition, in order.

    `curve` holds (x, y) points where one number doesn't tell it: a distribution, a timeline.
    """

    measure: str  # what: "cpu_per_request"
    system: str  # of whom: "model-sidecar", "passthrough", "nginx"
    case: str  # under which conditions: "1 kB body", "200/s"; "" if there is only one
    unit: str  # "µs", "ms", "MiB", "1/s", "s"
    values: list[float]
    note: str = ""
    curve: list[tuple[float, float]] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values) if self.values else math.nan

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest of the repetitions."""
        return (min(self.values), max(self.values)) if self.values else (math.nan, math.nan)


@dataclass(slots=True)
class System:
    """Who took part: `skipped` says why not, in words, where it didn't."""

    name: str
    version: str = ""
    setup: str = ""  # how it was configured, in a sentence or two
    skipped: str = ""


@dataclass(slots=True)
class Report:
    """A whole run. `machine` and `versions` are free-form facts (see `machine.py`)."""

    commit: str
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    systems: list[System] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    seconds: float = 0.0
    full: bool = False

    def find(self, measure: str, system: str, case: str = "") -> Figure | None:
        wanted = (measure, system, case)
        return next((f for f in self.figures if (f.measure, f.system, f.case) == wanted), None)

    def ratio(self, figure: Figure, to: str = YARDSTICK) -> Figure | None:
        """`figure` over the same of another system, pair by pair; None where there is nothing to compare with."""
        other = self.find(figure.measure, to, figure.case)
        if other is None or figure.system == to:
            return None
        values = [a / b for a, b in zip(figure.values, other.values, strict=False) if b]
        return Figure(figure.measure, figure.system, figure.case, f"× {to}", values) if values else None

    def write(self, path: Path) -> None:
        """As JSON, with medians and ratios beside the values; null stands for what is no number."""
        told: dict[str, Any] = {"schema": 1, **asdict(self)}
        for figure, row in zip(self.figures, told["figures"], strict=True):
            ratio = self.ratio(figure)
            row["values"] = [_told(value) for value in figure.values]
            row["curve"] = [[_told(x), _told(y)] for x, y in figure.curve]
            row["median"] = _told(figure.median)
            row["ratio"] = None if ratio is None else _told(ratio.median)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
        fresh.replace(path)  # a run writes it after each measure, and may be broken off while it does

    @classmethod
    def read(cls, path: Path) -> Report:
        told = json.loads(path.read_text())
        told.pop("schema")
        systems = [System(**s) for s in told.pop("systems")]
        figures = []
        for row in told.pop("figures"):
            values = [math.nan if value is None else value for value in row["values"]]
            curve = [(math.nan if x is None else x, math.nan if y is None else y) for x, y in row["curve"]]
            made = {k: v for k, v in row.items() if k not in {"median", "ratio"}}
            figures.append(Figure(**made | {"values": values, "curve": curve}))
        return cls(**told, systems=systems, figures=figures)


def _told(value: float) -> float | None:
    return value if math.isfinite(value) else None


def percentile(values: Sequence[float] | Iterable[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, by nearest rank; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
