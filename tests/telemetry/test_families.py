"""Families: they count and show what prometheus_client's own metrics would."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from sidecar.telemetry.families import Family, Row

BOUNDS = (0.25, 1.0, 4.0, 1e6)
COUNTER = Row(Counter, "a_counter", "Help.", ("one", "two"))
GAUGE = Row(Gauge, "a_gauge", "Help.", ("one",))
HISTOGRAM = Row(Histogram, "a_histogram", "Help.", ("one",), BOUNDS)
ALONE = Row(Histogram, "alone", "Help.", (), BOUNDS)

LABELS = st.text(max_size=3)
AMOUNTS = st.floats(0, 1e9) | st.integers(0, 10**9) | st.sampled_from(BOUNDS)


def shown(registry: CollectorRegistry) -> tuple[bytes, bytes]:
    return generate_latest(registry), generate_openmetrics(registry)  # type: ignore[no-untyped-call]


@given(st.lists(st.tuples(LABELS, LABELS, AMOUNTS)))
def test_they_show_what_the_librarys_own_would(counted: Iterable[tuple[str, str, float]]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = {row.name: Family(row, ours) for row in (COUNTER, GAUGE, HISTOGRAM, ALONE)}
    counter = Counter(COUNTER.name, COUNTER.help, COUNTER.labels, registry=theirs)
    gauge = Gauge(GAUGE.name, GAUGE.help, GAUGE.labels, registry=theirs)
    histogram = Histogram(HISTOGRAM.name, HISTOGRAM.help, HISTOGRAM.labels, registry=theirs, buckets=BOUNDS)
    alone = Histogram(ALONE.name, ALONE.help, registry=theirs, buckets=BOUNDS)
    assert shown(ours) == shown(theirs)
    for one, two, amount in counted:
        family["a_counter"].at(one, two).inc(amount)
        family["a_counter"].at(two, one).inc()
        family["a_gauge"].at(one).set(amount)
        family["a_histogram"].children[one,].observe(amount)
        family["alone"].metric.observe(amount)
        counter.labels(one, two).inc(amount)
        counter.labels(two, one).inc()
        gauge.labels(one).set(amount)
        histogram.labels(one).observe(amount)
        alone.observe(amount)
    assert shown(ours) == shown(theirs)


def test_children_with_a_value_that_is_gone_go() -> None:
    registry = CollectorRegistry()
    family = Family(COUNTER, registry)
    for one, two in (("a", "x"), ("b", "x"), ("b", "y")):
        family.at(one, two).inc()
    family.keep({"one": {"b"}, "two": {"x"}, "another": set()})
    assert list(family.children) == [("b", "x")]
    family.at("a", "x").inc()
    assert registry.get_sample_value("a_counter_total", {"one": "a", "two": "x"}) == 1


def test_a_gauge_may_be_asked_at_each_scrape() -> None:
    registry = CollectorRegistry()
    family = Family(Row(Gauge, "g", "Help."), registry)
    family.metric.set_function(iter((1, 2)).__next__)
    assert [registry.get_sample_value("g") for _ in range(2)] == [1, 2]
