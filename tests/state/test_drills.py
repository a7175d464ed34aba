"""Who is drilled when, over swaps."""

from __future__ import annotations

from sidecar.core.facts import Target
from sidecar.state.drills import Drill, Drilled, Drills

A = Drill("chat.core", Target("openai", "a-2026-01-01"))
B = Drill("chat.core", Target("second", "b-2026-01-01"))


def done(*, ok: bool, at: float) -> Drilled:
    return Drilled(ok, at, 200 if ok else 503, None if ok else "overload", 0.1)


def test_nothing_is_due_where_nothing_is_planned() -> None:
    assert Drills().next() is None


def test_the_first_time_comes_soon_and_then_each_interval() -> None:
    drills = Drills()
    drills.plan({A: 3600.0, B: 60.0}, {A: 5.0, B: 7.0}, now=100.0)
    assert drills.next() == (105.0, A)
    drills.begin(A, 106.0)
    assert drills.next() == (107.0, B)
    drills.begin(B, 107.0)
    assert drills.next() == (167.0, B)


def test_a_swap_neither_puts_one_off_nor_brings_it_on() -> None:
    drills = Drills()
    drills.plan({A: 3600.0}, {A: 5.0}, now=100.0)
    for now in (101.0, 102.0, 103.0):
        drills.plan({A: 3600.0}, {A: 5.0}, now)
    assert drills.next() == (105.0, A)
    drills.begin(A, 105.0)
    drills.plan({A: 3600.0, B: 60.0}, {A: 5.0, B: 5.0}, now=200.0)
    assert drills.next() == (205.0, B)
    drills.plan({A: 3600.0}, {A: 5.0}, now=300.0)
    assert drills.next() == (3705.0, A)


def test_a_shorter_interval_counts_at_once() -> None:
    drills = Drills()
    drills.plan({A: 3600.0}, {A: 5.0}, now=100.0)
    drills.begin(A, 105.0)
    drills.plan({A: 60.0}, {A: 5.0}, now=200.0)
    assert drills.next() == (260.0, A)


def test_the_last_success_is_kept_through_failures_and_swaps_until_it_is_no_fallback_any_more() -> None:
    drills = Drills()
    drills.plan({A: 60.0}, {A: 0.0}, now=0.0)
    assert drills.end(A, done(ok=False, at=1.0)).last_ok_at is None
    assert drills.end(A, done(ok=True, at=2.0)).last_ok_at == 2.0
    assert drills.end(A, done(ok=False, at=3.0)).last_ok_at == 2.0
    drills.plan({A: 60.0, B: 60.0}, {A: 0.0, B: 0.0}, now=10.0)
    assert drills.of("chat.core")["a-2026-01-01"].last_ok_at == 2.0
    drills.plan({B: 60.0}, {B: 0.0}, now=20.0)
    assert drills.of("chat.core") == {}


def test_one_that_ends_after_it_was_swapped_away_is_forgotten() -> None:
    drills = Drills()
    drills.plan({A: 60.0}, {A: 0.0}, now=0.0)
    drills.begin(A, 0.0)
    drills.plan({}, {}, now=1.0)
    drills.begin(A, 1.0)
    drills.end(A, done(ok=True, at=1.0))
    assert drills.next() is None
    assert drills.of("chat.core") == {}
