"""A sidecar in front of providers, inside the test's own loop, on free ports, ended with the test."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sidecar.runtime.serve import Lifecycle
from sidecar.settings.load import load_settings

CONFIG = Path(__file__).resolve().parents[2] / "config"
LIMIT_S = 10.0
ONE_PIN = """
version: 1
generation: 1
unlisted: reject
models: {gpt-5.4-2025-11-02: {provider: openai}}
pins: {chat.core: {stable: gpt-5.4-2025-11-02}}
"""


@dataclass
class Running:
    """A sidecar that serves. Its `folder` holds sidecar.yaml, pins.yaml, events.jsonl, audit.jsonl, log.jsonl."""

    lifecycle: Lifecycle
    folder: Path

    @property
    def port(self) -> int:
        return int(self.lifecycle.addresses["listen"][0].rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://{self.lifecycle.addresses['admin'][0]}"

    @property
    def pins(self) -> Path:
        return self.folder / "pins.yaml"

    def events(self, kind: str = "request") -> list[dict[str, Any]]:
        """The events written so far, of one kind."""
        return [e for e in lines(self.folder / "events.jsonl") if e["kind"] == kind]

    async def event(self, index: int = -1, *, count: int = 1, kind: str = "request") -> dict[str, Any]:
        """An event, once at least `count` of its kind are written (they appear within a second of the answer)."""
        await until(lambda: len(self.events(kind)) >= count)
        return self.events(kind)[index]

    def log(self) -> list[dict[str, Any]]:
        return lines(self.folder / "log.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON lines file."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


async def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until something is so; fails after `limit_s`."""
    ends = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def sidecar(
    folder: Path,
    providers: Mapping[str, str | Mapping[str, Any]],
    *,
    pins: str | None = None,
    mounted: Path | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """A running sidecar. `providers`: name → base URL (the dialect is the name's, or openai) or a settings section.

    `pins` is the text of the pin file (default: config/pins.yaml), `mounted` a pin file that stands elsewhere already;
    `settings` are laid over sidecar.yaml.
    """
    if mounted is None:
        (folder / "pins.yaml").write_text(pins if pins is not None else (CONFIG / "pins.yaml").read_text())
    sections = {
        name: {"dialect": name if name in ("anthropic", "gemini") else "openai", "base_url": spec}
        if isinstance(spec, str)
        else dict(spec)
        for name, spec in providers.items()
    }
    config = {
        "listen": ["127.0.0.1:0"],
        "admin": {"listen": "127.0.0.1:0"},
        "pins": str(mounted or "pins.yaml"),
        "providers": sections,
        "events": {"path": "events.jsonl"},
        "audit": {"path": "audit.jsonl"},
        "log": {"path": "log.jsonl", "level": "debug"},
        "drain": {"idle": "0ms", "grace": "1s"},
    } | settings
    path = folder / "sidecar.yaml"
    path.write_text(yaml.safe_dump(config))
    lifecycle = Lifecycle(load_settings(path))
    try:
        await lifecycle.start()
        at_minute_start(lifecycle.shared.state.ledger)
        yield Running(lifecycle, folder)
    finally:
        lifecycle.shared.stop()
        await lifecycle.close()


def at_minute_start(ledger: Any, second: float = 0.5) -> None:
    """Set the ledger's clock into its present UTC minute, so that none ends during a test that lasts less."""
    now = time.monotonic()
    utc = now + ledger.utc_offset_s
    ledger.utc_offset_s += (utc // 60) * 60 + second - utc
