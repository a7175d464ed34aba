"""Answers kept to be given again: bounded in bytes, the least recently used go first, each until its time is up.

Not decided here: which answers are kept (`policies/cache`), or under which key (`core/answers.entry_key`).
"""

from __future__ import annotations

from collections.abc import Callable

from cachetools import TLRUCache

from sidecar.core.answers import Stored

MAX_BYTES = 16 * 1024 * 1024
MAX_ENTRY_BYTES = 1024 * 1024
OVERHEAD_BYTES = 1280
"""Of an entry: its objects, its headers' tuples and strings, its places in the cache's own tables (measured)."""


def entry_bytes(stored: Stored) -> int:
    """What an entry counts for."""
    return OVERHEAD_BYTES + len(stored.body) + sum(len(name) + len(value) + 128 for name, value in stored.headers)


class _Entries(TLRUCache[bytes, tuple[Stored, float]]):
    """cachetools' time-aware LRU, which also counts what had to go before its time. Values: answer, when it ends."""

    evicted = 0

    def popitem(self) -> tuple[bytes, tuple[Stored, float]]:
        item = super().popitem()
        self.evicted += 1
        return item


class Answers:
    """Key → answer. An entry's age counts against the reader's ttl as well: a pin's new, shorter one holds at once."""

    __slots__ = ("_entries", "_now", "max_entry_bytes")

    def __init__(self, max_bytes: int = MAX_BYTES, max_entry_bytes: int = MAX_ENTRY_BYTES) -> None:
        self._now = 0.0
        self._entries = _Entries(
            max_bytes, ttu=lambda _, entry, __: entry[1], timer=self._clock(), getsizeof=lambda e: entry_bytes(e[0])
        )
        self.max_entry_bytes = max_entry_bytes

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_used(self) -> int:
        return int(self._entries.currsize)

    @property
    def evicted(self) -> int:
        """Entries that had to go before their time."""
        return self._entries.evicted

    def get(self, key: bytes, ttl_s: float, now: float) -> Stored | None:
        """The answer kept under that key, if it is younger than `ttl_s`."""
        self._now = max(self._now, now)
        found = self._entries.get(key)
        if found is None or self._now - found[0].stored_at >= ttl_s:
            return None
        return found[0]

    def put(self, key: bytes, stored: Stored, ttl_s: float, now: float) -> bool:
        """Keep an answer for `ttl_s` from now on. False if it is too large for an entry."""
        self._now = max(self._now, now)
        if entry_bytes(stored) > self.max_entry_bytes:
            return False
        self._entries[key] = (stored, self._now + ttl_s)
        return True

    def _clock(self) -> Callable[[], float]:
        return lambda: self._now
