"""What the metrics are made of: a row of their table, a family with its children at hand, the sinks' own counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily


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


class Family:
    """One metric of the table and its children, each found once."""

    __slots__ = ("_children", "_labels", "metric")

    def __init__(self, row: Row, registry: CollectorRegistry) -> None:
        extra: dict[str, Any] = {"buckets": row.buckets} if row.buckets else {}
        self.metric: Any = row.kind(row.name, row.help, row.labels, registry=registry, **extra)
        self._labels = row.labels
        self._children: dict[tuple[str, ...], Any] = {}

    def at(self, *values: str) -> Any:
        """The child with these label values, in the table's order."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self.metric.labels(*values)
        return child

    def keep(self, allowed: Mapping[str, AbstractSet[str]]) -> None:
        """Drop the children that have a value which its label may no longer have."""
        checked = [(i, allowed[label]) for i, label in enumerate(self._labels) if label in allowed]
        if not checked:
            return
        for values in [v for v in self._children if any(v[i] not in ok for i, ok in checked)]:
            del self._children[values]
            self.metric.remove(*values)


class Sinks:
    """Reads the sinks' own counts when scraped."""

    def __init__(self, rows: Mapping[str, Row], reads: Mapping[str, Callable[[Counted], int]]) -> None:
        self._rows = rows
        self._reads = reads
        self.watched: list[Counted] = []

    def collect(self) -> Iterator[CounterMetricFamily]:
        for name, read in self._reads.items():
            row = self._rows[name]
            family = CounterMetricFamily(name, row.help, labels=row.labels)
            for sink in self.watched:
                family.add_metric([sink.name], read(sink))
            yield family
