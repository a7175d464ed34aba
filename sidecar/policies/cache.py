"""Has this very question been answered already, or is somebody asking it just now?

Decided here: which requests may be answered from memory (the pin says `cache`; they are deterministic, or the pin says
`always`; they have no side effect at the provider and name none of its state), what `x-sidecar-cache` changes, who
waits for whom. Not decided here: what makes two requests the same (`dialects/identity`), which answers are worth
keeping (`dialects/keepable`), how one is kept (`state/answers`) or sent again (`runtime/cached`).
"""

from __future__ import annotations

import hashlib
from typing import Self

from sidecar.core.answers import Flight, FlightKey, Stored, entry_key
from sidecar.core.facts import CacheKey, Exchange, Outcome
from sidecar.core.policy import Follow, Hit, Policy, Verdict
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.schema import CacheSpec
from sidecar.state.answers import Answers
from sidecar.state.flights import Flights

_SHARED = {
    code.value: Refusal(code, "The provider failed at the same request, for which this one had waited.")
    for code in (Code.UNREACHABLE, Code.TIMEOUT)
}
_UNKNOWN = Stored(200, None, (), b"", "", "", None, 0.0)  # what was sent is not in an event


class Cache(Policy):
    __slots__ = ("_answers", "_flights", "_pins")

    def __init__(self, pins: dict[str, CacheSpec], answers: Answers, flights: Flights) -> None:
        self._pins = pins
        self._answers = answers
        self._flights = flights

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        """None where no pin keeps answers."""
        pins = {name: pin.source.cache for name, pin in parts.pins.pins.items() if pin.source.cache is not None}
        return cls(pins, parts.state.answers, parts.state.flights) if pins else None

    def admit(self, x: Exchange, now: float) -> Verdict | None:
        spec = self._pins.get(x.pin) if x.pin is not None else None
        if spec is None:
            return None
        if not may_be_kept(x, always=spec.always):
            return None
        if x.ask.identity is None:
            return _as_recorded(x)
        identity = x.ask.identity()
        if identity is None:
            return None
        if x.ask.cache == "bypass":
            x.cache = "bypass"
            return None
        return self._look(x, hashlib.sha256(identity).digest(), float(spec.ttl), now)

    def _look(self, x: Exchange, identity: bytes, ttl_s: float, now: float) -> Verdict | None:
        key = entry_key(identity, x.targets[0])
        refresh = x.ask.cache == "refresh"
        if not refresh:
            stored = self._answers.get(key, ttl_s, now)
            if stored is not None:
                x.cache = "hit"
                x.why.append("cache: hit")
                return Hit(stored)
        leads = False
        if not x.ask.stream:
            shared = flight_key(key, x)
            flight = self._flights.find(shared)
            if flight is not None and not refresh:
                x.cache = "coalesced"
                x.why.append("cache: coalesced")
                return Follow(flight)
            if flight is None:
                self._flights.lead(shared, x.id)
                leads = True
        x.cache = "miss"
        x.cache_key = CacheKey(identity, ttl_s, refresh, leads)
        return None

    def settle(self, x: Exchange, outcome: Outcome, now: float) -> None:
        """However it ended: nobody waits for ever.

        Where the provider gave no answer at all the next one asks for itself. If that fails too all who still wait
        fail with it: one after the other, the last of a hundred would wait a hundred times as long. But where only
        its own time was over, theirs may not be.
        """
        if x.cache_key is not None and x.cache_key.leads:
            flight = self._flights.led_by(x.id)
            if flight is not None:
                failed = _SHARED.get(outcome.error or "") if flight.second and outcome.attempts else None
                self._flights.land(flight, failed if now < x.deadline else None)


def flight_key(key: bytes, x: Exchange) -> FlightKey:
    """Whose calls it may wait for: of those with its own entry's key, only such as may be answered by the same models.

    The answer of another one's fallback, hedge or `over_budget` model is none for a request that refuses it by a
    header, or whose pin doesn't name it.
    """
    return key, x.pin, x.ask.no_fallback, x.ask.no_hedge, x.targets


def _as_recorded(x: Exchange) -> Verdict | None:
    """Without its text a request can't be looked up: a replayed one has what was found standing on it already."""
    if x.cache in ("hit", "coalesced"):
        x.why.append(f"cache: {x.cache}")
        return Hit(_UNKNOWN) if x.cache == "hit" else Follow(Flight(b"", ""))
    return None


def may_be_kept(x: Exchange, *, always: bool) -> bool:
    """Whether the answer to this request may be given to the next one that asks the same."""
    ask = x.ask
    return ask.generates and not ask.side_effects and not ask.bound and (ask.deterministic or always)
