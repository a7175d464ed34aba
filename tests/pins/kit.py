"""Pin files for tests, the ways in which people swap them, and a look at what a sidecar made of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from sidecar.provider import FakeProvider
from tests.harness import Running, until

LIMIT_S = 10.0
"""Ten times the promise that a swap is seen within a second."""


def model_of(generation: int) -> str:
    """The model that `pins(generation)` pins: it belongs to this generation alone."""
    return f"gpt-g{generation}-2026-01-01"


def pins(generation: int, *, unlisted: str = "reject", model: str | None = None, extra: str = "") -> str:
    """A small pin file: `chat.core` with a canary of 50 %, each at models of this generation only."""
    stable = model or model_of(generation)
    return f"""\
version: 1
generation: {generation}
unlisted: {unlisted}
models:
  {stable}: {{provider: openai, context: 128000, latency_ms: 500, price: {{input: 1.0, output: 2.0}}}}
  canary-{stable}: {{provider: openai, context: 64000, latency_ms: 300, price: {{input: 1.0, output: 2.0}}}}
pins:
  chat.core:
    stable: {stable}
    variants:
      canary: {{model: canary-{stable}, percent: 50}}
aliases:
  "model://core/chat@1.0.0": {stable}
{extra}"""


def bases(provider: FakeProvider) -> dict[str, str]:
    return {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}


# --- three ways to swap a file ---------------------------------------------------------------------------------------


def overwrite(path: Path, text: str) -> None:
    """What an editor or `cp` does: the same inode, other bytes."""
    path.write_text(text)


def rename(path: Path, text: str) -> None:
    """What careful programs do: a new file, moved over the old one."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    aside.rename(path)


class Mount:
    """A ConfigMap as Kubernetes' AtomicWriter keeps it: `pins.yaml -> ..data/pins.yaml`, `..data -> ..<time>`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    @property
    def pins(self) -> Path:
        return self.folder / "pins.yaml"

    def swap(self, text: str) -> None:
        self.folder.mkdir(exist_ok=True)
        old = self.folder / "..data"
        before = old.resolve() if old.is_symlink() else None
        self._count += 1
        stamped = self.folder / f"..2026_01_01_00_00_{self._count:02}.{self._count}"
        stamped.mkdir()
        (stamped / "pins.yaml").write_text(text)
        (self.folder / "..data_tmp").symlink_to(stamped.name)
        (self.folder / "..data_tmp").rename(old)
        if not self.pins.is_symlink():
            self.pins.symlink_to("..data/pins.yaml")
        if before is not None:
            shutil.rmtree(before)


# --- what a sidecar says ---------------------------------------------------------------------------------------------


def generation(at: Running) -> str | None:
    snapshot = at.lifecycle.shared.pinned.snapshot
    return None if snapshot is None else snapshot.pins.label


def value(at: Running, name: str, labels: Mapping[str, str] | None = None) -> float:
    """A sample of the metrics, 0 if there is none."""
    return at.lifecycle.shared.metrics.registry.get_sample_value(name, dict(labels or {})) or 0.0


def reloads(at: Running, result: str) -> int:
    return int(value(at, "sidecar_pins_reloads_total", {"result": result}))


async def took(at: Running, wanted: int | str) -> float:
    """Seconds until this generation is in use."""
    began = time.monotonic()
    await until(lambda: generation(at) == str(wanted), LIMIT_S)
    return time.monotonic() - began


async def looks(at: Running) -> None:
    """Until the file was looked at once more, whatever came of it (SIGHUP's way, so that nobody waits for a poll)."""
    done = asyncio.Event()
    pinned = at.lifecycle.shared.pinned
    judge = pinned.judge

    def seen(found: Any) -> None:
        judge(found)
        pinned.judge = judge  # type: ignore[method-assign]
        done.set()

    pinned.judge = seen  # type: ignore[method-assign]
    at.lifecycle.reloader.reload_now()
    await asyncio.wait_for(done.wait(), LIMIT_S)


async def chat(http: aiohttp.ClientSession, at: Running, model: str = "chat.core", **more: Any) -> Answer:
    """One chat completion. `headers` and members of the body may be given."""
    headers = more.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | more
    async with http.post(f"{at.url}/v1/chat/completions", json=body, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


async def admin(http: aiohttp.ClientSession, at: Running, path: str, *, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of the admin port; POST if there is a body."""
    call = http.get(at.admin + path) if body is None else http.post(at.admin + path, json=body)
    async with call as answer:
        return answer.status, await answer.json(content_type=None)


def touch(path: Path) -> None:
    os.utime(path)
