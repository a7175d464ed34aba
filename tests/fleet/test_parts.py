"""Trips as hearsay, and a fleet that isn't configured or can't be had."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from sidecar.core.facts import Target
from sidecar.runtime.fleet import Fleet
from sidecar.runtime.fleet_trips import LONGEST_S, QUIET_S, Trips
from sidecar.settings.options import FleetSpec
from sidecar.settings.units import FleetUrl
from sidecar.state import State

T = Target("openai", "gpt-a")


def said(pod: str, left_s: float, target: Target = T) -> tuple[bytes, int]:
    trips = Trips(pod)
    trips.pending[target] = left_s
    ((text, left_ms),) = trips.tell(0.0)
    return text, left_ms


def test_a_trip_is_believed_once_and_for_no_longer_than_it_lasts() -> None:
    me = Trips("me")
    ((target, until),) = me.hear([said("a", 10)], 100.0)
    assert target == T
    assert until == pytest.approx(110, abs=0.01)
    assert me.hear([said("a", 9)], 101.0) == [], "the same trip, as it stands there a second later"


def test_one_pod_alone_does_not_blind_the_others() -> None:
    me = Trips("me")
    rested_s, now = 0.0, 0.0
    while now < QUIET_S:
        for _, until in me.hear([said("a", 600)], now):
            rested_s += until - now
        now += 1.0
    assert rested_s <= LONGEST_S + 0.01


def test_two_pods_are_believed_every_time() -> None:
    me = Trips("me")
    assert me.hear([said("a", 10), said("b", 10)], 0.0)
    assert me.hear([said("a", 10), said("b", 12)], 20.0)


def test_own_trips_and_nonsense_are_passed_over() -> None:
    me = Trips("me")
    words = [
        said("me", 10),
        (b"{}", 1000),
        (b"\xff", 1000),
        (msgspec.json.encode([1, 2, 3]), 1000),
        (said("a", 1)[0], 0),
    ]
    assert me.hear(words, 0.0) == []


def test_a_trip_that_ended_is_not_told() -> None:
    me = Trips("me")
    me.pending[T] = 5.0
    assert me.tell(6.0) == []


# --- without it ------------------------------------------------------------------------------------------------------


async def test_without_the_section_there_is_none() -> None:
    assert Fleet.build(None, State(), lambda up: None) is None


async def test_without_the_extra_the_pod_counts_for_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "valkey.asyncio", None)
    state = State()
    assert Fleet.build(FleetSpec(url=FleetUrl("redis://h")), state, lambda up: None) is None
    assert "fleet_missing" in caplog.text
    assert state.ledger.leases is None


async def test_a_url_that_can_not_be_used_is_told_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    spec = FleetSpec(url=FleetUrl("redis://:s3cret@h/0?nonsense=1"))
    assert Fleet.build(spec, State(), lambda up: None) is None
    assert "fleet_url" in caplog.text
    assert "s3cret" not in caplog.text


def test_nothing_is_imported_without_the_section() -> None:
    code = (
        "import sys, sidecar.runtime.serve; print([m for m in sys.modules if m.split('.')[0] in ('valkey', 'redis')])"
    )
    said_ = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert said_.stdout.strip() == "[]"
