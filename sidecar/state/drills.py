"""When each fallback is drilled next, and what came of the last time.

Decided here: who is due when, over swaps of the pin file. Not decided here: what a drill sends (`dialects/pings.py`) or
what its answer means (`runtime/drill.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.core.facts import Target


class Drill(NamedTuple):
    """One fallback of one pin."""

    pin: str
    target: Target


@dataclass(frozen=True, slots=True)
class Drilled:
    """What came of it. `at` and `last_ok_at` in seconds of the epoch; `trouble`: a fault, or why nothing was sent."""

    ok: bool
    at: float
    status: int | None
    trouble: str | None
    latency_s: float
    last_ok_at: float | None = None


class Drills:
    """Only those of the pin file in use are kept."""

    __slots__ = ("_due_at", "_every_s", "_last")

    def __init__(self) -> None:
        self._every_s: dict[Drill, float] = {}
        self._due_at: dict[Drill, float] = {}
        self._last: dict[Drill, Drilled] = {}

    def plan(self, every_s: Mapping[Drill, float], start_s: Mapping[Drill, float], now: float) -> None:
        """Take a new pin file: how often each is drilled, and how long a new one waits for its first time.

        One that was planned before keeps its time, so that swaps neither put it off nor bring it on; at most it comes
        sooner, where `every` became shorter.
        """
        fresh = {drill: now + start_s[drill] for drill in every_s}
        self._due_at = {
            drill: min(self._due_at[drill], now + every) if drill in self._due_at else fresh[drill]
            for drill, every in every_s.items()
        }
        self._every_s = dict(every_s)
        self._last = {drill: last for drill, last in self._last.items() if drill in every_s}

    def next(self) -> tuple[float, Drill] | None:
        """The one that is due first, and when; None where nothing is drilled."""
        if not self._due_at:
            return None
        drill = min(self._due_at, key=self._due_at.__getitem__)
        return self._due_at[drill], drill

    def begin(self, drill: Drill, now: float) -> None:
        """It is drilled now; the next time comes after its `every`."""
        if drill in self._every_s:
            self._due_at[drill] = now + self._every_s[drill]

    def end(self, drill: Drill, done: Drilled) -> Drilled:
        """What came of it, with the last success filled in."""
        before = self._last.get(drill)
        last_ok_at = done.at if done.ok else before.last_ok_at if before is not None else None
        done = Drilled(done.ok, done.at, done.status, done.trouble, done.latency_s, last_ok_at)
        if drill in self._every_s:
            self._last[drill] = done
        return done

    def of(self, pin: str) -> dict[str, Drilled]:
        """The last results of a pin's fallbacks, by model id."""
        return {drill.target.model or "": last for drill, last in self._last.items() if drill.pin == pin}
