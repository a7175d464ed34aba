"""What a soak finds wrong, and a small real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks import soak as module
from benchmarks.lab import Lab
from benchmarks.soak import Limits, Sample, Soaked, Told, faults, figures, growth_mib, pins, soak
from sidecar.settings.load import read_pins

REST = Told(
    in_flight=0, buffered_bytes=0, connections=0, counted=100, series=500, upstream=3, descriptors=20
)  # fmt: skip


def sound() -> Soaked:
    found = Soaked(before=replace(REST, counted=0), halfway=replace(REST, counted=50), after=REST)
    found.sent.update(plain=70, left=30)
    found.statuses.update({("plain", 200): 70, ("left", 0): 20, ("left", 200): 10})
    found.samples = [Sample(done, 40.0, 55.0 + done % 2 / 10, 20, done / 1e3) for done in range(0, 101, 5)]
    return found


def test_nothing_is_wrong_with_a_sound_one() -> None:
    assert list(faults(sound(), Limits())) == []


def changed(**values: float) -> Callable[[Soaked], None]:
    def change(found: Soaked) -> None:
        assert found.after is not None
        found.after = replace(found.after, **values)  # type: ignore[arg-type]

    return change


def slow_leak(found: Soaked) -> None:
    found.samples = [replace(s, rss_mib=50 + s.done / 10) for s in found.samples]


def lost(found: Soaked) -> None:
    found.statuses["plain", 0] += 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(in_flight=1), "1 requests in flight are left over"),
        (changed(buffered_bytes=7), "7 buffered bytes"),
        (changed(connections=2), "2 client connections"),
        (changed(descriptors=21), "1 more descriptors"),
        (changed(upstream=900, descriptors=917), "900 connections to the provider"),
        (changed(series=600), "600 series, where there were 500"),
        (changed(counted=70), "30 of 100 requests were not counted"),
        (changed(counted=101), "-1 of 100"),
        (slow_leak, "memory grew by 5.0 MiB"),
        (lost, "1 × plain ended with a lost connection"),
    ],
)
def test_each_fault_is_told(change: Callable[[Soaked], None], words: str) -> None:
    found = sound()
    change(found)
    told = list(faults(found, Limits()))
    assert len(told) == 1
    assert words in told[0]


def test_who_leaves_at_once_need_not_have_been_heard() -> None:
    found = sound()
    changed(counted=80)(found)
    assert list(faults(found, Limits())) == []


def test_memory_counts_from_half_of_the_samples_on() -> None:
    rising = [Sample(n, 0.0, min(n, 10), 0, 0.0) for n in range(100)]
    assert growth_mib(rising) == pytest.approx(0)
    assert growth_mib([]) == 0


def test_figures_tell_the_end_and_the_curve() -> None:
    after, grown = figures(sound())
    assert (after.measure, after.unit, after.values, len(after.curve)) == ("memory_after", "MiB", [40.0], 21)
    assert (grown.measure, after.case) == ("memory_growth", grown.case)


def test_each_generation_of_pins_is_good_and_has_other_models() -> None:
    seen = [read_pins(pins(n).encode(), "pins.yaml", None) for n in (1, 2)]
    shared = set(seen[0].models) & set(seen[1].models)
    assert shared == {"bench-1-2026-01-01", "bench-2-2026-01-01"}
    assert set(seen[0].pins) == set(seen[1].pins)


def test_a_small_soak_leaves_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.5)
    with Lab() as lab:
        found = soak(lab, requests=300, connections=8, swap_every=100)
    assert found.done >= 300
    assert found.swaps >= 2
    assert found.statuses["plain", 200] > 50
    assert found.statuses["left", 0] > 10
    assert list(faults(found, Limits(growth_mib=30, series_share=1))) == []
