"""Which records wait for others, for how long, and that each is told once and in order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from sidecar.core.facts import Result
from sidecar.core.record import Record
from sidecar.telemetry.batch import DELAY_S, MOST, Batch

Make = Callable[..., Record]


class Clock:
    """Takes what is to be called later, and calls it when told to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        assert delay_s == DELAY_S
        self.calls.append(call)

    def tick(self) -> None:
        self.calls.pop(0)()


def test_without_a_clock_each_is_told_at_once(make: Make) -> None:
    told: list[Record] = []
    batch = Batch(told.append, None)
    for n in range(3):
        batch.add(make())
        assert len(told) == n + 1


def test_they_wait_until_there_are_enough_or_the_time_is_up(make: Make) -> None:
    told: list[Record] = []
    clock = Clock()
    batch = Batch(told.append, clock.later)
    records = [make() for _ in range(MOST + 2)]
    for record in records[: MOST - 1]:
        batch.add(record)
    assert (told, len(clock.calls)) == ([], 1)
    batch.add(records[MOST - 1])
    assert told == records[:MOST]
    batch.add(records[MOST])
    assert len(clock.calls) == 1  # the first call is still to come
    clock.tick()
    assert told == records[:-1]
    batch.add(records[-1])
    batch.flush()
    clock.tick()
    assert told == records


def test_what_did_not_go_well_is_told_at_once_after_those_that_wait(make: Make) -> None:
    told: list[Record] = []
    batch = Batch(told.append, Clock().later)
    cut = make()
    cut.outcome.attempts[0].result = Result.CLIENT_GONE
    hedged = make()
    hedged = hedged._replace(outcome=hedged.outcome._replace(attempts=hedged.outcome.attempts * 2))
    expected = []
    for other in (cut, hedged, make(attempted=False), make(error="overload", status=529)):
        plain = make()
        expected += [plain, other]
        batch.add(plain)
        assert len(told) == len(expected) - 2
        batch.add(other)
        assert told == expected


def test_one_that_cannot_be_told_keeps_no_other(make: Make) -> None:
    records = [make() for _ in range(MOST)]
    told: list[Record] = []

    def tell(record: Record) -> None:
        if record is records[1]:
            raise ValueError("a bug")
        told.append(record)

    batch = Batch(tell, Clock().later)
    for record in records[:-1]:
        batch.add(record)
    with pytest.raises(ValueError, match="a bug"):
        batch.add(records[-1])
    batch.flush()
    assert told == [records[0], *records[2:]]


def test_another_thread_may_flush(make: Make) -> None:
    told: list[int] = []
    batch = Batch(lambda record: told.append(int(record.ts)), Clock().later)
    record, over = make(), threading.Event()

    def flush() -> None:
        while not over.is_set():
            batch.flush()

    thread = threading.Thread(target=flush)
    thread.start()
    for n in range(5000):
        batch.add(record._replace(ts=n))
    over.set()
    thread.join()
    batch.flush()
    assert told == list(range(5000))
