"""How long answers of each model take: live quantiles of the last ten minutes, for hedges.

Two kinds a model: `first`, the time to the first useful event of a stream; `total`, the time of a whole answer. Of too
few samples nothing is said. Which times are fed, and what follows from a quantile, is `policies/hedge`'s business.
"""

from __future__ import annotations

import math
from array import array
from typing import Literal

from cachetools import LRUCache

Kind = Literal["first", "total"]

KEPT = 512
"""Samples of one kind of one model; at more than one a second, they span less than the ten minutes."""

WINDOW_S = 600.0
ENOUGH_SAMPLES = 50
MOST_KEYS = 512
"""Models times kinds; 8 KiB each. The least lately used goes first."""

REFRESH_SAMPLES = 32
REFRESH_S = 1.0
"""The sorted view is made anew after that many samples or that long, not for every request."""


class _Ring:
    """The newest samples of one key, and a sorted view of those that still count."""

    __slots__ = ("_at", "_next", "_seconds", "_sorted", "_sorted_at", "_unsorted")

    def __init__(self) -> None:
        self._at = array("d")
        self._seconds = array("d")
        self._next = 0
        self._sorted: list[float] = []
        self._sorted_at = -math.inf
        self._unsorted = 0  # samples since

    def add(self, seconds: float, now: float) -> None:
        if len(self._at) < KEPT:
            self._at.append(now)
            self._seconds.append(seconds)
        else:
            self._at[self._next] = now
            self._seconds[self._next] = seconds
            self._next = (self._next + 1) % KEPT
        self._unsorted += 1

    def live(self, now: float) -> list[float]:
        """The samples that count, smallest first, at most a little stale; empty if they are too few."""
        if len(self._at) < ENOUGH_SAMPLES:
            return []
        too_few = len(self._sorted) < ENOUGH_SAMPLES and self._unsorted > 0
        if too_few or self._unsorted >= REFRESH_SAMPLES or now - self._sorted_at >= REFRESH_S:
            since = now - WINDOW_S
            if min(self._at) > since:
                self._sorted = sorted(self._seconds)
            else:
                self._sorted = sorted(s for at, s in zip(self._at, self._seconds, strict=True) if at > since)
            self._sorted_at = now
            self._unsorted = 0
        return self._sorted if len(self._sorted) >= ENOUGH_SAMPLES else []


class Quantiles:
    __slots__ = ("_rings",)

    def __init__(self) -> None:
        self._rings: LRUCache[tuple[str, Kind], _Ring] = LRUCache(MOST_KEYS)

    def observe(self, model: str, kind: Kind, seconds: float, now: float) -> None:
        """One answer of a catalogued model."""
        ring = self._rings.get((model, kind))
        if ring is None:
            ring = self._rings[model, kind] = _Ring()
        ring.add(seconds, now)

    def quantile(self, model: str, kind: Kind, q: float, now: float) -> float | None:
        """Seconds within which that share (0 < q < 1) of the answers came: the nearest rank. None: too few samples."""
        ring = self._rings.get((model, kind))
        live = ring.live(now) if ring is not None else []
        # 0.95 * 100 is a hair above 95: without the rounding the rank would be 96.
        return live[math.ceil(round(q * len(live), 9)) - 1] if live else None

    def median(self, model: str, kind: Kind, now: float) -> float | None:
        return self.quantile(model, kind, 0.5, now)
