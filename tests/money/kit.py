"""A sidecar whose every model has a budget and a price, and both sides' books: ours, and what the provider billed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar, until

GPT, MINI, CLAUDE, HAIKU, GEMINI = (
    "gpt-5.4-2025-11-02",
    "gpt-5.5-mini-2026-01-10",
    "claude-sonnet-5-20260112",
    "claude-haiku-5-20260112",
    "gemini-3-pro-002",
)
PRICES = {GPT: (2.0, 10.0), MINI: (1.0, 4.0), CLAUDE: (3.0, 15.0), HAIKU: (1.0, 5.0), GEMINI: (2.0, 8.0)}
"""USD per million tokens of input and output."""

_LIMITS = (
    "requests_per_minute: 100000, input_tokens_per_minute: 100000000, output_tokens_per_minute: 100000000, "
    "tokens_per_day: 100000000, usd_per_day: 100000"
)


def _model(name: str) -> str:
    provider = {"c": "anthropic", "g": "openai"}[name[0]] if name != GEMINI else "gemini"
    price = f"{{input: {PRICES[name][0]}, output: {PRICES[name][1]}}}"
    return f"  {name}: {{provider: {provider}, price: {price}, budget: {{{_LIMITS}}}}}\n"


LONG = "-a-name-that-is-longer-than-what-the-sidecar-puts-in-its-place-when-it-asks-for-usage"
"""The fake provider bills a quarter of the body's bytes, those that we put in too. A real one bills texts."""

PINS = f"""
version: 1
generation: 1
unlisted: reject
defaults: {{retry: {{base: 5ms, max: 20ms}}}}
models:
{"".join(_model(name) for name in PRICES)}
pins:
  openai{LONG}: {{stable: {GPT}}}
  anthropic{LONG}: {{stable: {CLAUDE}}}
  gemini{LONG}: {{stable: {GEMINI}}}
  once{LONG}: {{stable: {GPT}, max_attempts: 1}}
  falls{LONG}: {{stable: {GPT}, fallback: [{MINI}], max_attempts: 2}}
  hedged{LONG}: {{stable: {GPT}, hedge: {{model: {MINI}, after: 20ms}}}}
  hasty{LONG}: {{stable: {GPT}, max_attempts: 1, timeouts: {{idle: 200ms, first_event: 200ms}}}}
  kept{LONG}: {{stable: {GPT}, cache: {{ttl: 60s, always: true}}}}
  spent{LONG}: {{stable: {GPT}, over_budget: {MINI}, budget: {{requests_per_minute: 1}}}}
"""


@dataclass
class Books:
    """One model's."""

    requests: int = 0
    input: int = 0
    output: int = 0
    usd: float = 0.0

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass
class Stand:
    running: Running
    provider: FakeProvider
    http: aiohttp.ClientSession

    @property
    def ledger(self) -> Any:
        return self.running.lifecycle.shared.state.ledger

    def booked(self, model: str) -> Books:
        """What our ledger says was used of a model."""
        levels = {level.limit: level for level in self.ledger.levels(time.monotonic(), [("model", model)])}
        books = Books(
            int(levels["requests_per_minute"].used),
            int(levels["input_tokens_per_minute"].used),
            int(levels["output_tokens_per_minute"].used),
            levels["usd_per_day"].used,
        )
        assert levels["tokens_per_day"].used == books.total, "the limits of one account tell the same story"
        return books

    def billed(self, model: str) -> Books:
        """What the provider billed for it."""
        books = Books()
        for record in self.provider.ledger.requests:
            if record.model == model:
                books.requests += 1
                books.input += record.prompt_tokens
                books.output += record.completion_tokens
        books.usd = (books.input * PRICES[model][0] + books.output * PRICES[model][1]) / 1e6
        return books

    def reserved(self) -> dict[str, float]:
        levels = self.ledger.levels(time.monotonic())
        return {f"{level.account} {level.limit}": level.reserved for level in levels if level.reserved}

    async def ask(self, dialect: str, pin: str, *, stream: bool, fault: str = "", text: str = "hello you") -> Answer:
        path, body, headers = call(dialect, pin, stream=stream, text=text)
        if fault:
            headers["x-fake-fault"] = fault
        async with self.http.post(path, data=json.dumps(body), headers=headers) as answer:
            try:
                return Answer(answer, await answer.read())
            except aiohttp.ClientPayloadError:
                return Answer(answer, None)

    async def settled(self) -> None:
        """Until both sides have ended everything."""
        shared = self.running.lifecycle.shared
        await until(lambda: shared.in_flight == 0 and self.provider.ledger.open == 0)


@dataclass
class Answer:
    """`body` is None where it broke off."""

    response: aiohttp.ClientResponse
    body: bytes | None

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str | None:
        return self.response.headers.get(name)


def call(
    dialect: str, pin: str, *, stream: bool, text: str = "hello you"
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Path, body and headers of a call."""
    pin += LONG
    turns = [{"role": "user", "content": text}]
    headers = {"content-type": "application/json"}
    match dialect:
        case "openai":
            return "/v1/chat/completions", {"model": pin, "messages": turns, "stream": stream}, headers
        case "responses":
            return "/v1/responses", {"model": pin, "input": text, "stream": stream, "store": False}, headers
        case "anthropic":
            body = {"model": pin, "messages": turns, "stream": stream, "max_tokens": 500}
            return "/v1/messages", body, headers | {"anthropic-version": "2023-06-01"}
        case _:
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            return f"/v1beta/models/{pin}:{method}", {"contents": [{"parts": [{"text": text}]}]}, headers


@asynccontextmanager
async def stand(folder: Path, provider: FakeProvider, pins: str = PINS, **settings: Any) -> AsyncIterator[Stand]:
    bases = {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}
    async with sidecar(folder, bases, pins=pins, **settings) as running:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(running.url, connector=connector) as http:
            yield Stand(running, provider, http)


async def leave_when(stand: Stand, asking: asyncio.Task[Any], when: Any) -> None:
    """The client leaves as soon as something is so."""
    await until(when, 3.0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
