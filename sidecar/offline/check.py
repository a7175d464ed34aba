"""`sidecar pins check FILE`: would a sidecar accept this pin file?

Exit code: 0 yes (warnings allowed, unless `--strict`), 1 no, 2 a file can't be read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sidecar.offline.files import (
    GOOD,
    PROBLEMS,
    add_config,
    add_format,
    exit_code,
    pins_of,
    print_json,
    print_problems,
    settings_of,
)
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError, Problem


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = "Checks a pin file as a sidecar would load it. Exit code: 0 good, 1 problems, 2 unreadable."
    parser.add_argument("file", type=Path, metavar="FILE", help="the pin file, YAML or .json")
    add_config(parser)
    parser.add_argument("--strict", action="store_true", help="warnings count as problems")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what is wrong, or that nothing is."""
    try:
        pins = pins_of(args.file, settings_of(args))
    except ConfigError as error:
        code = exit_code(error)
        _report(args, None, error.problems, ok=False)
        return code
    ok = not (args.strict and pins.warnings)
    _report(args, pins, pins.warnings, ok=ok)
    return GOOD if ok else PROBLEMS


def _report(args: argparse.Namespace, pins: Pins | None, problems: tuple[Problem, ...], *, ok: bool) -> None:
    if args.format == "json":
        answer: dict[str, object] = {"file": str(args.file), "ok": ok}
        if pins is not None:
            answer.update(generation=pins.generation, sha256=pins.sha256)
        print_json({**answer, "problems": [problem.as_dict() for problem in problems]})
        return
    print_problems(problems)
    if pins is None:
        errors = sum(problem.severity == "error" for problem in problems)
        print(f"{args.file}: cannot be used, {errors} problem{'s' if errors > 1 else ''}")
        return
    names = f"{len(pins.pins)} pins, {len(pins.aliases)} aliases, {len(pins.models)} models"
    print(f"{args.file}: {'good' if ok else 'has warnings'}, generation {pins.generation}, {names}")
    if args.config is None:
        print("not checked, for want of --config: whether each provider is configured and has a credential")
