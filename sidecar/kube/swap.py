"""Another pin file for the whole fleet: the one way in which `apply` and `rollback` make it.

Decides: what must hold before the live ConfigMap is touched, the order of the steps, and what is told of them.
Does not decide: which file (the commands), or how ConfigMaps are written (`store.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.kube import configmaps, names
from sidecar.kube.arguments import BEHIND, GOOD, KubeError, RefusedError, Voice, front, together
from sidecar.kube.configmaps import Kept, identity
from sidecar.kube.fleet import Fleet, Pod, Standing, Wait
from sidecar.kube.store import Stock, Store, fleet_settings
from sidecar.settings.pins import Pins, UnknownVariant
from sidecar.settings.words import changes

MOST_NAMED = 20
"""Pods that are named one by one; `status` names them all."""
REFUSED = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized", "NotFound", "BadRequest")
"""The API server's words for a write that it did not make."""
BEFORE_LIMIT_S = 5
"""How long a swap is held up to learn how pods stand before it."""
MOST_ASKED = 3
"""Pods that are asked why: they refuse one and the same file."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked pin file, and how to make it live. `back`: it was live before, so an older generation is meant."""

    content: str
    pins: Pins
    why: str | None
    wait_s: float
    back: bool
    confirm: bool


def words_of(live: Kept, new: Pins) -> list[str]:
    """What changes for apps, in words; also which variants that were stopped by hand would take units again."""
    if live.pins is None:
        return ["the live file can't be read by this version, so nothing can be compared", *changes(None, new)]
    old = live.pins
    for name, variant in stopped(live):
        after = new.pin(name)
        if after is not None and any(arm.name == variant for arm in after.arms):
            with contextlib.suppress(UnknownVariant):
                old = old.stop(name, variant)
    return changes(old, new)


def stopped(live: Kept) -> list[tuple[str, str]]:
    """(pin, variant) for each that was stopped by hand since the file went live."""
    return [(str(one.get("pin")), str(one.get("variant"))) for one in stops(live)]


def stops(live: Kept) -> list[dict[str, Any]]:
    """What the annotation `stopped` tells of the file that is live; nothing where it is not as we write it."""
    try:
        found = json.loads(live.annotations.get(names.STOPPED, "[]"))
    except ValueError:
        return []
    known = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [one for one in known if one.get("sha256") == live.sha256]  # Helm may bring a file and leave the annotation


def objection(stock: Stock, wish: Wish) -> str | None:
    """Why that file may not follow the live one; None if it may."""
    live, new = stock.live, wish.pins
    if live.generation is None or live.sha256 == new.sha256:
        return None
    above = live.generation + 1
    if new.generation == live.generation and not wish.back:
        return f"generation {new.generation} is live with other content: raise `generation` to {above} in the file"
    settings = fleet_settings(stock.config)
    if new.generation < live.generation and settings is not None and settings.monotonic:
        why = f"the sidecars refuse generation {new.generation} after {live.generation}: `monotonic` is set for them"
        fix = f"`{front()} rollback --raise`" if wish.back else f"raise `generation` to {above} in the file"
        return f"{why}: {fix} brings that content under generation {above}" if wish.back else f"{why}: {fix}"
    return None


