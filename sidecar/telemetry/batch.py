"""Records of finished requests, told some at a time: code that runs sixteen times in a row takes half as long for each.

Decides which may wait: a request that one attempt answered to the end. Nobody writes to it any more, and nobody looks
for it at once. All others are told immediately, after those that wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from sidecar.core.facts import Result
from sidecar.core.record import Record

MOST = 16  # that wait: together they hold up the loop for some 0.2 ms
DELAY_S = 0.02

Later = Callable[[float, Callable[[], None]], object]
"""Calls it after so many seconds, in the same thread: a loop's `call_later`."""


class Batch:
    """`each` is told of each record, in order. Without `later` none waits."""

    __slots__ = ("_due", "_each", "_later", "_lock", "_waiting")

    def __init__(self, each: Callable[[Record], None], later: Later | None) -> None:
        self._each = each
        self._later = later
        self._due = False  # whether `later` will call
        self._lock = threading.Lock()  # metrics may be read in another thread
        self._waiting: deque[Record] = deque()

    def add(self, record: Record) -> None:
        """Take one record, or tell of it."""
        self._waiting.append(record)
        if self._later is None or len(self._waiting) >= MOST or not _may_wait(record):
            self.flush()
        elif not self._due:
            self._due = True
            self._later(DELAY_S, self._come)

    def flush(self) -> None:
        """Tell of all that wait."""
        with self._lock:
            while self._waiting:
                self._each(self._waiting.popleft())

    def _come(self) -> None:
        self._due = False
        self.flush()


def _may_wait(record: Record) -> bool:
    outcome = record.outcome
    winner = outcome.winner
    return winner is not None and winner.result is Result.OK and len(outcome.attempts) == 1
