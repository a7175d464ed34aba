"""Which request ids were ours lately, so that feedback can be joined to its call."""

from __future__ import annotations

from collections import OrderedDict

KEPT = 10_000
TTL_S = 3600.0


class Recent:
    """Request id → the pin and variant that served it, for an hour and at most 10,000 requests."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: OrderedDict[str, tuple[float, str | None, str]] = OrderedDict()  # with when; the oldest first

    def add(self, request_id: str, pin: str | None, variant: str, now: float) -> None:
        """At the end of each request: what is too old isn't looked for here, there are few enough."""
        self._calls[request_id] = now, pin, variant
        if len(self._calls) > KEPT:
            self._calls.popitem(last=False)

    def find(self, request_id: str, now: float) -> tuple[str | None, str] | None:
        found = self._calls.get(request_id)
        return found[1:] if found is not None and now - found[0] < TTL_S else None
