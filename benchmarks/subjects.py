"""Who can be measured, by name: ours, the yardstick, and the peers (`benchmarks.peers`), with their versions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import sidecar
from benchmarks import systems
from benchmarks.figures import YARDSTICK, System
from benchmarks.measures import strong
from benchmarks.measures.bench import OURS
from benchmarks.peers import PEERS, Peer, survey
from benchmarks.systems import Running


@dataclass(frozen=True, slots=True)
class Ours:
    """The sidecar as `python -m sidecar serve` starts it."""

    name: ClassVar[str] = OURS
    setup: ClassVar[str] = "one pin with a price, metrics and events on (to a file), log at warning; defaults otherwise"
    warm_up: ClassVar[int] = 300

    def version(self) -> str:
        return sidecar.__version__

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        return systems.sidecar(folder, upstream, cores=cores)


@dataclass(frozen=True, slots=True)
class Yardstick:
    """benchmarks/passthrough.py."""

    name: ClassVar[str] = YARDSTICK
    setup: ClassVar[str] = "aiohttp alone, tuned as well as its public interfaces allow; decides and counts nothing"
    warm_up: ClassVar[int] = 300

    def version(self) -> str:
        return f"aiohttp {version('aiohttp')}"

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        return systems.passthrough(folder, upstream, cores=cores)


Anyone = Ours | Yardstick | Peer
OWN: tuple[Ours | Yardstick, ...] = (Ours(), Yardstick())


def names() -> list[str]:
    """Everyone's, in the order of the table."""
    return [one.name for one in (*OWN, *PEERS)]


def chosen(wanted: Collection[str]) -> list[Anyone]:
    return [one for one in (*OWN, *PEERS) if one.name in wanted]


def told(one: Anyone) -> System:
    """With its version, or why it is skipped. A peer that isn't there is installed, which may take minutes."""
    if isinstance(one, Peer):
        return survey(one)
    return System(one.name, version=one.version(), setup=one.setup)


def at_hand(one: Peer) -> System:
    """As `told`, but nothing is installed."""
    if (one.home / "installed").exists() or strong.program(one.name):
        return survey(one)
    return System(one.name, setup=one.setup, skipped="not installed yet: a run does it, and `list --install`")
