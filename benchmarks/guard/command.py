"""`python -m benchmarks guard`: measures, judges, prints; the exit code is 1 when a limit was passed."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvloop

from benchmarks.guard import counts, cpu, limits, study, verdict
from benchmarks.lab import FailedError, Lab
from benchmarks.processes import StartError

ABOUT = """\
Fails when ours has become dearer: in CPU per request and per chunk, over that of the bare pass-through in the same
run, or in exact counts of calls, awaits, tasks, timers, allocations, copies and system calls. Limits: limits.toml.
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks guard", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--limits", type=Path, default=limits.FILE, metavar="FILE", help="default: limits.toml beside it")
    commands = made.add_subparsers(dest="command", metavar="study")
    made.add_argument("--only", choices=("cpu", "counts"), help="leave the other out")
    made.add_argument("--plant", type=float, default=0.0, metavar="SHARE", help="0.2: 20 %% slower, to see it fail")
    made.add_argument("--update", action="store_true", help="write the exact counts anew (not the ratios)")
    made.add_argument("--functions", action="store_true", help="tell how often each function of ours is called")
    studied = commands.add_parser("study", help="many runs: how the ratios spread, and how often there is an alarm")
    studied.add_argument("--runs", type=int, default=20)
    studied.add_argument("--plant", type=float, default=0.0, metavar="SHARE", help="as above")
    studied.add_argument("--busy", action="store_true", help="beside a process that burns one core")
    studied.add_argument("--counts", action="store_true", help="the exact counts too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """0 within all limits, 1 not, 2 could not be measured."""
    given = parser().parse_args(argv)
    try:
        written = limits.read(given.limits)
    except (OSError, ValueError, KeyError) as error:
        print(f"guard: {given.limits}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _ended)  # so that what was started is stopped
    try:
        if given.command == "study":
            return study.run(written, runs=given.runs, plant=given.plant, busy=given.busy, with_counts=given.counts)
        return _update(given.limits) if given.update else _guard(given, written)
    except (FailedError, StartError) as error:
        print(f"guard: could not measure: {error}", file=sys.stderr)
        return 2


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _guard(given: argparse.Namespace, written: limits.Limits) -> int:
    begun = time.monotonic()
    with Lab() as lab:
        measured = None
        if given.only != "counts":
            lab.say("CPU beside the bare pass-through ...")
            measured = uvloop.run(cpu.run(lab, written.ratios, plant=given.plant))
        counted = None
        if given.only != "cpu":
            lab.say("exact counts ...")
            counted = uvloop.run(counts.count(lab))
    if given.functions and counted is not None:
        _show_details(counted)
    found = verdict.judge(written, measured, counted, limits.here())
    print(found.text())
    print(f"guard: {'within all limits' if found.green else 'FAILED'}, {time.monotonic() - begun:.0f} s")
    return 0 if found.green else 1


def _update(path: Path) -> int:
    with Lab() as lab:
        lab.say("exact counts ...")
        counted = uvloop.run(counts.count(lab))
    for words in counted.skipped:
        print(f"not counted, and left as it was: {words}")
    before = path.read_text()
    after = limits.updated(before, counted.counts, limits.here())
    path.write_text(after)
    print(f"{path}: {'written anew' if after != before else 'as it was'}")
    return 0


def _show_details(counted: counts.Counted) -> None:
    for case, details in counted.details.items():
        print(f"{verdict.OF_CASE[case]}:")
        for name, count in sorted(details.items(), key=lambda item: (-item[1], item[0])):
            if count > 0:
                print(f"  {limits.number(count):>8}  {name}")
