"""Counting by series at hand comes to the same as counting anew, and what is kept at hand is bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from sidecar.core.record import Record
from sidecar.telemetry import counting as module
from sidecar.telemetry.counting import Counting, Series
from sidecar.telemetry.families import Family
from sidecar.telemetry.table import TABLE

Make = Callable[..., Record]
MODEL = "gpt-5.4-2025-11-02"


def counting() -> tuple[Counting, CollectorRegistry]:
    registry = CollectorRegistry()
    made = Counting({row.name: Family(row, registry) for row in TABLE})
    made.use(frozenset({MODEL}), frozenset({"chat.core"}), None)
    return made, registry


def test_requests_alike_share_a_series_and_others_do_not(make: Make) -> None:
    at_hand, one = counting()
    anew, other = counting()
    records = [
        make(), make(), make(status=503, error="overload"), make(status=503, error="overload"), make(served="else-1"),
        make(cache="hit"), make(attempted=False, error="sidecar_no_target"), make(kind="none", name=None, model=None),
        make(kind="alias"), make(served=None), make(name="other"),
    ]  # fmt: skip
    for record in records:
        at_hand.count(record)
        anew.count(record)
        anew.use(anew.models, anew.names, None)  # forgets what it has at hand
    assert len(at_hand._series) == 8
    assert generate_latest(one) == generate_latest(other)


def test_what_was_at_hand_goes_with_its_catalogue(make: Make) -> None:
    made, registry = counting()
    made.count(make())
    made.use(frozenset(), frozenset(), None)
    made.count(make())
    counted = {
        (s.labels["pin"], s.labels["model"]): s.value
        for family in registry.collect()
        for s in family.samples
        if s.name == "sidecar_requests_total"
    }
    assert counted == {("chat.core", MODEL): 1, ("other", "other"): 1}


def test_invented_names_do_not_stay_at_hand(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SERIES", 50)
    made, _ = counting()
    for n in range(200):
        made.count(make(kind="unlisted", name=f"invented-{n}", model=f"invented-{n}", served=f"invented-{n}"))
        made.count(make(served="x" * 1000 + str(n)))
    assert not made._series
    for n in range(200):
        made.count(make(served=f"invented-{n}"))
        assert len(made._series) <= 50


def test_a_series_has_no_other_children(make: Make) -> None:
    made, _ = counting()
    made.count(make())
    (series,) = made._series.values()
    assert isinstance(series, Series)
    with pytest.raises(AttributeError, match="typo"):
        series.typo  # noqa: B018
