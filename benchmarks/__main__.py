"""What the sidecar costs, beside a bare pass-through and its peers, measured in one run."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import run as runner
from benchmarks import subjects
from benchmarks.figures import YARDSTICK, Report
from benchmarks.measures import ORDER
from benchmarks.measures.bench import OURS

ELSEWHERE = {
    "guard": "fail when ours has become dearer against the pass-through of the same run",
    "soak": "10⁶ requests, 30 %% of them aborted: memory and descriptors must stay flat",
    "stalls": "how long the event loop is held by what is rare but large",
}
"""Commands with a module, options and a help of their own."""

EPILOG = """\
Figures want a quiet machine with two cores or more: one is for what is measured. `run` warns where others use the CPU.
Peers are installed once, into ~/.cache/model-sidecar/bench (MODEL_SIDECAR_BENCH_CACHE changes it).

  python -m benchmarks run                                      everything, in at most 15 minutes
  python -m benchmarks run --quick --systems model-sidecar,passthrough
  python -m benchmarks run --measures cpu,chunks --minutes 5
  python -m benchmarks list                                     what there is to measure, and whom
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="measure, print the table, write the report")
    run.add_argument("--systems", type=_names, metavar="A,B", help=f"of {', '.join(subjects.names())} (default: all)")
    run.add_argument(
        "--measures", type=_names, metavar="A,B", help=f"of {', '.join(m.name for m in ORDER)}, or figures' names"
    )
    run.add_argument(
        "--quick", action="store_true", help="a tenth of the time, without stalls: to see that it works, not to compare"
    )
    run.add_argument(
        "--minutes", type=float, default=runner.MINUTES, help="for all but installing (default: %(default)g)"
    )
    run.add_argument(
        "--report", type=Path, metavar="DIR", default=Path("benchmarks/report"), help="default: %(default)s"
    )
    listing = commands.add_parser("list", help="what is measured, and of whom")
    listing.add_argument("--install", action="store_true", help="install peers that aren't there yet")
    page = commands.add_parser("page", help="write the table and the page anew from report.json")
    page.add_argument(
        "--report", type=Path, metavar="DIR", default=Path("benchmarks/report"), help="default: %(default)s"
    )
    for name, words in ELSEWHERE.items():
        commands.add_parser(name, help=words, add_help=False)
    return made


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in ELSEWHERE:
        return _elsewhere(arguments[0], arguments[1:])
    made = parser()
    given = made.parse_args(arguments)
    if given.command == "list":
        return _list(install=given.install)
    if given.command == "page":
        report = Report.read(given.report / "report.json")
        show(report, given.report)
        return 0
    try:
        options = _options(given)
    except KeyError as error:
        made.error(f"{error.args[0]}: unknown; `python -m benchmarks list` tells what there is")
    return _run(options)


def _options(given: argparse.Namespace) -> runner.Options:
    """Raises KeyError with a name that nobody has."""
    everyone = subjects.names()
    for name in given.systems or ():
        if name not in everyone:
            raise KeyError(name)
    return runner.Options(
        systems=tuple(given.systems or everyone),
        measures=runner.measures(given.measures) if given.measures else runner.usual(quick=given.quick),
        quick=given.quick,
        minutes=given.minutes,
        report=given.report,
    )


def _run(options: runner.Options) -> int:
    """1 where ours or the yardstick failed: what is left can't be compared."""
    signal.signal(signal.SIGTERM, _ended)  # so that what was started is stopped
    run = runner.Run(options)
    try:
        report = run.run()
    except KeyboardInterrupt:
        print(f"Broken off. What was measured is in {options.report / 'report.json'}.", file=sys.stderr)
        return 130
    show(report, options.report)
    for words in run.failures:
        print(f"failed: {words}", file=sys.stderr)
    peers = [name for name in subjects.names() if name not in {OURS, YARDSTICK}]
    return int(any(not words.startswith(tuple(peers)) for words in run.failures))


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def show(report: Report, folder: Path) -> None:
    """Print the table, and write the page beside report.json."""
    from benchmarks import page, table

    print(table.text(report), end="")
    (folder / "table.md").write_text(table.markdown(report))
    page.write(report, folder / "index.html")
    print(f"\n{folder / 'report.json'}, table.md, index.html", file=sys.stderr)


def _list(*, install: bool) -> int:
    print("Measures, in order:")
    for measure in ORDER:
        of = ", ".join(measure.of) or "all"
        print(f"  {measure.name:<11} {measure.says:<52} {of}")
    print("\nSystems:")
    for one in subjects.chosen(subjects.names()):
        system = (
            subjects.told(one)
            if install or isinstance(one, subjects.Ours | subjects.Yardstick)
            else subjects.at_hand(one)
        )
        print(f"  {system.name:<14} {f'skipped: {system.skipped}' if system.skipped else system.version}", flush=True)
    return 0


def _elsewhere(name: str, arguments: list[str]) -> int:
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        print(f"benchmarks/{name} is not in this checkout.", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"benchmarks.{name}").main(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())
