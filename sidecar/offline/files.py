"""What the offline commands share: reading files, printing problems, exit codes.

Decides: how a trouble is printed and which exit code it gets. Does not decide: what a trouble is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sidecar.settings.load import Settings, load_settings, read_bytes, read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError, Problem, UnreadableError

GOOD = 0
PROBLEMS = 1
TROUBLE = 2


def add_format(parser: argparse.ArgumentParser) -> None:
    """`--format text|json`."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config sidecar.yaml`."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the settings, to check providers and credentials against, too"
    )


def settings_of(args: argparse.Namespace) -> Settings | None:
    """The settings that `--config` names, None without it. Raises ConfigError."""
    # The pin file under check need not be the configured one, so the settings may lack theirs.
    return None if args.config is None else load_settings(args.config, pins="-")


def pins_of(path: Path, settings: Settings | None) -> Pins:
    """The pin file at `path`. Raises ConfigError."""
    return read_pins(read_bytes(path), str(path), settings)


def exit_code(error: ConfigError) -> int:
    """2 for a file that can't be read at all, 1 for one that can be read but not used."""
    return TROUBLE if isinstance(error, UnreadableError) else PROBLEMS


def print_problems(problems: Iterable[Problem]) -> None:
    """One a line, on standard error."""
    for problem in problems:
        word = "warning" if problem.severity == "warning" else "error"
        print(f"{word}: {problem}", file=sys.stderr)


def print_json(answer: dict[str, Any]) -> None:
    """The answer of a command under `--format json`."""
    print(json.dumps(answer, indent=2))
