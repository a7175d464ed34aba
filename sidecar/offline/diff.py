"""`sidecar pins diff OLD NEW`: what would change, in words.

Exit code: 0 nothing, 1 something, 2 trouble (a file that can't be read or used).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sidecar.offline.files import (
    GOOD,
    PROBLEMS,
    TROUBLE,
    add_config,
    add_format,
    pins_of,
    print_json,
    print_problems,
    settings_of,
)
from sidecar.settings.problems import ConfigError
from sidecar.settings.words import changes


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = "What changes between two pin files, in words. Exit code: 0 nothing, 1 something, 2 trouble."
    parser.add_argument("old", type=Path, metavar="OLD", help="the pin file now in use")
    parser.add_argument("new", type=Path, metavar="NEW", help="the one to compare with it")
    add_config(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Prints one line a change, risks among them."""
    try:
        settings = settings_of(args)
        old, new = pins_of(args.old, settings), pins_of(args.new, settings)
    except ConfigError as error:
        if args.format == "json":
            print_json({"ok": False, "problems": [problem.as_dict() for problem in error.problems]})
        else:
            print_problems(error.problems)
        return TROUBLE
    lines = changes(old, new)
    if args.format == "json":
        sides = {
            side: {"file": pins.path, "generation": pins.generation, "sha256": pins.sha256}
            for side, pins in (("old", old), ("new", new))
        }
        print_json({"ok": True, **sides, "changes": lines})
    else:
        print("\n".join(lines) if lines else "nothing changes")
    return PROBLEMS if lines else GOOD
