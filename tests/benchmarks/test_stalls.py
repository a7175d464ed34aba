"""The heart notices what keeps a loop from its work, and a sidecar can have one."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest

from benchmarks.heartbeat import Heart
from benchmarks.lab import Lab
from benchmarks.patient import Gaps, Patient, chat_body
from benchmarks.stalls import BODIES, LIMITS_MS, Found, _pins
from sidecar.settings.load import read_pins

LONG_S = 0.05


@pytest.fixture(autouse=True)
def _callbacks() -> Iterator[None]:
    before = list(gc.callbacks)
    yield
    gc.callbacks[:] = before


def compute(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


async def test_a_loop_that_computes_is_late_in_cpu_time_and_on_the_clock() -> None:
    heart = Heart()
    await asyncio.sleep(0.01)
    heart.take()
    compute(LONG_S)
    await asyncio.sleep(0.01)
    told = heart.take()
    assert min(told["process_ms"], told["loop_ms"], told["wall_ms"]) >= LONG_S * 1e3
    assert heart.take()["process_ms"] < told["process_ms"]


async def test_a_loop_that_sleeps_is_late_on_the_clock_alone() -> None:
    heart = Heart()
    await asyncio.sleep(0.01)
    heart.take()
    time.sleep(LONG_S)
    await asyncio.sleep(0.01)
    told = heart.take()
    assert told["wall_ms"] >= LONG_S * 1e3
    assert told["loop_ms"] < LONG_S * 1e3


def test_a_figure_tells_the_worst_gap() -> None:
    found = Found()
    for process_ms in (3.0, 9.0, 4.0):
        found.add("case", Gaps(process_ms=process_ms, wall_ms=20, loop_ms=2, gc_ms=1, beats=5))
    (figure,) = found.figures()
    assert (figure.measure, figure.case, figure.unit, figure.median) == ("loop_stall", "case", "ms", 4.0)
    assert "20.0 ms on the clock" in figure.note


@pytest.mark.parametrize(("kind", "laden"), [("json", False), ("yaml", False), ("json", True)])
def test_the_pins_of_a_swap_are_good_and_wholly_new(kind: str, laden: bool) -> None:
    one, two = (read_pins(_pins(n, kind, laden=laden).encode(), f"pins.{kind}", None) for n in (1, 2))
    assert len(one.pins) == 2000
    assert set(one.pins) == set(two.pins)
    assert not set(one.models) & set(two.models)
    assert all(pin.fallback for name, pin in one.pins.items() if name != "chat.core") is laden


def test_the_limits_are_those_of_cases_that_there_are() -> None:
    assert set(LIMITS_MS) == {"swap, 2000 pins yaml", "swap at rest, 2000 pins yaml"}


def test_a_sidecar_with_a_heart() -> None:
    with Lab() as lab, Patient(lab) as patient:
        patient.take()
        assert patient.chat(chat_body("x")) == "1"
        assert patient.chat(BODIES["1 MB body, one message"]) == "1"
        gaps = patient.take()
        assert gaps.beats > 0
        assert gaps.wall_ms > 0
        assert b"sidecar_in_flight" in patient.ask("/metrics")
        assert patient.stop().beats > 0
