"""One run of the benchmarks: who takes part, in which order things are measured, how the time is shared, what is kept.

The report is written after each measure, so that a run that is broken off leaves what it had.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, subjects
from benchmarks.figures import Report
from benchmarks.lab import Lab
from benchmarks.measures import ORDER, Bench, Measure
from benchmarks.measures.bench import FAILURES, Pace, stop
from benchmarks.processes import StartError

MINUTES = 15.0
QUICK = 0.1  # of the usual time
UNBENDING_S = 60.0  # a measure that takes longer however short it is made
SPARE_S = 20.0  # of the time, for the end
FASTEST = 0.05  # a pace at which figures tell nothing any more


@dataclass(frozen=True, slots=True)
class Options:
    """`systems` and `measures`: names; `minutes`: for all of it but installing peers."""

    systems: tuple[str, ...]
    measures: tuple[Measure, ...] = ORDER
    quick: bool = False
    minutes: float = MINUTES
    report: Path = Path("benchmarks/report")

    @property
    def most(self) -> float:
        """The greatest pace: time to spare is not filled, unless it was asked for."""
        return QUICK if self.quick else max(1.0, self.minutes / MINUTES)


def measures(wanted: Sequence[str]) -> tuple[Measure, ...]:
    """Those of these names, or that give figures of these names. Raises KeyError with one that nobody has."""
    for name in wanted:
        if not any(name == m.name or name in m.gives for m in ORDER):
            raise KeyError(name)
    return tuple(m for m in ORDER if m.name in wanted or set(m.gives) & set(wanted))


def usual(*, quick: bool) -> tuple[Measure, ...]:
    """All of them; a quick run is without those that can't be made quick."""
    return tuple(m for m in ORDER if not quick or m.fixed_s < UNBENDING_S)


def planned(todo: Sequence[Measure], names: list[str]) -> tuple[float, float]:
    """Seconds of all of them: to scale, and fixed."""
    each = [m.seconds(names) for m in todo]
    return sum(scaled for scaled, _ in each), sum(fixed for _, fixed in each)


def pace(left_s: float, plan: tuple[float, float], most: float) -> Pace:
    """How long the next measures take, so that all that are planned fit into what is left."""
    scaled_s, fixed_s = plan
    return Pace(max(FASTEST, min(most, (left_s - fixed_s) / scaled_s if scaled_s else most)))


class Run:
    """One of them. `run()` returns the report; what failed is in `failures`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.failures: list[str] = []
        self.report = Report(machine.commit(), machine.date(), machine.machine(), machine.versions())

    def run(self) -> Report:
        if warnings := machine.warnings():
            self.report.machine["warning"] = "; ".join(warnings)
        with Lab() as lab:
            if word := self.report.machine.get("warning"):
                lab.say(f"warning: {word}")
            chosen = self._chosen(lab)
            lab.begun = begun = time.monotonic()  # installing doesn't count
            bench = Bench(lab, {one.name: one for one in chosen})
            with ExitStack() as stack:
                stack.callback(lambda: stop(bench.running.values()))
                self._start(bench)
                self._measure(bench, begun)
                bench.lab.say("done")
            self.failures += bench.failures
        return self.report

    def _chosen(self, lab: Lab) -> list[subjects.Anyone]:
        found = []
        for one in subjects.chosen(self.options.systems):
            lab.say(f"{one.name}: at hand, or being installed")
            system = subjects.told(one)
            self.report.systems.append(system)
            if system.skipped:
                lab.say(f"{one.name} is skipped: {system.skipped}")
            else:
                found.append(one)
        return found

    def _start(self, bench: Bench) -> None:
        """All of them, warmed up. Who doesn't come up is skipped."""
        for name in bench.subjects:
            bench.lab.say(f"starting {name}")
            try:
                bench.running[name] = bench.start(name)
            except FAILURES as error:
                self._skip(bench, name, error)
        bench.rest()
        for name in bench.names():
            try:
                bench.warm_up(name, bench.running[name])
                bench.capacity(name)
            except FAILURES as error:
                bench.running.pop(name).stop()
                self._skip(bench, name, error)

    def _skip(self, bench: Bench, name: str, error: Exception) -> None:
        why = bench.failed(name, "start", error)
        for system in self.report.systems:
            if system.name == name:
                system.skipped = f"it didn't start, or didn't answer: {why}"

    def _measure(self, bench: Bench, begun: float) -> None:
        options = self.options
        todo = [m for m in options.measures if any(m.seconds(bench.names()))]
        while todo:
            plan = planned(todo, bench.names())
            bench.pace = pace(options.minutes * 60 - (time.monotonic() - begun) - SPARE_S, plan, options.most)
            minutes = (plan[0] * bench.pace.scale + plan[1]) / 60
            bench.lab.say(f"── {todo[0].says} ({len(todo)} to go, about {minutes:.1f} min)")
            self._one(bench, todo.pop(0))
            self.report.seconds = time.monotonic() - begun
            self.report.write(options.report / "report.json")

    def _one(self, bench: Bench, measure: Measure) -> None:
        """A measure that fails as a whole costs its figures, not the run."""
        before = bench.names()
        try:
            for figure in measure.make(bench):
                self.report.figures.append(figure)
        except FAILURES as error:
            bench.failed("the run", measure.name, error)
        for name in set(before) - set(bench.names()):
            bench.failed(name, measure.name, StartError(f"it has ended: {bench.running[name].process.tail()[-200:]}"))
