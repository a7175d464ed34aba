"""How much load retries and hedges may still add: a token bucket for each target.

A bucket is full until something is taken from it, so only those that were drawn on are kept. Levels are whole
billionths of an attempt, since twenty earnings of 0.05 must make exactly one.

Ratio and burst come with each call: they may differ from pin to pin and change with a swap. A smaller burst counts for
whoever has it: it caps what that one may take, and its earnings never lower what others have earned.
"""

from __future__ import annotations

from cachetools import LRUCache

MOST_BUCKETS = 4096
"""Targets that were drawn on. The least lately used goes first; it starts full again."""

_ONE = 1_000_000_000

Key = tuple[str, str | None]
"""Provider, and the model's catalogued id."""


class Allowance:
    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: LRUCache[Key, int] = LRUCache(MOST_BUCKETS)

    def earn(self, key: Key, ratio: float, burst: int) -> None:
        """A request is sent there first."""
        if key in self._levels:
            self._add(key, round(ratio * _ONE), burst)

    def take(self, key: Key, burst: int) -> bool:
        """An extra attempt wants to go. False: there isn't one left."""
        level = min(self._levels.get(key, burst * _ONE), burst * _ONE)
        if level < _ONE:
            return False
        self._levels[key] = level - _ONE
        return True

    def give_back(self, key: Key, burst: int) -> None:
        """It did not go after all."""
        self._add(key, _ONE, burst)

    def level(self, key: Key, burst: int) -> float:
        """Extra attempts left."""
        return min(self._levels.get(key, burst * _ONE), burst * _ONE) / _ONE

    def _add(self, key: Key, amount: int, burst: int) -> None:
        level = self._levels.get(key)
        if level is not None and level < burst * _ONE:
            self._levels[key] = min(level + amount, burst * _ONE)
