"""What the metrics are made of: a row of their table, a family with its children at hand, the sinks' own counts.

The children are our own: prometheus_client's take a lock for each number, and look for a histogram's bucket one by one,
which a request that counts in ten of them would feel. Only the loop's thread counts, so a number needs no lock; another
may read, and sees each number before or after a count.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class Row(NamedTuple):
    """One metric. Names are those of the text format, but for a counter's `_total`."""

    kind: type[Counter | Gauge | Histogram]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Counted(Protocol):
    """What a sink shows of itself."""

    @property
    def name(self) -> str: ...
    @property
    def dropped(self) -> int: ...
    @property
    def errors(self) -> int: ...


class Number:
    """A child of a counter or a gauge."""

    __slots__ = ("read", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.read: Callable[[], float] | None = None

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = float(value)

    def set_function(self, read: Callable[[], float]) -> None:
        """Asked at each scrape, from the thread that renders it."""
        self.read = read

    def now(self) -> float:
        return self.value if self.read is None else float(self.read())


class Buckets:
    """A child of a histogram. `counts`: of each bucket alone, the last one is of what is above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def read(self) -> Iterator[tuple[str, int]]:
        """Each bound as text, and how many were not above it."""
        return zip(_les(self.bounds), accumulate(self.counts), strict=True)


@cache
def _les(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(floatToGoString(bound) for bound in (*bounds, math.inf))  # type: ignore[no-untyped-call]  # the library's


class Shown(NamedTuple):
    """A family as a scrape shows it: each child's label values, in the row's order, with its number or its buckets."""

    row: Row
    children: Iterable[tuple[tuple[str, ...], float | Buckets]]


class _Children(dict[tuple[str, ...], Any]):
    """By their label values; one that isn't there yet is made. A lock keeps them together while they are copied."""

    __slots__ = ("lock", "make")

    def __init__(self, make: Callable[[], Number | Buckets]) -> None:
        super().__init__()
        self.make = make
        self.lock = threading.Lock()

    def __missing__(self, values: tuple[str, ...]) -> Any:
        with self.lock:
            child = self[values] = self.make()
        return child


class Family:
    """One metric of the table, and a collector of its children.

    `children[values]` is the child with these label values, in the row's order; `metric` that of a row without any.
    """

    __slots__ = ("_row", "children", "metric")

    def __init__(self, row: Row, registry: CollectorRegistry) -> None:
        self._row = row
        self.children = _Children((lambda: Buckets(row.buckets)) if row.kind is Histogram else Number)
        self.metric: Any = None if row.labels else self.children[()]
        registry.register(self)

    def at(self, *values: str) -> Any:
        """The child with these label values, in the table's order."""
        return self.children[values]

    def keep(self, allowed: Mapping[str, AbstractSet[str]]) -> None:
        """Drop the children that have a value which its label may no longer have."""
        checked = [(i, allowed[label]) for i, label in enumerate(self._row.labels) if label in allowed]
        if not checked:
            return
        with self.children.lock:
            for values in [v for v in self.children if any(v[i] not in ok for i, ok in checked)]:
                del self.children[values]

    def shown(self) -> Shown:
        """As it stands now. May be asked in any thread."""
        with self.children.lock:
            children = list(self.children.items())
        return Shown(self._row, ((values, c if isinstance(c, Buckets) else c.now()) for values, c in children))

    def collect(self) -> Iterator[Metric]:
        """The same for the library's registry."""
        yield metric_of(self.shown())


class Sinks:
    """Reads the sinks' own counts when scraped."""

    def __init__(self, rows: Mapping[str, Row], reads: Mapping[str, Callable[[Counted], int]]) -> None:
        self._rows = rows
        self._reads = reads
        self.watched: list[Counted] = []

    def shown(self) -> Iterator[Shown]:
        for name, read in self._reads.items():
            yield Shown(self._rows[name], [((sink.name,), read(sink)) for sink in self.watched])

    def collect(self) -> Iterator[Metric]:
        """The same for the library's registry."""
        yield from map(metric_of, self.shown())


def metric_of(shown: Shown) -> Metric:
    """A family as the library holds it."""
    row = shown.row
    if row.kind is Histogram:
        histogram = HistogramMetricFamily(row.name, row.help, labels=row.labels)
        for values, child in shown.children:
            assert isinstance(child, Buckets)
            histogram.add_metric(values, [(le, float(n)) for le, n in child.read()], child.total)
        return histogram
    family = (CounterMetricFamily if row.kind is Counter else GaugeMetricFamily)(row.name, row.help, labels=row.labels)
    for values, child in shown.children:
        assert not isinstance(child, Buckets)
        family.add_metric(values, child)
    return family
