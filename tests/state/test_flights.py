"""Calls that several requests share: everybody is told once, nobody waits for ever, nothing stays behind."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.core.answers import Flight, Stored
from sidecar.state.flights import Flights

ANSWER = Stored(200, "OK", (), b"x", "openai", "m", None, 0.0)


def test_everybody_is_told_once_and_the_flight_is_forgotten() -> None:
    flights, told = Flights(), []
    flight = flights.lead(b"k", "leader")
    assert flights.find(b"k") is flight is flights.led_by("leader")
    for name in ("a", "b"):
        flights.join(flight, name, lambda stored, name=name: told.append((name, stored)))  # type: ignore[misc]
    assert flights.waiting == 2
    flights.land(flight, ANSWER)
    flights.land(flight, None)
    assert told == [("a", ANSWER), ("b", ANSWER)]
    assert (flights.find(b"k"), flights.led_by("leader"), len(flights), flights.waiting) == (None, None, 0, 0)


def test_who_left_is_told_nothing() -> None:
    flights, told = Flights(), []
    flight = flights.lead(b"k", "leader")
    flights.join(flight, "a", told.append)
    flights.join(flight, "b", told.append)
    assert flights.leave(flight, "a") == 1
    assert flights.leave(flight, "a") == 1, "leaving twice is harmless"
    flights.land(flight, ANSWER)
    assert told == [ANSWER]
    assert flights.leave(flight, "b") == 0


def test_who_comes_after_the_landing_asks_for_itself() -> None:
    flights, told = Flights(), []
    flight = flights.lead(b"k", "leader")
    flights.land(flight, ANSWER)
    flights.join(flight, "late", told.append)
    assert told == [None]
    assert not flight.waiters


def test_the_last_one_ends_a_call_whose_own_client_has_left() -> None:
    flights, ended = Flights(), []
    flight = flights.lead(b"k", "leader")
    flights.join(flight, "a", lambda _: None)
    flights.join(flight, "b", lambda _: None)
    flight.forsaken = lambda: ended.append(flights.find(b"k"))
    flights.leave(flight, "a")
    assert not ended
    flights.leave(flight, "b")
    assert ended == [None], "nobody can join a call that is being ended"
    flights.lead(b"k", "next")


def test_nobody_ends_a_call_whose_client_is_there() -> None:
    flights = Flights()
    flight = flights.lead(b"k", "leader")
    flights.join(flight, "a", lambda _: None)
    assert flights.leave(flight, "a") == 0
    assert flights.find(b"k") is flight


class Sharing(RuleBasedStateMachine):
    """Any order of leading, joining, leaving, landing."""

    def __init__(self) -> None:
        super().__init__()
        self.flights = Flights()
        self.open: list[Flight] = []
        self.told: dict[str, int] = {}
        self.gone: set[str] = set()
        self.count = 0

    @rule(key=st.sampled_from([b"k", b"l"]), answer=st.sampled_from([ANSWER, None]))
    def arrive(self, key: bytes, answer: Stored | None) -> None:
        name = f"r{self.count}"
        self.count += 1
        flight = self.flights.find(key)
        if flight is None:
            self.open.append(self.flights.lead(key, name))
        else:
            self.told[name] = 0
            self.flights.join(flight, name, lambda _: self.told.update({name: self.told[name] + 1}))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiting = [(flight, name) for flight in self.open for name in flight.waiters]
        if waiting:
            flight, name = data.draw(st.sampled_from(waiting))
            self.gone.add(name)
            assert self.flights.leave(flight, name) == len(flight.waiters)

    @rule(data=st.data(), answer=st.sampled_from([ANSWER, None]))
    def land(self, data: st.DataObject, answer: Stored | None) -> None:
        if self.open:
            flight = data.draw(st.sampled_from(self.open))
            self.open.remove(flight)
            self.flights.land(flight, answer)

    @invariant()
    def each_is_told_once_or_waits_or_left(self) -> None:
        waiting = {name for flight in self.open for name in flight.waiters}
        for name, times in self.told.items():
            assert times == (name not in waiting and name not in self.gone)
        assert len(self.flights) == len(self.open) == len({flight.key for flight in self.open})
        assert self.flights.waiting == len(waiting)


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
