"""`apply FILE`: a new pin file for the whole fleet, checked, kept, written, and seen to arrive.

Exit code: 0 every pod has it, 1 refused (nothing was changed), 2 trouble, 3 Argo CD or Flux owns the file, 4 some pods
don't have it in time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sidecar.kube.arguments import CODES, OWNED, RefusedError, Voice, add_common, front, run_verb, seconds
from sidecar.kube.arguments import target_of as target_from
from sidecar.kube.configmaps import Kept
from sidecar.kube.fleet import Fleet
from sidecar.kube.kubectl import Kubectl
from sidecar.kube.owners import advice, owner_of
from sidecar.kube.store import Store, fleet_settings
from sidecar.kube.swap import Swap, Wish
from sidecar.offline.files import add_config, print_problems, settings_of
from sidecar.settings.load import read_bytes, read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.static import Settings

MOST_WHY = 1000
DEFAULT_WAIT_S = 90.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = f"Makes FILE the pin file of the whole fleet, and waits until every pod has it. {CODES}"
    parser.add_argument("file", type=Path, metavar="FILE", help="the pin file, YAML or .json")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    add_swap(parser)
    add_config(parser)
    add_common(parser)


def add_swap(parser: argparse.ArgumentParser) -> None:
    """What `apply` and `rollback` share."""
    parser.add_argument("--why", metavar="TEXT", help="the reason, kept with the change")
    parser.add_argument(
        "--wait",
        type=seconds,
        default=DEFAULT_WAIT_S,
        metavar="TIME",
        help=f"how long to wait for the pods, 0: not at all (default: {DEFAULT_WAIT_S:g}s)",
    )
    parser.add_argument(
        "--despite-gitops",
        action="store_true",
        help="change the cluster although Argo CD or Flux owns the file; they may take it back",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    return run_verb(args, _apply)


def why_of(args: argparse.Namespace) -> str | None:
    """`--why`, if it fits into an annotation. Raises RefusedError."""
    if args.why is not None and len(args.why) > MOST_WHY:
        raise RefusedError(f"--why is longer than {MOST_WHY} characters: shorten it, and link to the rest")
    return args.why or None


async def _apply(args: argparse.Namespace, voice: Voice) -> int:
    why = why_of(args)
    settings = settings_of(args)
    data = read_bytes(args.file)
    read_pins(data, str(args.file), settings)  # a bad file is told of before the cluster is asked
    target = target_from(args)
    kubectl = Kubectl(target)
    store = Store(kubectl)
    stock = await store.stock()
    live = stock.live
    settings = settings or fleet_settings(stock.config)
    if settings is None:
        voice.warn(
            f"warning: providers are not checked: ConfigMap {target.config} has no sidecar.yaml to check against"
        )
    new = checked(data, args.file, live, settings)
    if new.sha256 != live.sha256 and not args.despite_gitops and (owner := owner_of(live.metadata)) is not None:
        file = f"put {args.file} in the place of the file that {live.name} is made from; commit and push it"
        look = [f"{front()} apply {args.file}{target.again}   # changes nothing by then: tells the pods, and waits"]
        raise RefusedError(advice(owner, f"{live.namespace}/{live.name}", [file], look), OWNED)
    if not voice.json:
        print_problems(new.warnings)
    wish = Wish(data.decode(), new, why, args.wait, back=False, confirm=not args.yes)
    return await Swap(store, Fleet(kubectl), voice, wish).run(stock)


def checked(data: bytes, path: Path, live: Kept, settings: Settings | None) -> Pins:
    """The file as the sidecars of the fleet would read it. Raises ConfigError or RefusedError."""
    json = path.suffix.lower() == ".json"
    if json != live.key.endswith(".json"):
        kind = "JSON" if json else "YAML"
        raise RefusedError(f"{path} is {kind}, but the sidecars mount {live.key}: convert the file")
    return read_pins(data, str(path), settings)
