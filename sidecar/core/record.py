"""The frozen record of one finished request. Events, metrics and spans are projections of it, nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from sidecar.core.charge import Charge
from sidecar.core.facts import Attempt, Exchange, Outcome, Target, Usage


class Record(NamedTuple):
    """All that is published of a request. Holds no prompt, no answer and no credential."""

    ts: float  # wall clock at arrival, seconds since the epoch
    exchange: Exchange
    outcome: Outcome
    generation: int | str  # of the snapshot that it ran under: 7 or "7+stop"
    sha256: str
    stopped: tuple[tuple[str, str], ...]  # (pin, variant) pairs that were stopped in that snapshot
    latency_s: float  # from the arrival of the headers to the last byte sent
    ttft_s: float | None  # from launch of the winner to its first useful event
    overhead_s: float  # time spent in the sidecar itself: decisions and bookkeeping, not waiting for either side
    cost_usd: float | None  # of all attempts; None where a price or a usage is unknown
    cache: str = "off"
    charges: Sequence[Charge | None] = ()  # what each attempt cost; None where that can't be said
    given: Target | None = None  # whose answer was given again: from the cache, or another request's
    given_usage: Usage | None = None  # what that answer cost when it was made: not charged again

    def priced(self) -> Iterator[tuple[Attempt, Charge | None]]:
        """Each attempt with what it cost."""
        return zip_longest(self.outcome.attempts, self.charges)
