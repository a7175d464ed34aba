"""Which request ids were ours lately, so that feedback can be joined to its call."""

from __future__ import annotations

from collections.abc import Callable

from cachetools import TTLCache

KEPT = 10_000
TTL_S = 3600.0


class Recent:
    """Request id → the pin and variant that served it, for an hour and at most 10,000 requests."""

    __slots__ = ("_calls", "_now")

    def __init__(self) -> None:
        self._now = 0.0
        self._calls: TTLCache[str, tuple[str | None, str]] = TTLCache(KEPT, TTL_S, timer=self._clock())

    def _clock(self) -> Callable[[], float]:
        return lambda: self._now

    def add(self, request_id: str, pin: str | None, variant: str, now: float) -> None:
        self._now = max(self._now, now)
        self._calls[request_id] = (pin, variant)

    def find(self, request_id: str, now: float) -> tuple[str | None, str] | None:
        self._now = max(self._now, now)
        return self._calls.get(request_id)
