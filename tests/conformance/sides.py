"""The same script twice: straight to a fake provider, and to another one through the sidecar. Both must come out equal.

The direct run asks for the model that a pin means, the proxied one for the pin's name. Ids that the fake provider
numbers (`chatcmpl-fake7`) and times are made equal before anything is compared; nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2
import openai
from google import genai
from google.genai import errors as gemini_errors
from google.genai import types
from pydantic import BaseModel

from sidecar.provider import FakeProvider
from sidecar.provider.ledger import Record

MEANING = {
    "chat": "gpt-5.4-2025-11-02",
    "once": "gpt-5.4-2025-11-02",
    "other": "gpt-5.5-2026-01-15",
    "instruct": "gpt-instruct-2026-01-01",
    "embed": "text-embedding-3-small",
    "moderate": "omni-moderation-2024-09-26",
    "paint": "gpt-image-2-2026-01-01",
    "hear": "gpt-transcribe-2026-01-01",
    "say": "gpt-tts-2026-01-01",
    "live": "gpt-realtime-2026-01-01",
    "assistant": "claude-sonnet-5-20260112",
    "quick": "claude-haiku-5-20260112",
    "vision": "gemini-3-pro-002",
    "vectors": "gemini-embedding-001",
}
ALWAYS = {"x-sidecar-request-id", "x-sidecar-generation"}
NAMED = ALWAYS | {
    "x-sidecar-model",
    "x-sidecar-pin",
    "x-sidecar-variant",
    "x-sidecar-cache",
    "x-sidecar-attempts",
}
"""What the sidecar adds to each answer, and where a name was resolved (DESIGN 3.4)."""
NO_RETRY = ("x-should-retry", "false")
"""What it adds to an error after several attempts of its own (DESIGN 3.5)."""

# Set by whoever writes the message on this hop: they have no place in the order of the others.
_FRAMING = {"content-length", "transfer-encoding", "connection", "date", "host", "accept-encoding", "upgrade"}
_TIMES = {"created", "created_at", "completed_at", "expires_at", "cancelling_at", "cancel_initiated_at", "cancelled_at"}

Sdk = Any
Script = Callable[[Sdk, Callable[[str], str]], Awaitable[Any]]


def provider_of(model: str) -> str:
    return {"claude": "anthropic", "gemini": "gemini"}.get(model.partition("-")[0], "openai")


def pins(providers: Collection[str] = ("openai", "anthropic", "gemini"), *, defaults: str = "{}") -> str:
    """A pin file in which each name of MEANING means its model; `once` is `chat` without a second attempt.

    `defaults` is that section, as flow YAML.
    """
    meaning = {name: model for name, model in MEANING.items() if provider_of(model) in providers}
    ids = dict.fromkeys(meaning.values())
    models = [f"  {model}: {{provider: {provider_of(model)}, immutable: true}}" for model in ids]
    once = {"once": ", max_attempts: 1"}
    names = [f"  {name}: {{stable: {model}{once.get(name, '')}}}" for name, model in meaning.items()]
    head = ["version: 1", "generation: 7", "unlisted: reject", f"defaults: {defaults}"]
    return "\n".join([*head, "models:", *models, "pins:", *names])


@dataclass
class Seen:
    """What one run came to: what the script returned or how it ended, and the headers of each HTTP answer."""

    result: Any
    answers: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)


@dataclass
class Side:
    """One way to a provider: `url` is what the SDK is told, without `/v1`."""

    url: str
    provider: FakeProvider
    pinned: bool

    def model(self, name: str) -> str:
        return name if self.pinned else MEANING[name]

    async def play(self, sdk: str, script: Script) -> Seen:
        """Run a script with a fresh client of that SDK."""
        seen = Seen(None)

        async def on_response(response: httpx2.Response) -> None:
            seen.answers.append((response.status_code, [(k.decode(), v.decode()) for k, v in response.headers.raw]))

        async with CLIENTS[sdk](self.url, on_response) as client:
            try:
                seen.result = normal(await script(client, self.model))
            except (openai.APIError, anthropic.APIError, gemini_errors.APIError) as exc:
                seen.result = told(exc)
        return seen


@asynccontextmanager
async def openai_client(url: str, hook: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [hook]}, verify=False)  # no TLS here
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="key", max_retries=0, http_client=http) as client:
        yield client


@asynccontextmanager
async def anthropic_client(url: str, hook: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    http = anthropic.DefaultAsyncHttpxClient(event_hooks={"response": [hook]}, verify=False)  # no TLS here
    async with anthropic.AsyncAnthropic(base_url=url, api_key="key", max_retries=0, http_client=http) as client:
        yield client


@asynccontextmanager
async def gemini_client(url: str, hook: Any) -> AsyncIterator[genai.client.AsyncClient]:
    """Its default transport is aiohttp, without hooks."""
    async with AsyncExitStack() as stack:
        client = genai.Client(api_key="key", http_options=types.HttpOptions(base_url=url))
        stack.callback(client.close)
        stack.push_async_callback(client.aio.aclose)
        yield client.aio


CLIENTS = {"openai": openai_client, "anthropic": anthropic_client, "gemini": gemini_client}


def told(exc: Exception) -> dict[str, Any]:
    """All that an app can learn of an SDK's exception, besides its headers."""
    names = ("status_code", "code", "status", "body", "type", "param", "details", "message", "request_id")
    return {"raised": type(exc).__qualname__} | {name: normal(getattr(exc, name, None)) for name in names}


