"""What the complaints' tests share: pin files, one way to ask, and a provider that says exactly what it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sidecar.provider import FakeProvider
from tests.faults.upstream import Upstream, serving
from tests.harness import Running, sidecar, until

GPT, MINI, LUNA = "gpt-5.4-2025-11-02", "gpt-5.5-mini-2026-01-10", "gpt-5.6-luna-2026-02-10"
CLAUDE, HAIKU, GEMINI = "claude-sonnet-5-20260112", "claude-haiku-5-20260112", "gemini-3-pro-002"
TURNS: Any = [{"role": "user", "content": "hello"}]
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def pins(pins: str, *, models: Mapping[str, str] | None = None, generation: int = 1, more: str = "") -> str:
    """A pin file. `models`: further facts of some of them, in YAML."""
    homes = {GPT: "openai", MINI: "openai", LUNA: "openai", CLAUDE: "anthropic", HAIKU: "anthropic", GEMINI: "gemini"}
    facts = {name: f"provider: {home}" + (f", {models[name]}" if models and name in models else "")
             for name, home in homes.items()}  # fmt: skip
    catalogue = "".join(f"  {name}: {{{text}}}\n" for name, text in facts.items())
    return f"""
version: 1
generation: {generation}
unlisted: pass
defaults: {{retry: {{base: 2ms, max: 50ms}}}}
{more}
models:
{catalogue}
pins:
{pins}
"""


@dataclass
class Scene:
    running: Running
    http: aiohttp.ClientSession

    @property
    def shared(self) -> Any:
        return self.running.lifecycle.shared

    async def post(
        self, body: Mapping[str, Any], path: str = "/v1/chat/completions", fault: str = "", **headers: str
    ) -> Got:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if fault:
            sent["x-fake-fault"] = fault
        sent.setdefault("content-type", "application/json")
        async with self.http.post(path, data=json.dumps(body), headers=sent) as answer:
            read = b""
            try:
                async for chunk in answer.content.iter_any():
                    read += chunk
            except aiohttp.ClientPayloadError:
                return Got(answer.status, answer.headers, read, broken=True)
            return Got(answer.status, answer.headers, read)

    async def chat(self, pin: str, fault: str = "", *, stream: bool = False, **headers: str) -> Got:
        return await self.post({"model": pin, "messages": TURNS, "stream": stream}, fault=fault, **headers)

    async def idle(self) -> None:
        await until(lambda: self.shared.in_flight == 0)


@dataclass
class Got:
    """An answer, as far as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: bool = False

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def model(self) -> str | None:
        return self.headers.get("x-sidecar-model")


@asynccontextmanager
async def scene(folder: Path, providers: Mapping[str, str], text: str, **settings: Any) -> AsyncIterator[Scene]:
    async with sidecar(folder, providers, pins=text, **settings) as running:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(running.url, connector=connector) as http:
            yield Scene(running, http)


@asynccontextmanager
async def faked(folder: Path, provider: FakeProvider, text: str, **settings: Any) -> AsyncIterator[Scene]:
    """In front of the bundled fake provider."""
    async with scene(folder, bases(provider), text, **settings) as one:
        yield one


@asynccontextmanager
async def scripted(folder: Path, text: str, **settings: Any) -> AsyncIterator[tuple[Scene, Upstream]]:
    """In front of a provider that sends the bytes it is told to."""
    async with serving() as upstream:
        homes = {"openai": f"{upstream.url}/v1", "anthropic": upstream.url, "gemini": upstream.url}
        async with scene(folder, homes, text, **settings) as one:
            yield one, upstream


def bases(provider: FakeProvider) -> dict[str, str]:
    return {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def data(value: Any, event: str = "") -> bytes:
    """One event of a stream."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def asked(provider: FakeProvider) -> list[str]:
    """The models that the provider was asked for, in order."""
    return [record.model for record in provider.ledger.requests]


def rule(fault: str, model: str = "*", times: int | None = None) -> dict[str, Any]:
    return {"match": {"model": model}, "fault": fault} | ({} if times is None else {"times": times})


async def leave(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
