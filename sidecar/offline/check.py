"""`sidecar pins check FILE`: would a sidecar accept this pin file? With `--live`: do the providers have its models?

Exit code: 0 yes (warnings allowed, unless `--strict`), 1 no, 2 a file can't be read or the arguments don't fit.
A model that its provider hasn't is a problem; where that can't be told it is a warning.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.offline.files import (
    GOOD,
    PROBLEMS,
    TROUBLE,
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

if TYPE_CHECKING:
    from sidecar.offline.live import Live


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = "Checks a pin file as a sidecar would load it. Exit code: 0 good, 1 problems, 2 unreadable."
    parser.add_argument("file", type=Path, metavar="FILE", help="the pin file, YAML or .json")
    add_config(parser)
    parser.add_argument("--strict", action="store_true", help="warnings count as problems")
    parser.add_argument(
        "--live", action="store_true", help="ask each provider whether it has the models (needs --config)"
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what is wrong, or that nothing is."""
    live: Live | None = None
    try:
        settings = settings_of(args)
        if args.live and settings is None:
            sentence = "--live needs --config: it asks the providers that the settings name"
            print(f"error: {sentence}", file=sys.stderr)
            if args.format == "json":
                print_json({"file": str(args.file), "ok": False, "error": sentence})
            return TROUBLE
        pins = pins_of(args.file, settings)
    except ConfigError as error:
        code = exit_code(error)
        _report(args, None, error.problems, ok=False)
        return code
    problems = pins.warnings
    if args.live and settings is not None:
        from sidecar.offline.live import look  # only here is a network library wanted

        live = look(pins, settings)
        problems += live.problems
    ok = not any(args.strict or problem.severity == "error" for problem in problems)
    _report(args, pins, problems, ok=ok, live=live)
    return GOOD if ok else PROBLEMS


def _report(
    args: argparse.Namespace, pins: Pins | None, problems: tuple[Problem, ...], *, ok: bool, live: Live | None = None
) -> None:
    if args.format == "json":
        answer: dict[str, object] = {"file": str(args.file), "ok": ok}
        if pins is not None:
            answer.update(generation=pins.generation, sha256=pins.sha256)
        if live is not None:
            answer.update(live=live.models)
        print_json({**answer, "problems": [problem.as_dict() for problem in problems]})
        return
    print_problems(problems)
    errors = sum(problem.severity == "error" for problem in problems)
    if pins is None:
        print(f"{args.file}: cannot be used, {errors} problem{'s' if errors > 1 else ''}")
        return
    if live is not None and live.lines:
        print("\n".join(live.lines))
    names = f"{len(pins.pins)} pins, {len(pins.aliases)} aliases, {len(pins.models)} models"
    verdict = "good" if ok else "names models that are not there" if errors else "has warnings"
    unknown = 0 if live is None else sum(one["state"] == "unknown" for one in live.models)
    doubt = f"; not known whether they are there: {unknown} of {len(live.models)}" if live and unknown else ""
    print(f"{args.file}: {verdict}, generation {pins.generation}, {names}{doubt}")
    if args.config is None:
        print("not checked, for want of --config: whether each provider is configured and has a credential")
