"""CPU of one request with each policy switched on alone, with none, and with all; and without events.

Each is a process of ours with a pin file of its own (`systems.EVERYTHING`), all side by side with the yardstick, so
that what a policy adds is a difference within a round. Traps: breaker and retry have defaults, so `none` has them too
and their cases only set them otherwise; `hedge` is set so far away that it never sends; with `cache` each request is a
miss that is kept; differences of a few µs drown in the spread.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import YARDSTICK, Figure
from benchmarks.measures.bench import OURS, Bench, costs_by_case, cpu_per_request
from benchmarks.provider import Script
from benchmarks.systems import EVERYTHING, pin_file

NONE, ALL, NO_EVENTS = "policy: none", "policy: all", "policy: events off"


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    settings: dict[str, dict[str, object]] = {NONE: {}, NO_EVENTS: {"events": False}}
    settings |= {f"policy: {name}": {"pins": pin_file(frozenset({name}))} for name in EVERYTHING}
    settings[ALL] = {"pins": pin_file(frozenset(EVERYTHING))}
    with bench.variants(settings) as fresh:
        beside = {name: bench.running[name] for name in bench.names(YARDSTICK)}
        everyone = fresh | beside
        times, length_s = bench.pace.plan(5, 0.6)
        lengths = {
            name: bench.requests(name if name in beside else OURS, length_s, to) for name, to in everyone.items()
        }
        found = bench.rounds(
            "policies", everyone, times,
            lambda name: cpu_per_request(bench, everyone[name], lengths[name]),
        )  # fmt: skip
    yardstick = found.values.pop(YARDSTICK, [])
    for figure in costs_by_case(found):
        yield figure
        if yardstick:  # for the ratio: it was measured once for all of them
            values = [cost.us for cost in yardstick]
            yield Figure("cpu_per_request", YARDSTICK, figure.case, "µs", values, "measured once for all policies")
