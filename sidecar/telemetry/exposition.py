"""The text of a scrape, child by child, so that whoever writes it may do other work in between.

Decides: the two formats that Prometheus reads, as far as our metrics need them (no timestamps, exemplars or units, and
names that need no escapes). The library writes the same at three times the cost: it checks each label of each sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.utils import floatToGoString

from sidecar.telemetry.families import Buckets, Row, Shown

_TYPES = {Counter: "counter", Histogram: "histogram"}


def pieces(families: Iterable[Shown], *, openmetrics: bool) -> Iterator[str]:
    """The whole text, in pieces of a child each. `openmetrics`: OpenMetrics 1.0, else the text format 0.0.4."""
    for row, children in families:
        name = f"{row.name}_total" if row.kind is Counter else row.name
        shown = row.name if openmetrics else name
        yield f"# HELP {shown} {row.help}\n# TYPE {shown} {_TYPES.get(row.kind, 'gauge')}\n"
        for values, child in children:
            labels = _labels(row, values)
            if isinstance(child, Buckets):
                yield _histogram(name, labels, child)
            else:
                yield f"{name}{{{labels}}} {_number(child)}\n" if labels else f"{name} {_number(child)}\n"
    if openmetrics:
        yield "# EOF\n"


def _labels(row: Row, values: tuple[str, ...]) -> str:
    return ",".join([f'{label}="{_escaped(value)}"' for label, value in zip(row.labels, values, strict=True)])


def _histogram(name: str, labels: str, child: Buckets) -> str:
    before = f"{name}_bucket{{{labels},le=" if labels else f"{name}_bucket{{le="
    lines, count = [], 0
    for le, count in child.read():
        lines.append(f'{before}"{le}"}} {_number(count)}\n')
    own = f"{{{labels}}}" if labels else ""
    lines.append(f"{name}_count{own} {_number(count)}\n{name}_sum{own} {_number(child.total)}\n")
    return "".join(lines)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return floatToGoString(value)  # type: ignore[no-untyped-call,no-any-return]  # the library's
