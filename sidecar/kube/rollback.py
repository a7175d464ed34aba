"""`rollback`: the pin file that was live before, or an older one, is live again.

The old content comes back as it is; with `--raise` under a new generation. A second rollback stays there. Where Argo CD
or Flux owns the file, git must go back instead: the commands for it are printed, or with `--git` the commit is made.
Exit code: as `apply`.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sidecar.kube import gitops, names
from sidecar.kube.apply import add_swap, why_of
from sidecar.kube.arguments import CODES, GOOD, OWNED, RefusedError, Voice, add_common, front, plain, run_verb
from sidecar.kube.arguments import target_of as target_from
from sidecar.kube.configmaps import Kept, kept
from sidecar.kube.fleet import Fleet
from sidecar.kube.kubectl import Kubectl
from sidecar.kube.owners import advice, owner_of
from sidecar.kube.renumber import renumbered
from sidecar.kube.store import Stock, Store
from sidecar.kube.swap import Swap, Wish
from sidecar.settings.load import read_pins


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = (
        "Makes the previous pin file live again, or an older one, and waits until every pod has it. "
        f"Run again, it stays back, and waits. {CODES}"
    )
    parser.add_argument("--to", metavar="GENERATION", help="which one, as `history` shows it (default: the previous)")
    parser.add_argument(
        "--raise", dest="lift", action="store_true", help="bring the old content under a generation above the live one"
    )
    parser.add_argument("--git", type=Path, metavar="REPO", help="take the file back in this git repository instead")
    parser.add_argument("--file", metavar="PATH", help="the pin file's path in that repository")
    parser.add_argument("--yes", action="store_true", help="accepted for symmetry: a rollback never asks")
    add_swap(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    return run_verb(args, _rollback)


async def _rollback(args: argparse.Namespace, voice: Voice) -> int:
    why = why_of(args)
    if args.git is not None or args.file is not None:
        return _in_git(args, voice, why)
    target = target_from(args)
    kubectl = Kubectl(target)
    store = Store(kubectl)
    stock = await store.stock()
    live = stock.live
    if not args.despite_gitops and (owner := owner_of(live.metadata)) is not None:
        where = f"{live.namespace}/{live.name}"
        look = [f"{front()} status --watch{target.again}"]
        raise RefusedError(advice(owner, where, gitops.by_hand(front()), look), OWNED)
    if args.to is None and live.taken_back is not None:
        return await _again(Swap(store, Fleet(kubectl), voice, _wish(live, live.content, why, args)), stock, voice)
    old = await _wanted(store, stock, args.to)
    content = _lifted(old, live) if args.lift else old.content
    wish = _wish(old, content, why, args)
    if old.key != live.key:
        raise RefusedError(f"{old.name} holds {old.key}, but the sidecars mount {live.key}: apply a converted file")
    code = await Swap(store, Fleet(kubectl), voice, wish).run(stock)
    _warn_of_helm(voice, live, wish.pins.generation)
    return code


def _wish(old: Kept, content: str, why: str | None, args: argparse.Namespace) -> Wish:
    pins = read_pins(content.encode(), f"{old.name}/{old.key}", None)
    return Wish(content, pins, why, args.wait, back=True, confirm=False)


async def _again(swap: Swap, stock: Stock, voice: Voice) -> int:
    """The live file came by a rollback: a second one, by a hurried hand or two, must not bring the bad file back."""
    taken = stock.live.taken_back
    code = await swap.run(stock)
    voice.say(f"generation {taken} was taken back already, {_by(stock.live)}")
    voice.say(f"to bring it again, or go further back: `{front()} history`, then rollback --to GENERATION")
    return code


def _by(live: Kept) -> str:
    by, at = (live.annotations.get(key, "unknown") for key in (names.CHANGED_BY, names.CHANGED_AT))
    return plain(f"by {by} at {at}")


async def _wanted(store: Store, stock: Stock, to: str | None) -> Kept:
    """The file to go back to. Raises KubeError or RefusedError."""
    live = stock.live
    see = f"`{front()} history{store.target.again}` lists what is kept"
    if to is None:
        if stock.previous is None:
            raise RefusedError(f"there is no ConfigMap {store.target.previous}: nothing was live before; {see}")
        old = kept(stock.previous)
        if old.sha256 == live.sha256:
            raise RefusedError(
                f"the previous file is what is live, generation {live.identity}: name another by --to; {see}"
            )
        return old
    copies = [one for one in await store.history() if to in (str(one.generation), one.copy_name)]
    if stock.previous is not None and not copies:
        copies = [one for one in [kept(stock.previous)] if to in (str(one.generation), one.copy_name)]
    if not copies:
        raise RefusedError(f"no generation {to} is kept: {see}")
    if len({one.sha256 for one in copies}) > 1:
        which = ", ".join(one.copy_name for one in copies)
        raise RefusedError(f"generation {to} is kept more than once: name one of {which} by --to")
    return copies[0]


def _lifted(old: Kept, live: Kept) -> str:
    """The old content under a generation above the live one. Raises RefusedError."""
    above = (live.generation or 0) + 1
    content = renumbered(old.content, old.key, above)
    if content is None:
        raise RefusedError(f"the generation in {old.name} can't be raised for sure: edit a copy of it, and apply that")
    return content


def _warn_of_helm(voice: Voice, live: Kept, generation: int) -> None:
    """The chart remembers the file that its values had last, and never makes that one live again by itself."""
    labels = live.metadata.get("labels") or {}
    newer = live.generation is not None and live.generation > generation
    remembered = live.annotations.get(names.VALUES_SHA256) == live.sha256
    if labels.get("app.kubernetes.io/managed-by") == "Helm" and newer and not remembered:
        voice.warn(
            f"warning: a `helm upgrade` whose values hold generation {live.generation} would bring it back: "
            f"put this file into the values, or roll back with --raise"
        )


def _in_git(args: argparse.Namespace, voice: Voice, why: str | None) -> int:
    if args.git is None or args.file is None:
        raise RefusedError("--git and --file belong together: the repository, and the pin file's path in it")
    if args.lift:
        raise RefusedError("--raise changes the file: do that in git by hand, where it can be reviewed")
    made = gitops.take_back(args.git, args.file, why, args.to)
    voice.answer.update(changed=True, commit=made.commit, restored=made.restored, file=args.file)
    voice.say(f"commit {made.commit[:10]} takes {args.file} back to what it was in {made.restored[:10]}")
    push = f"git -C {shlex.quote(str(args.git))} push"
    voice.say(f"nothing is live yet: `{push}`, then sync, then `{front()} status --watch{target_from(args).again}`")
    voice.end(ok=True)
    return GOOD
