"""`history`: the generations that are kept, who brought each, when and why, and which is live.

Exit code: 0, or 2 trouble.
"""

from __future__ import annotations

import argparse
from typing import Any

from sidecar.kube import names
from sidecar.kube.arguments import GOOD, Voice, add_common, plain, run_verb, together
from sidecar.kube.arguments import target_of as target_from
from sidecar.kube.configmaps import Kept, readable
from sidecar.kube.kubectl import Kubectl
from sidecar.kube.store import Stock, Store
from sidecar.kube.swap import stops

NONE = "-"
HEAD = ("GENERATION", "SHA256", "STATE", "CHANGED AT", "BY", "WHY")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = "The generations that are kept: sha256, who, when, why, and which is live. Newest first."
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    return run_verb(args, _history)


async def _history(args: argparse.Namespace, voice: Voice) -> int:
    store = Store(Kubectl(target_from(args)))
    stock, copies = await together(store.stock(), store.history())
    files = files_of(stock, copies)
    voice.answer["generations"] = files
    lines = [HEAD, *(_cells(one) for one in files)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    for line in lines:
        voice.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for one in stops(stock.live):
        by, at = one.get("by", "somebody"), one.get("at", "an unknown time")
        voice.say(plain(f"stopped since: {one.get('pin')} {one.get('variant')}, by {by} at {at}"))
    voice.end(stopped=stops(stock.live))
    return GOOD


def files_of(stock: Stock, copies: list[Kept]) -> list[dict[str, Any]]:
    """The live file, then all others that are kept, each once, by when they were brought."""
    live = stock.live
    found: dict[str, dict[str, Any]] = {live.sha256: _facts(live, "live")}
    if (before := readable(stock.previous)) is not None:
        found.setdefault(before.sha256, _facts(before, "previous"))
    for one in copies:
        found.setdefault(one.sha256, _facts(one, ""))
    rest = [one for one in found.values() if one["state"] != "live"]
    rest.sort(key=lambda one: (one["changed_at"] or "", one["generation"] or 0), reverse=True)
    return [found[live.sha256], *rest]


def _facts(one: Kept, state: str) -> dict[str, Any]:
    told = one.annotations.get
    return {
        "generation": one.generation,
        "sha256": one.sha256,
        "state": state,
        "configmap": one.name,
        "changed_at": told(names.CHANGED_AT),
        "changed_by": told(names.CHANGED_BY),
        "why": told(names.WHY),
    }


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    generation = "unknown" if one["generation"] is None else str(one["generation"])
    state = one["state"] or "kept"
    told = (plain(one[key] or NONE) for key in ("changed_at", "changed_by", "why"))
    return generation, one["sha256"][:8], state, *told
