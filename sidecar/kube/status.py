"""`status`: which pod serves by which generation, what each name means there, and how its calls go.

Exit code: 0 every pod has the live file, 4 some don't (or there is none), 2 trouble.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sidecar.kube import swap
from sidecar.kube.arguments import BEHIND, GOOD, KubeError, RefusedError, Voice, add_common, run_verb, seconds, together
from sidecar.kube.arguments import target_of as target_from
from sidecar.kube.configmaps import Kept, readable
from sidecar.kube.fleet import LASTING, Fleet, Standing
from sidecar.kube.kubectl import Kubectl
from sidecar.kube.scrape import Scraped
from sidecar.kube.standing import as_data, by_sha256, note_of, rows_of, staying, summary, table
from sidecar.kube.store import Store

CLEAR = "\x1b[H\x1b[2J\x1b[3J"
DEFAULT_INTERVAL_S = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = (
        "Which pod serves by which generation, what each name means there, and how its calls go: since the sidecar's "
        "start, or with --watch between two looks. Exit code: 0 every pod has the live file, 4 not, 2 trouble."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these pinned names (default: all)")
    parser.add_argument("--watch", action="store_true", help="look again and again, until Ctrl-C")
    parser.add_argument(
        "--interval",
        type=seconds,
        default=DEFAULT_INTERVAL_S,
        metavar="TIME",
        help=f"between two looks (default: {DEFAULT_INTERVAL_S:g}s)",
    )
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    return run_verb(args, _status)


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the fleet. `live` is None where there is no live file; `files`: what else is kept."""

    standings: Sequence[Standing]
    live: Kept | None
    files: Sequence[Kept]


async def _status(args: argparse.Namespace, voice: Voice) -> int:
    kubectl = Kubectl(target_from(args))
    fleet, store = Fleet(kubectl), Store(kubectl)
    before: dict[str, Scraped] = {}
    while True:
        try:
            seen = await _look(fleet, store)
        except KubeError as error:
            if not args.watch or error.reason in LASTING:
                raise
            voice.warn(f"warning: {error}")  # a cluster that doesn't answer for a moment ends no watch
        else:
            _show(args, voice, seen, before, kubectl.target.selector)
            if not args.watch:
                counted = staying(seen.standings)
                behind = [one for one in counted if seen.live is None or not one.has(seen.live.sha256)]
                return BEHIND if behind or not counted else GOOD
            before = {one.pod.name: one.metrics for one in seen.standings if one.trouble is None}
        await asyncio.sleep(args.interval)


async def _look(fleet: Fleet, store: Store) -> Seen:
    """Pods, their metrics, and every file that is kept, at once. Without a live file the pods still tell theirs."""

    async def standings() -> list[Standing]:
        return [one for one in await fleet.look(await fleet.pods()) if one.reason != "Gone"]

    async def files() -> tuple[Kept | None, list[Kept]]:
        try:
            stock = await store.stock()
        except RefusedError as error:
            print(f"warning: {error}", file=sys.stderr)
            return None, []
        previous = readable(stock.previous)
        return stock.live, [stock.live, *([] if previous is None else [previous])]

    async def copies() -> list[Kept]:
        try:
            return await store.history()
        except KubeError as error:
            if error.reason != "Forbidden":
                raise
            return []

    found, (live, near), far = await together(standings(), files(), copies())
    return Seen(found, live, [*near, *far])


def _show(args: argparse.Namespace, voice: Voice, seen: Seen, before: dict[str, Scraped], selector: str) -> None:
    pins = by_sha256(seen.files)
    blocks = []
    for one in seen.standings:
        known = pins.get(one.metrics.sha256 or "")
        stopped = [] if seen.live is None else swap.stopped(seen.live)
        rows = rows_of(one.metrics, before.get(one.pod.name), known, stopped=stopped, only=args.names)
        blocks.append((one, note_of(one, seen.live), rows))
    for name in args.names:
        if seen.standings and not any(row.name == name for _, _, rows in blocks for row in rows):
            voice.warn(f"warning: no pod pins {name!a} or has served it")
    told = summary(seen.standings, seen.live) if seen.standings else f"no pod matches {selector}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if voice.json:
        live = seen.live and {"generation": seen.live.generation, "sha256": seen.live.sha256}
        pods = [as_data(*block) for block in blocks]
        answer: dict[str, Any] = {"at": now, "live": live, "summary": told, "pods": pods}
        print(json.dumps(answer, indent=None if args.watch else 2), flush=True)
        return
    lines = [*(table(blocks) if blocks else []), told]
    if args.watch:
        since = f"since the last look, {args.interval:g} s ago" if before else "since each sidecar's start"
        lines = [f"{now}  counts {since}", *lines]
        print((CLEAR if sys.stdout.isatty() else "") + "\n".join(lines), flush=True)
    else:
        print("\n".join(lines))
