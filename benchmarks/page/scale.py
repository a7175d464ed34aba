"""From values to places on an axis, and which ticks it gets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.summary import number

Kind = Literal["linear", "log", "percentile"]
TINY = 1e-9  # nothing is measured as finely
LOG_FROM = 20.0
_PERCENTILES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` lie between the places `start` and `end`; those beyond lie at the nearer end.

    "percentile" takes shares below 1, and gives each further nine the same room.
    """

    kind: Kind
    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, kind: Kind, values: Iterable[float], start: float, end: float) -> Scale:
        """Wide enough for these values, between round numbers; a linear one begins at zero at the latest."""
        known = [value for value in values if shows(kind, value)]
        if not known:
            known = [0.5] if kind == "percentile" else [1.0]
        low, high = min(known), max(known)
        if kind == "percentile":
            return cls(kind, low, high if high - low > TINY else low + (1 - low) / 2, start, end)
        if kind == "log":
            low, high = _round_below(low), _round_above(high)
            return cls(kind, low, high if high > low else low * 10, start, end)
        low, high = min(0.0, low), max(0.0, high)
        step = _step(high - low if high - low > TINY else 1.0, 5)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(kind, low, high if high > low else step, start, end)

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high, here = (self._even(v) for v in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.start + (here - low) / (high - low) * (self.end - self.start)

    def ticks(self, room: float) -> list[tuple[float, str]]:
        """Values and words for them, of which each has `room`, in the unit of places."""
        most = max(2, int(abs(self.end - self.start) / room))
        if self.kind == "percentile":
            found: Sequence[float] = [p for p in _PERCENTILES if self.low <= p <= self.high]
            return [(p, f"{round(p * 100, 6):g}") for p in _thinned(found, most)]
        if self.kind == "linear":
            step = _step(self.high - self.low, most - 1)
            count = math.floor((self.high - self.low) / step + 1e-9)
            first = math.ceil(self.low / step - 1e-9)
            return [(n * step, _tick(n * step)) for n in range(first, first + count + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = []
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [digit * 10.0**decade for decade in decades for digit in digits]
            found = [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]
            if len(found) <= most:
                break
        return [(value, _tick(value)) for value in _thinned(found, most)]

    def _even(self, value: float) -> float:
        """Values that look equally far apart are so in it."""
        if self.kind == "log":
            return math.log10(value)
        return -math.log10(1 - value) if self.kind == "percentile" else value


def shows(kind: Kind, value: float) -> bool:
    """Whether an axis of this kind has a place for it: none for what is no number, or not above zero on a log axis."""
    if not math.isfinite(value):
        return False
    return {"linear": True, "log": value > TINY, "percentile": 0 <= value < 1 - TINY}[kind]


def fitting(values: Iterable[float], log_from: float = LOG_FROM) -> Kind:
    """A log axis for what is above zero, the greatest at least `log_from` times the least; else a linear one.

    One in four may be below: noise in what is about nothing. Those have no place on the axis.
    """
    known = [value for value in values if math.isfinite(value)]
    above = [value for value in known if value > 0]
    return "log" if above and len(above) * 4 >= len(known) * 3 and max(above) / min(above) >= log_from else "linear"


def _step(length: float, most: int) -> float:
    """A round step of which about `most` make the length, not more."""
    least = length / max(1, most)
    decade = 10.0 ** math.floor(math.log10(least))
    return next(step * decade for step in _STEPS if step * decade >= least * 0.999)


def _round_below(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return max(step * decade for step in _STEPS if step * decade <= value * 1.001)


def _round_above(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return min(step * decade for step in _STEPS if step * decade >= value * 0.999)


def _thinned(found: Sequence[float], most: int) -> Sequence[float]:
    """Every second, third ... so that there are not too many."""
    return found[:: math.ceil(len(found) / most)] if found else found


def _tick(value: float) -> str:
    """Without the zeros that `number` keeps."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text
