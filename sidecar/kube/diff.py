"""`diff [OLD] NEW`: what would change, in words; with one file, against what is live in the cluster.

Exit code: 0 nothing, 1 something, 2 trouble (a file that can't be read or used, or no cluster).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sidecar.kube.apply import checked
from sidecar.kube.arguments import (
    GOOD,
    PROBLEMS,
    TROUBLE,
    KubeError,
    RefusedError,
    Voice,
    add_target,
    front,
    run_verb,
)
from sidecar.kube.arguments import target_of as target_from
from sidecar.kube.kubectl import Kubectl
from sidecar.kube.store import Store, fleet_settings
from sidecar.kube.swap import Wish, objection, words_of
from sidecar.offline import diff as offline
from sidecar.offline.files import add_config, add_format, print_json, print_problems, settings_of
from sidecar.settings.load import read_bytes, read_pins
from sidecar.settings.problems import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = (
        "What changes between two pin files, in words; with one file, between the live ConfigMap and it. "
        "Exit code: 0 nothing, 1 something, 2 trouble."
    )
    parser.add_argument("old", type=Path, nargs="?", metavar="OLD", help="the file now in use (default: what is live)")
    parser.add_argument("new", type=Path, metavar="NEW", help="the one to compare with it")
    add_config(parser)
    add_format(parser)
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    return run_verb(args, _live) if args.old is None else offline.run(args)


async def _live(args: argparse.Namespace, voice: Voice) -> int:
    try:
        return await _compared(args, voice)
    except ConfigError as error:
        if voice.json:
            print_json({"ok": False, "problems": [problem.as_dict() for problem in error.problems]})
        else:
            print_problems(error.problems)
        return TROUBLE
    except RefusedError as error:
        raise KubeError(str(error)) from None


async def _compared(args: argparse.Namespace, voice: Voice) -> int:
    settings = settings_of(args)
    data = read_bytes(args.new)
    read_pins(data, str(args.new), settings)
    stock = await Store(Kubectl(target_from(args))).stock()
    live = stock.live
    new = checked(data, args.new, live, settings or fleet_settings(stock.config))
    words = [] if live.sha256 == new.sha256 else words_of(live, new)
    wish = Wish(data.decode(), new, None, 0, back=False, confirm=False)
    reason = objection(stock, wish)
    voice.say("\n".join(words) if words else "nothing changes")
    if reason is not None:
        voice.say(f"`{front()} apply` would refuse it: {reason}")
    voice.end(
        ok=True,
        old={"file": f"{live.namespace}/{live.name}", "generation": live.generation, "sha256": live.sha256},
        new={"file": new.path, "generation": new.generation, "sha256": new.sha256},
        changes=words,
        refused=reason,
    )
    return PROBLEMS if words else GOOD
