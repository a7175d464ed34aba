"""A sidecar between a raw client and a scripted provider, and the proof that it is well after each case."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import wire
from tests.faults.upstream import JSON, Upstream, serving
from tests.harness import Running, sidecar, until

PINS = """
version: 1
generation: 7
unlisted: reject
defaults: {max_attempts: 1}  # most tests here are about what one attempt comes to; `chat.tried` is as by default
models:
  gpt-5.4-2025-11-02: {provider: openai}
  claude-sonnet-5-20260112: {provider: anthropic}
pins:
  chat.core: {stable: gpt-5.4-2025-11-02, timeouts: {idle: 5s, first_event: 5s}}
  chat.hasty:
    stable: gpt-5.4-2025-11-02
    timeouts: {connect: 300ms, first_event: 300ms, idle: 300ms, content_idle: 900ms, write_stall: 300ms}
  chat.tried: {stable: gpt-5.4-2025-11-02, max_attempts: 3, timeouts: {idle: 500ms, first_event: 5s}}
  assistant: {stable: claude-sonnet-5-20260112}
"""


@dataclass
class Stage:
    running: Running
    upstream: Upstream
    ordinary: str = "chat.core"  # a name that must be answered, even if the kept connection has died

    @property
    def port(self) -> int:
        return self.running.port

    async def ask(self, data: bytes, *, head: bool = False) -> wire.Answer:
        return await wire.ask(self.port, data, head=head)

    async def chat(self, model: str = "chat.core", *headers: bytes, **more: Any) -> wire.Answer:
        return await self.ask(wire.post(wire.chat(model, **more), *headers))

    async def is_well(self) -> None:
        """A healthy request is answered, nothing is held or in flight any more, and no bug was logged."""
        shared = self.running.lifecycle.shared
        self.upstream.answers.clear()
        self.upstream.early, self.upstream.greeting = False, b""
        answer = await self.chat(self.ordinary)
        assert (answer.status, answer.body, answer.complete) == (200, JSON, True)
        await until(lambda: shared.in_flight == 0 and shared.buffers.used == 0)
        for line in self.running.log():
            assert line["message"] != "a bug in the sidecar", line
            assert line["logger"] != "sidecar.loop", line

    def logged(self) -> str:
        """All that was written down so far: log, events, audit."""
        return "".join(path.read_text() for path in self.running.folder.glob("*.jsonl"))


@asynccontextmanager
async def staged(
    folder: Path, providers: Mapping[str, Mapping[str, Any]] | None = None, pins: str = PINS, **settings: Any
) -> AsyncIterator[Stage]:
    """All providers lead to one scripted upstream, told apart by the names that their paths begin with."""
    async with serving() as upstream:
        sections = {
            "openai": {"dialect": "openai", "base_url": f"{upstream.url}/openai/v1"},
            "anthropic": {"dialect": "anthropic", "base_url": f"{upstream.url}/anthropic"},
        }
        for name, more in (providers or {}).items():
            path = "second/v1" if name == "second" else name
            dialect = "openai" if name == "second" else name
            new = {"dialect": dialect, "base_url": f"{upstream.url}/{path}"}
            sections[name] = sections.get(name, new) | dict(more)
        async with sidecar(folder, sections, pins=pins, **settings) as running:
            stage = Stage(running, upstream, "chat.tried" if "chat.tried" in pins else "chat.core")
            yield stage
            await stage.is_well()
