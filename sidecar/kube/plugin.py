"""`kubectl model-sidecar VERB`: the operators' commands as a plugin of kubectl.

Decides: which verbs there are. Each is a module, imported when it is asked for; `sidecar pins VERB` runs the same ones.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from sidecar import __version__
from sidecar.kube.arguments import add_target

VERBS = {
    "diff": ("what a pin file changes, in words", "sidecar.kube.diff"),
    "check": ("is this pin file good?", "sidecar.offline.check"),
    "apply": ("make a pin file live in the whole fleet", "sidecar.kube.apply"),
    "status": ("which pod serves by which generation, and how its calls go", "sidecar.kube.status"),
    "rollback": ("make the previous pin file live again", "sidecar.kube.rollback"),
    "stop": ("the kill switch: no units for a name's variants, in every pod, now", "sidecar.kube.stop"),
    "history": ("the generations that are kept: who, when, why", "sidecar.kube.history"),
}
FLAGS_WITH_VALUE = ("-n", "--namespace", "--context", "--kubeconfig", "-l", "--selector", "--name")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its exit code; 2 where the arguments are wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser(argv).parse_args(argv)
    try:
        return int(import_module(VERBS[args.verb][1]).run(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kubectl model-sidecar history | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    about = "Swaps the pin file of a fleet of Model Sidecars, and shows how it goes."
    parser = argparse.ArgumentParser(prog="kubectl model-sidecar", description=about)
    parser.add_argument("--version", action="version", version=f"model-sidecar {__version__}")
    add_target(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    asked = _verb(argv)
    for name, (text, module) in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text)
        if name == asked:
            import_module(module).configure(verb)
    return parser


def _verb(argv: Sequence[str]) -> str | None:
    """The first word that is neither a flag nor a flag's value."""
    words = iter(argv)
    for word in words:
        if word in FLAGS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


if __name__ == "__main__":
    sys.exit(main())