class Swap:
    """One swap, from the words that describe it to the pods that have it."""

    def __init__(self, store: Store, fleet: Fleet, voice: Voice, wish: Wish) -> None:
        self._store = store
        self._fleet = fleet
        self._voice = voice
        self._wish = wish
        self._to = identity(wish.pins.generation, wish.pins.sha256)
        self._again = store.target.again

    async def run(self, stock: Stock) -> int:
        """Make the file live and see every pod take it. Returns an exit code; raises KubeError or RefusedError."""
        live, new, voice = stock.live, self._wish.pins, self._voice
        voice.answer.update(
            namespace=live.namespace,
            configmap=live.name,
            old={"generation": live.generation, "sha256": live.sha256},
            new={"generation": new.generation, "sha256": new.sha256},
        )
        if live.sha256 == new.sha256:
            voice.answer["changed"] = False
            voice.say(f"nothing to do: ConfigMap {live.name} holds generation {live.identity} already")
            for name, variant in stopped(live):
                voice.say(f"  {name}: {variant} was stopped and stays so: a file of another generation brings it back")
            return await self._settle([])
        if (reason := objection(stock, self._wish)) is not None:
            raise RefusedError(reason)
        words = words_of(live, new)
        voice.answer["changes"] = words
        voice.say(f"ConfigMap {live.name} in namespace {live.namespace}: generation {live.identity} → {self._to}")
        voice.say("\n".join(f"  {line}" for line in words))
        pods, stamp = await together(self._fleet.pods(), self._store.stamp(self._wish.why))
        if self._wish.confirm:
            if voice.json:
                raise RefusedError("with --format json nobody is asked: give --yes")
            _confirm(live, pods, self._store.target.context)
        document = configmaps.replaced(live, self._wish.content, new, stamp, back=self._wish.back)
        before = await self._write(stock, document, pods)
        voice.answer.update(changed=True, by=stamp.by, at=stamp.at, why=stamp.why)
        copies = f"{self._store.target.previous} and {live.name}-{live.copy_name}"
        voice.say(f"swapped by {stamp.by} at {stamp.at}; what was live is kept as {copies}")
        return await self._settle(before)

    async def _write(self, stock: Stock, document: dict[str, Any], pods: list[Pod]) -> list[Standing]:
        """All ConfigMaps, in an order that leaves a way back whatever breaks off; answers how the pods stood before.

        A new file comes after the previous one is kept. A rollback goes first, for the way back is a copy: broken off
        in between, the previous file would be the one to get away from.
        """
        store, back, doubt = self._store, self._wish.back, "nothing was swapped"
        try:
            _, before = await together(store.rehearse(stock, document), self._look(pods))
            await store.keep(stock.live)
            if not back:
                await store.remember(stock)
            doubt = f"whether generation {self._to} is live is not known: the same command again finds out and ends it"
            made = await store.swap(stock, document)
        except KubeError as error:
            raise _lost_race(error, stock.live.name, doubt) from None
        except asyncio.CancelledError:
            self._voice.warn(f"interrupted: {doubt}")
            raise
        try:
            await (store.remember(stock) if back else store.keep(made))
        except KubeError as error:
            self._voice.warn(f"warning: generation {self._to} is live, but not all is kept: {error}")
        return before

    async def _look(self, pods: list[Pod]) -> list[Standing]:
        """How they stand before the change. That they can't be asked is no reason not to make it, or to wait long."""
        try:
            return await self._fleet.look(pods, BEFORE_LIMIT_S)
        except KubeError as error:
            return [Standing(pod, trouble=str(error)) for pod in pods]

    async def _settle(self, before: list[Standing]) -> int:
        """Tell kubelet to look, then wait for the pods. Also finishes a swap that was broken off."""
        began = time.monotonic()
        try:
            await self._fleet.refresh()
        except KubeError as error:
            self._voice.warn(f"warning: {error}; without it kubelet brings the file within about two minutes")
        if self._wish.wait_s == 0:
            self._voice.say(f"not waited for: `{front()} status{self._again}` tells which pods have it")
            self._voice.end(ok=True)
            return GOOD
        last = -1

        def told(took: int, of: int) -> None:
            nonlocal last
            if took not in (last, of) and of:
                self._voice.say(f"{took} of {of} pods serve by it …")
            last = took

        try:
            wait = await self._fleet.until(self._wish.pins.sha256, self._wish.wait_s, before, told)
        except KubeError as error:
            sentence = f"generation {self._to} is live, but whether the pods have it can't be seen: {error}"
            raise KubeError(sentence, error.reason) from None
        except asyncio.CancelledError:
            self._voice.warn(f"not waited for any longer: generation {self._to} is live")
            raise
        return await self._end(wait, time.monotonic() - began)

    async def _end(self, wait: Wait, took_s: float) -> int:
        late = await self._late(wait)
        self._say(wait, late, took_s)
        self._voice.end(
            ok=not late,
            pods={
                "took": [one.pod.name for one in wait.took],
                "late": [{"pod": name, "why": why} for name, why in late.items()],
                "starting": [one.pod.name for one in wait.starting],
            },
            waited_s=round(took_s, 1),
        )
        return BEHIND if late else GOOD

    async def _late(self, wait: Wait) -> dict[str, str]:
        """Pod → why it does not have the file; of those that refuse it, some are asked for their reason."""
        late = {one.pod.name: wait.why(one) for one in wait.late}
        refused = [one.pod for one in wait.late if one.metrics.rejected or one.metrics.degraded][:MOST_ASKED]
        for pod, said in zip(refused, await asyncio.gather(*map(self._fleet.last_error, refused)), strict=True):
            if said:
                late[pod.name] += f": {said}"
        return late

    def _say(self, wait: Wait, late: dict[str, str], took_s: float) -> None:
        say, of = self._voice.say, len(wait.took) + len(late)
        if of:
            say(f"{len(wait.took)} of {of} pods serve by generation {self._to}, after {took_s:.1f} s")
        elif not wait.starting:
            say(f"no pod matches {self._store.target.selector}: the next that starts reads generation {self._to}")
        if wait.starting:
            say(f"{_count(len(wait.starting), 'pod')} starting: they read it when they start")
        for line in named(late):
            say(line)
        if late:
            back = "" if self._wish.back else f"take it back: `{front()} rollback{self._again}`; "
            say(f"{back}watch: `{front()} status --watch{self._again}`")


def named(pods: Mapping[str, str]) -> list[str]:
    """A line for each pod and what is amiss with it; of many, how many more."""
    lines = [f"  {name}: {why}" for name, why in pods.items()]
    rest = len(lines) - MOST_NAMED
    return lines if rest <= 0 else [*lines[:MOST_NAMED], f"  … and {rest} more (--format json names all)"]


def _confirm(live: Kept, pods: list[Pod], context: str | None) -> None:
    """Asks the person. Raises RefusedError unless they say yes."""
    if not sys.stdin.isatty():
        raise RefusedError("nobody is there to ask: look at the change, then give --yes")
    where = f"namespace {live.namespace}" + (f", context {context}" if context else "")
    # asyncio would only note a Ctrl-C while we wait here, and go on.
    noting = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print(f"Swap it for {_count(len(pods), 'pod')} in {where}? [y/N] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, noting)
    if answer.strip().lower() not in ("y", "yes"):
        raise RefusedError("nothing was changed")


def _lost_race(error: KubeError, target: str, doubt: str) -> KubeError:
    """A lost race, in words; of any other error, what is sure after it."""
    if error.reason != "Conflict":
        sure = error.reason in REFUSED
        return KubeError(f"{error}; {'nothing was swapped' if sure else doubt}", error.reason)
    again = f"`{front()} diff FILE` shows what is live now"
    return KubeError(f"somebody changed {target} meanwhile, so nothing was swapped: {again}", error.reason)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
