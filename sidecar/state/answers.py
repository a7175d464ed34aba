"""Answers kept to be given again: bounded in bytes, the least recently used go first, each until its time is up.

Written out, since the general caches of libraries take ten times as long, and each request that may be kept asks. What
is over is never given again; it goes when it is asked for, when it is the least recently used, or when room is needed.

Not decided here: which answers are kept (`policies/cache`), or under which key (`core/answers.entry_key`).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from sidecar.core.answers import Stored

MAX_BYTES = 16 * 1024 * 1024
MAX_ENTRY_BYTES = 1024 * 1024
OVERHEAD_BYTES = 1280
"""Of an entry: its objects, its headers' tuples and strings, its places in the cache's own tables (measured)."""

LOOKED_THROUGH = 8
"""Of the least recently used: what is over among them makes room before any other has to. All would take too long."""


def entry_bytes(stored: Stored) -> int:
    """What an entry counts for."""
    return OVERHEAD_BYTES + len(stored.body) + sum(len(name) + len(value) + 128 for name, value in stored.headers)


_Entry = tuple[Stored, float, int]
"""An answer, when its time is up, its bytes."""


class Answers:
    """Key → answer. An entry's age counts against the reader's ttl as well: a pin's new, shorter one holds at once.

    `evicted` counts the entries that had to go before their time.
    """

    __slots__ = ("_entries", "_max_bytes", "_now", "_used", "evicted", "max_entry_bytes")

    def __init__(self, max_bytes: int = MAX_BYTES, max_entry_bytes: int = MAX_ENTRY_BYTES) -> None:
        self._now = 0.0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # the least recently used first
        self._max_bytes = max_bytes
        self._used = 0
        self.evicted = 0
        self.max_entry_bytes = max_entry_bytes

    def __len__(self) -> int:
        self._forget_over()
        return len(self._entries)

    @property
    def bytes_used(self) -> int:
        self._forget_over()
        return self._used

    def get(self, key: bytes, ttl_s: float, now: float) -> Stored | None:
        """The answer kept under that key, if it is younger than `ttl_s`."""
        self._now = max(self._now, now)
        entry = self._entries.get(key)
        if entry is None:
            return None
        stored, ends_at, _ = entry
        if self._now >= ends_at:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return stored if self._now - stored.stored_at < ttl_s else None

    def put(self, key: bytes, stored: Stored, ttl_s: float, now: float) -> bool:
        """Keep an answer for `ttl_s` from now on. False if it is too large for an entry."""
        self._now = max(self._now, now)
        size = entry_bytes(stored)
        if size > min(self.max_entry_bytes, self._max_bytes):
            return False
        if key in self._entries:
            self._drop(key)
        self._forget_over()
        if self._used + size > self._max_bytes:
            self._make_room(size)
        self._entries[key] = (stored, self._now + ttl_s, size)
        self._used += size
        return True

    def _forget_over(self) -> None:
        """The least recently used ones whose time is up."""
        while self._entries:
            key, (_, ends_at, _) = next(iter(self._entries.items()))
            if ends_at > self._now:
                return
            self._drop(key)

    def _make_room(self, size: int) -> None:
        now = self._now
        oldest = islice(self._entries.items(), LOOKED_THROUGH)
        for key in [key for key, (_, ends_at, _) in oldest if ends_at <= now]:
            self._drop(key)
        while self._used + size > self._max_bytes:
            _, (_, ends_at, its_size) = self._entries.popitem(last=False)
            self._used -= its_size
            self.evicted += ends_at > now

    def _drop(self, key: bytes) -> None:
        _, _, size = self._entries.pop(key)
        self._used -= size
