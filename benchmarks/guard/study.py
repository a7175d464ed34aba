"""How good the guard's eye for CPU is: its whole verdict, many times over, on the code as it is or with a plant."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvloop

from benchmarks.guard import counts, cpu, limits
from benchmarks.lab import Lab

NEIGHBOUR = "while True: pass"


@contextmanager
def neighbour(*, busy: bool) -> Iterator[None]:
    """A process that burns one core meanwhile, whichever the kernel gives it."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run(written: limits.Limits, *, runs: int, plant: float, busy: bool, with_counts: bool) -> int:
    """Print each run and a summary. 0 if all was as it should be: no alarm, or with a plant an alarm in every run."""
    ratios: dict[str, list[float]] = {case: [] for case in written.ratios}
    alarms: dict[str, int] = dict.fromkeys(written.ratios, 0)
    runs_with_alarm = 0
    with neighbour(busy=busy):
        for number in range(1, runs + 1):
            with Lab() as lab:
                measured = uvloop.run(cpu.run(lab, written.ratios, plant=plant))
                rose = _rose(lab, written) if with_counts else []
            breaches = measured.breaches(written.ratios)
            for case in ratios:
                ratios[case] += measured.ratios(case)
                alarms[case] += case in breaches
            runs_with_alarm += bool(breaches or rose)
            told = "  ".join(f"{case} {'/'.join(f'{r:.3f}' for r in measured.ratios(case))}" for case in ratios)
            print(
                f"{number:3}  {told}  {'ALARM: ' + ', '.join([*breaches, *rose]) if breaches or rose else 'ok'}",
                flush=True,
            )
    print(summary(ratios, alarms, written.ratios, runs))
    print(f"{runs_with_alarm} of {runs} runs with an alarm{f', with {plant:.0%} planted' if plant else ''}")
    wanted = runs if plant else 0
    return 0 if runs_with_alarm == wanted else 1


def _rose(lab: Lab, written: limits.Limits) -> list[str]:
    counted = uvloop.run(counts.count(lab))
    return [
        f"{one.case}.{one.name} {limits.number(one.measured)}"
        for one in limits.compare(counted.counts, written)
        if one.rose
    ]


def summary(ratios: dict[str, list[float]], alarms: dict[str, int], limit: dict[str, float], runs: int) -> str:
    """A table of single rounds: where they lie, how they spread, and how far the limit is."""
    lines = [f"{'round':30} {'rounds':>6} {'median':>7} {'sd':>6} {'least':>7} {'most':>7} {'limit':>7}  alarms"]
    for case, values in ratios.items():
        median = statistics.median(values)
        lines.append(
            f"{case:30} {len(values):6} {median:7.3f} {_spread(values):6.1%} {min(values):7.3f} {max(values):7.3f}"
            f" {limit[case]:7.3f}  {alarms[case]} of {runs}"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> float:
    """The standard deviation, as a share of the median."""
    return statistics.stdev(values) / statistics.median(values) if len(values) > 1 else 0.0
