"""The part of the tour in which models fail, are slow, and are asked the same twice."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass

from openai import AsyncOpenAI


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of how it came about."""

    model: str
    attempts: str
    cache: str
    took_ms: float
    why: str


class Trouble:
    """Makes the fake provider misbehave, and asks by the SDK whether an app would notice."""

    def __init__(self, openai: AsyncOpenAI, provider_port: int) -> None:
        self._openai = openai
        self._script = f"http://127.0.0.1:{provider_port}/fake/script"

    def make(self, model: str, fault: str) -> None:
        """From now on every call of that model goes wrong in that way."""
        self._put([{"match": {"model": model}, "fault": fault}])

    def end(self) -> None:
        self._put([])

    async def ask(self, name: str, **options: float) -> Told:
        started = time.monotonic()
        raw = await self._openai.chat.completions.with_raw_response.create(
            model=name,
            messages=[{"role": "user", "content": "Does anybody answer?"}],
            extra_headers={"x-sidecar-explain": "1"},
            **options,  # type: ignore[call-overload]
        )
        h = raw.headers
        return Told(
            h["x-sidecar-model"],
            h["x-sidecar-attempts"],
            h["x-sidecar-cache"],
            (time.monotonic() - started) * 1000,
            h["x-sidecar-why"],
        )

    def _put(self, rules: list[dict[str, object]]) -> None:
        request = urllib.request.Request(  # noqa: S310 - our own fake provider
            self._script, json.dumps(rules).encode(), {"content-type": "application/json"}, method="PUT"
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310


async def trouble(openai: AsyncOpenAI, provider_port: int) -> list[tuple[str, Told, bool]]:
    """What went wrong, what the app got, and whether that is as it should be."""
    provider = Trouble(openai, provider_port)
    seen: list[tuple[str, Told, bool]] = []
    try:
        provider.make("gpt-5.6-luna-*", "status=503")
        told = await provider.ask("chat.lowlatency")
        seen.append(("the model answers 503", told, told.model.startswith("gpt-5.5-mini") and told.attempts == "3"))
        provider.make("gpt-5.6-sol-*", "delay=3s")
        told = await provider.ask("chat.research")
        seen.append(("the model takes 3 s", told, told.model.startswith("gpt-5.6-luna") and told.took_ms < 2500))
        provider.end()
        first = await provider.ask("chat.core", temperature=0)
        told = await provider.ask("chat.core", temperature=0)
        seen.append(("the same question twice", told, (first.cache, told.cache, told.attempts) == ("miss", "hit", "0")))
    finally:
        provider.end()
    return seen
