"""Bodies: read whole where a model stands in them, streamed through where none does."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.harness import ONE_PIN, Running, sidecar

LIMIT = 256 * 1024


@pytest.fixture
async def small(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    limits = {"body": "256KiB", "body_idle": "300ms"}
    async with sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=ONE_PIN, limits=limits) as running:
        yield running


def form(purpose: str, size: int) -> aiohttp.FormData:
    line = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"chat.core","x":"%s"}}\n'
    fields = aiohttp.FormData()
    fields.add_field("purpose", purpose)
    fields.add_field(
        "file", io.BytesIO(line % (b"y" * size)), filename="a.jsonl", content_type="application/octet-stream"
    )
    return fields


@pytest.mark.parametrize(
    ("purpose", "size", "status"),
    [("batch", 10, 200), ("batch", 2 * LIMIT, 413), ("fine-tune", 10, 200), ("fine-tune", 8 * LIMIT, 200)],
)
async def test_uploads(small: Running, provider: FakeProvider, purpose: str, size: int, status: int) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{small.url}/v1/files", data=form(purpose, size)) as answer:
            assert answer.status == status
            said = await answer.json()
        if status == 413:
            assert answer.headers["x-sidecar-error"] == "sidecar_too_large"
            return
        async with http.get(f"{provider.url}/v1/files/{said['id']}/content") as content:
            stored = await content.read()
    assert (b"gpt-5.4-2025-11-02" in stored) is (purpose == "batch")
    assert (b"chat.core" in stored) is (purpose != "batch")


async def test_an_untouched_body_has_no_limit(small: Running, provider: FakeProvider) -> None:
    body = io.BytesIO(b"z" * (4 * LIMIT))
    async with aiohttp.ClientSession() as http, http.put(f"{small.url}/v1/anything", data=body) as answer:
        assert answer.status == 200
        assert (await answer.json())["body_size"] == 4 * LIMIT


@pytest.mark.parametrize("path", ["/v1/anything", "/v1/chat/completions"])
async def test_a_body_that_stalls_is_the_clients_fault(small: Running, path: str) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(20)

    async with aiohttp.ClientSession() as http, http.post(small.url + path, data=stalling()) as answer:
        assert answer.status == 400
        assert answer.headers["x-sidecar-error"] == "sidecar_bad_request"


@pytest.mark.parametrize(("path", "status"), [("/v1/chat/completions", 415), ("/v1/anything", 200)])
async def test_an_encoded_body_passes_only_where_it_needs_no_rewriting(small: Running, path: str, status: int) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(small.url + path, data=b"\x1f\x8b", headers=headers) as answer,
    ):
        assert answer.status == status


async def test_an_unknown_expectation(small: Running) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{small.url}/v1/anything", data=b"x", headers={"Expect": "the-unexpected"}) as answer,
    ):
        assert answer.status == 417


async def test_our_own_name_space_never_leads_to_a_provider(small: Running, provider: FakeProvider) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{small.url}/sidecar/nothing") as answer:
        assert answer.status == 404
    assert not provider.ledger.requests
