"""Calls under way that identical requests wait for, so that a thousand of them make one upstream call.

Not decided here: which requests may share a call (`policies/cache`), or how a waiter waits (`runtime/cached`).
"""

from __future__ import annotations

from sidecar.core.answers import Flight, FlightKey, Stored, Tell
from sidecar.errors import Refusal


class Flights:
    """Key → the flight that others may join. A flight that has landed, or was given up, is forgotten at once."""

    __slots__ = ("_by_key", "_by_leader")

    def __init__(self) -> None:
        self._by_key: dict[FlightKey, Flight] = {}
        self._by_leader: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return sum(len(flight.waiters) for flight in self._by_key.values())

    def find(self, key: FlightKey) -> Flight | None:
        """The flight that a request with this key may join."""
        return self._by_key.get(key)

    def led_by(self, request_id: str) -> Flight | None:
        """The flight that this request leads and that hasn't landed."""
        return self._by_leader.get(request_id)

    def lead(self, key: FlightKey, request_id: str) -> Flight:
        """A new flight. There must be none under that key, and each request leads at most one."""
        assert key not in self._by_key
        assert request_id not in self._by_leader
        flight = self._by_key[key] = self._by_leader[request_id] = Flight(key, request_id)
        return flight

    def join(self, flight: Flight, request_id: str, tell: Tell) -> None:
        """Wait for it. `tell` is called once, at its landing; at once with None if it has landed already."""
        if flight.landed:
            tell(None)
            return
        flight.waiters[request_id] = tell

    def leave(self, flight: Flight, request_id: str) -> int:
        """This one waits no more, and is told nothing. How many still wait.

        The last one ends a call whose own client has left. New requests don't join it then: it is forgotten first.
        """
        flight.waiters.pop(request_id, None)
        left = len(flight.waiters)
        if not left and not flight.landed and (end := flight.forsaken) is not None:
            self.land(flight, None)
            end()
        return left

    def land(self, flight: Flight, told: Stored | Refusal | None) -> None:
        """The call is over: tell everybody who waits, once. None: there is no answer to share. Harmless twice."""
        if flight.landed:
            return
        flight.landed = True
        flight.forsaken = None
        del self._by_key[flight.key]
        del self._by_leader[flight.leader]
        waiters = list(flight.waiters.values())
        flight.waiters.clear()
        for tell in waiters:
            tell(told)
