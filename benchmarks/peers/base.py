"""What a peer is: a gateway or proxy that others wrote, installed, configured and started as its own docs recommend.

One file a peer. It decides which version is measured and how it is set up; what is measured, and how, it doesn't know.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks.systems import Running

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements"
CACHE = Path(os.environ.get("MODEL_SIDECAR_BENCH_CACHE") or Path.home() / ".cache" / "model-sidecar" / "bench")
"""Where peers are installed: outside the checkout, so that a clean of it leaves them."""

DIRECT = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
"""The provider is on this machine: no forward proxy that the environment names stands before it."""


class SkippedError(Exception):
    """A peer can't be had on this machine. The message says why, in a few words for the table."""


class Peer(ABC):
    """One of those we are measured beside. `setup` is how it is configured and why, in a sentence or two."""

    name: ClassVar[str]
    setup: ClassVar[str]
    model: ClassVar[str] = "chat.core"
    """The name to ask for: an alias, where the peer can resolve one."""
    warm_up: ClassVar[int] = 200
    """Requests to send before measuring: until caches are filled and code is compiled."""

    def __init__(self, cache: Path = CACHE) -> None:
        self.home = cache / self.name

    @abstractmethod
    def install(self) -> None:
        """Put it on this machine, unless it is there. Raises SkippedError."""

    @abstractmethod
    def version(self) -> str:
        """Its own word for its version, once installed."""

    @abstractmethod
    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        """Start it in front of the provider on port `upstream`, with its configuration in `folder`.

        It listens when this returns. Raises StartError.
        """


def fill(template: str, **values: object) -> str:
    """The template with each `{{name}}` replaced: the files of others are full of single braces and `$`."""
    for name, value in values.items():
        template = template.replace("{{" + name + "}}", str(value))
    return template
