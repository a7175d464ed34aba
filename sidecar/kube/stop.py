"""`stop NAME`: the kill switch. A name's variants take no units from now on, in every pod, without waiting for a mount.

Each sidecar is told through `sidecar admin stop` in its container. A pod that starts later reads the file, so the file
has to follow: its share set to 0, and applied.
Exit code: 0 stopped everywhere, 4 not in all pods, 1 there is nothing to stop, 2 trouble.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence

from sidecar.kube import names
from sidecar.kube.apply import why_of
from sidecar.kube.arguments import BEHIND, GOOD, KubeError, RefusedError, Voice, add_common, front, run_verb, together
from sidecar.kube.arguments import target_of as target_from
from sidecar.kube.ask import NO_SUCH
from sidecar.kube.configmaps import Kept, Stamp
from sidecar.kube.fleet import Fleet, Pod
from sidecar.kube.kubectl import Kubectl, trouble
from sidecar.kube.store import Store
from sidecar.kube.swap import named, stops
from sidecar.settings.problems import suggestion

MOST_KEPT = 50
"""Stops that the annotation remembers: all annotations together may have 256 KiB."""
RACES = 5
ABSENT = "absent"
Reasons = Mapping[str, str | None]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = (
        "The kill switch: NAME's variants take no units from now on, in every pod, at once. "
        "Exit code: 0 stopped everywhere, 4 not in all pods, 1 there is nothing to stop, 2 trouble."
    )
    parser.add_argument("pin", metavar="NAME", help="the pinned name")
    parser.add_argument("--variant", metavar="V", help="only this variant (default: all that the live file gives it)")
    parser.add_argument("--why", metavar="TEXT", help="the reason, kept with the live file")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    return run_verb(args, _stop)


async def _stop(args: argparse.Namespace, voice: Voice) -> int:
    why = why_of(args)
    kubectl = Kubectl(target_from(args))
    store, fleet = Store(kubectl), Fleet(kubectl)
    stock, pods, stamp = await together(store.stock(), fleet.pods(), store.stamp(why))
    variants = [args.variant] if args.variant else variants_of(stock.live, args.pin)
    told = await _in_all(fleet, pods, args.pin, variants)
    again = [pod for pod in await fleet.pods() if told.get(pod.name, "new") is not None]
    later = await _in_all(fleet, again, args.pin, variants)
    told = {name: reason for name, reason in told.items() if name in {pod.name for pod in again} or reason is None}
    told |= later
    told = _judged(told, stock.live, args.pin, variants)
    missed = {name: reason for name, reason in told.items() if reason is not None}
    what = f"{args.pin} {', '.join(variants)}"
    voice.say(f"{what}: stopped in {len(told) - len(missed)} of {len(told)} pods, by {stamp.by} at {stamp.at}")
    for line in named(missed):
        voice.say(line)
    if missed:
        voice.say("run it again until it reaches all of them: where it has, it does no harm")
    noted = await _note(store, voice, args.pin, variants, stamp)
    stopped = [name for name in told if name not in missed]
    voice.say(f"a pod that starts now reads the file: set {_percents(variants)} of {args.pin} to 0 in it, then")
    voice.say(f"  {front()} apply FILE{store.target.again}")
    voice.end(
        ok=not missed,
        pin=args.pin,
        variants=variants,
        by=stamp.by,
        at=stamp.at,
        why=why,
        stopped=stopped,
        missed=[{"pod": name, "why": reason} for name, reason in missed.items()],
        noted=noted,
    )
    return BEHIND if missed or not told else GOOD


def variants_of(live: Kept, pin_name: str) -> list[str]:
    """The variants that the live file gives a name. Raises RefusedError where there is nothing to stop."""
    if live.pins is None:
        raise RefusedError(f"{live.name} can't be read by this version: name the variant by --variant")
    pin = live.pins.pin(pin_name)
    if pin is None:
        fix = suggestion(pin_name, live.pins.pins, f"it has {', '.join(live.pins.pins) or 'none'}")
        raise RefusedError(f"the live file, generation {live.identity}, has no pin {pin_name!a}: {fix}")
    if not pin.arms:
        fix = f"to leave its stable model, apply a file with another one, or `{front()} rollback`"
        raise RefusedError(f"{pin_name} has no variants, so there is nothing to stop: {fix}")
    return [arm.name for arm in pin.arms]


def _judged(told: Reasons, live: Kept, pin_name: str, variants: Sequence[str]) -> Reasons:
    """The same, where a pod's file may lack the variant: well if the live one does, too. Raises RefusedError."""
    pin = None if live.pins is None else live.pins.pin(pin_name)
    if pin is not None and any(arm.name in variants for arm in pin.arms):
        late = f"does not have generation {live.identity} yet, and would not be stopped with it"
        return {name: late if reason == ABSENT else reason for name, reason in told.items()}
    if live.pins is not None and all(reason == ABSENT for reason in told.values()):
        has = variants_of(live, pin_name)
        fix = suggestion(variants[0], has, f"it has {', '.join(has)}")
        raise RefusedError(f"{pin_name} has no variant {variants[0]!a}, in the live file or in any pod: {fix}")
    return {name: None if reason == ABSENT else reason for name, reason in told.items()}


async def _in_all(fleet: Fleet, pods: Sequence[Pod], pin: str, variants: Sequence[str]) -> Reasons:
    """Pod → why it could not be stopped there, None where it is; ABSENT where its file has no such variant."""
    reasons = await asyncio.gather(*(_in_one(fleet, pod, pin, variants) for pod in pods))
    return {pod.name: reason for pod, reason in zip(pods, reasons, strict=True)}


async def _in_one(fleet: Fleet, pod: Pod, pin: str, variants: Sequence[str]) -> str | None:
    if pod.port is None:
        return "not injected: it has no sidecar"
    found = None
    for variant in variants:
        try:
            done = await fleet.execute(pod, "sidecar", "admin", "stop", "--", pin, variant)
        except KubeError as error:
            return str(error)
        if done.code == NO_SUCH:
            found = ABSENT
        elif done.code:
            said = [line for line in done.said.splitlines() if not line.startswith("command terminated")]
            return said[-1].removeprefix("error: ") if said and done.code > 1 else str(trouble(done, fleet.target))
    return found


async def _note(store: Store, voice: Voice, pin: str, variants: Sequence[str], stamp: Stamp) -> bool:
    """Say on the live ConfigMap what was stopped. The switch itself doesn't hang on it."""
    for _ in range(RACES):
        try:
            live = (await store.stock()).live
            mine = [{"pin": pin, "variant": variant, **_story(live, stamp)} for variant in variants]
            others = [one for one in stops(live) if not (one.get("pin") == pin and one.get("variant") in variants)]
            value = json.dumps([*others, *mine][-MOST_KEPT:], ensure_ascii=False)
            await store.annotate(live, names.STOPPED, value)
        except KubeError as error:
            if error.reason == "Conflict":
                continue
            voice.warn(f"warning: not noted on the live file: {error}")
            return False
        return True
    voice.warn("warning: not noted on the live file: it changes all the time")
    return False


def _story(live: Kept, stamp: Stamp) -> dict[str, str | int | None]:
    told: dict[str, str | int | None] = {"by": stamp.by, "at": stamp.at}
    told |= {"generation": live.generation, "sha256": live.sha256}
    return told if stamp.why is None else {**told, "why": stamp.why}


def _percents(variants: Sequence[str]) -> str:
    return "the percent" if len(variants) == 1 else "the percents"
