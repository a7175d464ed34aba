"""A bug of ours must not look like an answer."""

from __future__ import annotations

import aiohttp
import pytest

from sidecar.runtime import upstream
from sidecar.runtime.relay import Relay
from tests.harness import Running, until

BODY = {"model": "chat.core", "messages": [{"role": "user", "content": "hi"}]}


def bug(*_: object, **__: object) -> None:
    raise RuntimeError("sk-canary in an exception's text")


async def test_a_bug_before_the_answer_is_a_500_that_tells_nothing(
    proxy: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream.Upstream, "headers", bug)
    async with aiohttp.ClientSession() as http, http.post(f"{proxy.url}/v1/chat/completions", json=BODY) as answer:
        assert (answer.status, answer.headers["x-sidecar-error"]) == (500, "sidecar_internal")
        assert "canary" not in await answer.text()
    assert (await proxy.event())["error"] == "sidecar_internal"
    await until(proxy.log)  # a thread writes it
    assert "canary" not in (proxy.folder / "log.jsonl").read_text()


async def test_a_bug_in_the_middle_breaks_the_answer_off(proxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relay, "_events", bug)
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError):
            async with http.post(f"{proxy.url}/v1/chat/completions", json=BODY | {"stream": True}) as answer:
                assert answer.status == 200
                await answer.read()
    assert (await proxy.event())["error"] == "sidecar_internal"
