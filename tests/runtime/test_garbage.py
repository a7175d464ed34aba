"""What a request held is gone with it, without the garbage collector: it comes late, and bodies may be large."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import aiohttp
import pytest

from sidecar.dialects.drafts import SplicedDraft
from tests.harness import Running


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("model", ["chat.core", "nobody"])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_body_outlives_its_request(proxy: Running, model: str, stream: bool) -> None:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as http, http.post(f"{proxy.url}/v1/chat/completions", json=body) as answer:
        await answer.read()
    await proxy.event()
    assert [thing for thing in gc.get_objects() if isinstance(thing, SplicedDraft)] == []