def normal(value: Any) -> Any:
    """Plain data, with the provider's running numbers and times taken out."""
    match value:
        case BaseModel():
            said = normal(value.model_dump(warnings=False))
            request_id = getattr(value, "_request_id", None)
            return {"class": type(value).__name__, "said": said, "request_id": normal(request_id)}
        case {"headers": dict() as headers, "body": _} if len(value) == 2:  # Gemini's `sdk_http_response`
            return end_to_end(list(headers.items()))
        case dict():
            return {key: "time" if key in _TIMES and item is not None else normal(item) for key, item in value.items()}
        case list() | tuple():
            return [normal(item) for item in value]
        case str():
            return re.sub(r"fake\d+", "fakeN", value)
        case _:
            return value


def end_to_end(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers that must cross the proxy, in order."""
    kept = [(name, normal(value)) for name, value in headers if name.lower() not in _FRAMING]
    return [(name, value) for name, value in kept if not name.lower().startswith(("sec-websocket-", "x-sidecar-"))]


def ours(headers: list[tuple[str, str]]) -> set[str]:
    return {name for name, _ in headers if name.startswith("x-sidecar-")}


def arrived(record: Record, *, body: bool = True) -> dict[str, Any]:
    """What a provider saw of a request."""
    headers = [(name.decode(), value.decode()) for name, value in record.raw_headers]
    form = any(value.startswith("multipart/") for name, value in headers if name.lower() == "content-type")
    if form:  # its boundary is drawn by lot
        headers = [h for h in headers if h[0].lower() != "content-type"]
    return {
        "line": (record.method, normal(record.path), normal(record.query)),
        "headers": end_to_end(headers),
        "body": record.body_sha256 if body and not form else None,
        "model": record.model,
    }


@dataclass
class Pair:
    """Both ways."""

    direct: Side
    proxied: Side

    async def play(self, sdk: str, script: Script) -> tuple[Seen, Seen]:
        return await self.direct.play(sdk, script), await self.proxied.play(sdk, script)

    async def same(
        self, sdk: str, script: Script, *, bodies: bool = True, sends: bool = True, attempts: list[int] | None = None
    ) -> Any:
        """Play both and hold everything against each other; returns the common result.

        `bodies=False`: DESIGN 2.1 lets the sidecar add `include_usage` to the body here. `sends=False`: the sidecar
        answers itself (lists of models), so the provider sees nothing. `attempts`: how often the sidecar sends each
        request of the SDK's (once, if nothing is said). The SDK sees one answer for them, which tells it not to try
        again, too.
        """
        direct, proxied = await self.play(sdk, script)
        assert proxied.result == direct.result
        for (status, headers), (expected_status, expected) in zip(proxied.answers, direct.answers, strict=True):
            assert status == expected_status
            again = [NO_RETRY] if status >= 400 and dict(headers).get("x-sidecar-attempts", "1") != "1" else []
            assert end_to_end(headers) == end_to_end(expected) + again
            assert ALWAYS <= ours(headers) <= NAMED
            length, expected_length = (httpx2.Headers(h).get("content-length") for h in (headers, expected))
            # An encoded one depends on the numbers in the body, and these on how often the provider was asked.
            varies = "content-encoding" in httpx2.Headers(expected) or attempts is not None
            assert varies or expected_length in (None, length)
        if sends:
            expected_requests = [arrived(r, body=bodies) for r in self.direct.provider.ledger.requests]
            if attempts is not None:
                pairs = zip(expected_requests, attempts, strict=True)
                expected_requests = [request for request, times in pairs for _ in range(times)]
            assert [arrived(r, body=bodies) for r in self.proxied.provider.ledger.requests] == expected_requests
        return direct.result
