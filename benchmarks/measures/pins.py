"""CPU of one request by the number of names in the pin file, in YAML and in JSON: it must not matter.

Ours alone, all sizes side by side, each in a process of its own. Trap: the file's form matters when it is read, not
when a request is served; both are here so that a difference would be seen as what it is, noise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import yaml

from benchmarks.figures import Figure
from benchmarks.measures.bench import OURS, Bench, costs_by_case, cpu_per_request
from benchmarks.provider import Script
from benchmarks.systems import pin_file

NAMES = (10, 200, 2000)
KINDS = ("yaml", "json")


def text(names: int, kind: str, *, generation: int = 1) -> str:
    """A pin file of so many names. The sidecar knows JSON by the file's ending."""
    made = pin_file(names=names, generation=generation)
    if kind == "yaml":
        return made
    return json.dumps(yaml.load(made, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506 - both are safe


def case(names: int, kind: str) -> str:
    return f"{names} pins {kind}"


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    settings = {
        case(names, kind): {"pins": text(names, kind), "pins_name": f"pins.{kind}"} for names in NAMES for kind in KINDS
    }
    with bench.variants(settings) as fresh:
        times, length_s = bench.pace.plan(4, 0.6)
        requests = bench.requests(OURS, length_s, next(iter(fresh.values())))
        found = bench.rounds("CPU by pins", fresh, times, lambda name: cpu_per_request(bench, fresh[name], requests))
    yield from costs_by_case(found)
