"""Answers given again, over real sockets: bytes as they were, one upstream call for many, leaders that leave.

Ends of things are promised within 100 ms on an idle machine (DESIGN 3.8); these tests allow ten times as much.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from google import genai

from sidecar.cli import main
from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar, until

ALLOWED_S = 1.0
PINS = """
version: 1
generation: 1
unlisted: reject
defaults: {max_attempts: 1}
models:
  gpt-5.4-2025-11-02: {provider: openai}
  gpt-5.5-2026-01-15: {provider: openai}
  claude-sonnet-5-20260112: {provider: anthropic}
  gemini-3-pro-002: {provider: gemini}
pins:
  kept: {stable: gpt-5.4-2025-11-02, cache: {ttl: 60s}}
  always: {stable: gpt-5.4-2025-11-02, cache: {ttl: 60s, always: true}}
  plain: {stable: gpt-5.4-2025-11-02}
  falls: {stable: gpt-5.4-2025-11-02, fallback: [gpt-5.5-2026-01-15], max_attempts: 2, cache: {ttl: 60s}}
  claude: {stable: claude-sonnet-5-20260112, cache: {ttl: 60s}}
  gemini: {stable: gemini-3-pro-002, cache: {ttl: 60s}}
"""
TURNS = [{"role": "user", "content": "Say something."}]
CHAT = {"model": "kept", "messages": TURNS, "temperature": 0}
GEMINI = {"contents": [{"parts": [{"text": "Say something."}]}], "generationConfig": {"temperature": 0}}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat, streamed": ("/v1/chat/completions", CHAT | {"stream": True}),
    "chat, streamed with usage": (
        "/v1/chat/completions",
        CHAT | {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "a seed": ("/v1/chat/completions", {"model": "kept", "messages": TURNS, "seed": 7}),
    "completions": ("/v1/completions", {"model": "kept", "prompt": "a", "temperature": 0}),
    "responses": ("/v1/responses", {"model": "kept", "input": "a", "temperature": 0, "store": False}),
    "responses, streamed": (
        "/v1/responses",
        {"model": "kept", "input": "a", "temperature": 0, "store": False, "stream": True},
    ),
    "embeddings": ("/v1/embeddings", {"model": "kept", "input": "a"}),
    "messages": ("/v1/messages", {"model": "claude", "max_tokens": 50, "messages": TURNS, "temperature": 0}),
    "messages, streamed": (
        "/v1/messages",
        {"model": "claude", "max_tokens": 50, "messages": TURNS, "temperature": 0, "stream": True},
    ),
    "gemini": ("/v1beta/models/gemini:generateContent", GEMINI),
    "gemini, streamed": ("/v1beta/models/gemini:streamGenerateContent?alt=sse", GEMINI),
    "gemini, streamed as an array": ("/v1beta/models/gemini:streamGenerateContent", GEMINI),
    "by chance, always": ("/v1/chat/completions", {"model": "always", "messages": TURNS}),
}


@pytest.fixture
async def running(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    bases = {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}
    async with sidecar(tmp_path, bases, pins=PINS) as one:
        yield one


@pytest.fixture
async def client(running: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


class Got:
    """An answer, read whole."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def cache(self) -> str | None:
        return self.headers.get("x-sidecar-cache")


async def ask(client: aiohttp.ClientSession, path: str, body: Any, fault: str = "", **more: str) -> Got:
    headers = {"authorization": "Bearer one"} | {k.replace("_", "-"): v for k, v in more.items()}
    if fault:
        headers["x-fake-fault"] = fault
    async with client.post(path, json=body, headers=headers) as response:
        return Got(response, await response.read())


async def chat(client: aiohttp.ClientSession, fault: str = "", **more: str) -> Got:
    return await ask(client, "/v1/chat/completions", CHAT, fault, **more)


def flights(running: Running) -> Any:
    return running.lifecycle.shared.state.flights


@asynccontextmanager
async def nothing_left(running: Running) -> AsyncIterator[None]:
    """After the block, soon: nobody waits, nothing is in flight, held or connected, no task more than before."""
    shared = running.lifecycle.shared
    before = len(asyncio.all_tasks())
    yield
    await until(lambda: shared.in_flight == 0 and shared.buffers.used == 0 and not shared.watches, ALLOWED_S)
    assert len(flights(running)) == 0
    await until(lambda: not shared.upstream._session.connector._acquired, ALLOWED_S)
    # One more is the fake provider's, which listens on a kept connection in this same loop.
    await until(lambda: len(asyncio.all_tasks()) <= before + 1, ALLOWED_S)


@pytest.mark.parametrize("call", CALLS)
async def test_the_second_answer_is_the_first(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider, call: str
) -> None:
    path, body = CALLS[call]
    extra = {"anthropic_version": "2023-06-01"} if path == "/v1/messages" else {}
    first = await ask(client, path, body, **extra)
    await until(lambda: running.lifecycle.shared.in_flight == 0)
    second = await ask(client, path, body, **extra)
    assert (first.status, second.status) == (200, 200)
    assert (first.cache, second.cache) == ("miss", "hit")
    assert (first.headers["x-sidecar-attempts"], second.headers["x-sidecar-attempts"]) == ("1", "0")
    assert second.body == first.body
    ours = {"x-sidecar-request-id", "x-sidecar-cache", "x-sidecar-attempts", "content-length", "transfer-encoding"}
    rest = [[(k, v) for k, v in got.headers.items() if k.lower() not in ours] for got in (first, second)]
    assert rest[0] == rest[1]
    assert len(provider.ledger.requests) == 1
    event = await running.event(count=2)
    assert (event["cache"], event["attempts"], event["status"], event["error"]) == ("hit", [], 200, None)


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # google-genai
async def test_sdks_take_a_hit_for_an_answer(running: Running, provider: FakeProvider) -> None:
    turns: Any = TURNS
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="k") as sdk:
        texts = set()
        for _ in range(3):
            whole = await sdk.chat.completions.create(model="kept", messages=turns, temperature=0)
            texts.add(whole.choices[0].message.content)
        for _ in range(3):
            stream = await sdk.chat.completions.create(model="kept", messages=turns, temperature=0, stream=True)
            texts.add("".join([c.choices[0].delta.content or "" async for c in stream]))
            await until(lambda: running.lifecycle.shared.in_flight == 0)
    assert len(texts) == 1
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key="k") as claude:
        said = [
            await claude.messages.create(model="claude", max_tokens=9, messages=turns, extra_body={"temperature": 0})
            for _ in range(2)
        ]
    assert said[0] == said[1]
    google = genai.Client(api_key="k", http_options={"base_url": running.url})
    for _ in range(2):
        await google.aio.models.generate_content(model="gemini", contents="a", config={"temperature": 0})
    await google.aio.aclose()
    assert len(provider.ledger.requests) == 4


async def test_a_compressed_answer_is_kept_as_it_is(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    first = await chat(client, "encoding=gzip", accept_encoding="gzip")
    second = await chat(client, accept_encoding="gzip")
    assert (second.cache, second.body) == ("hit", first.body)
    assert second.headers["content-encoding"] == "gzip"
    assert (await chat(client, accept_encoding="identity")).cache == "miss", "it couldn't read it"
    assert len(provider.ledger.requests) == 2


async def test_two_credentials_never_share(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    answers = [await chat(client, authorization=f"Bearer {key}") for key in ("one", "two", "one")]
    assert [got.cache for got in answers] == ["miss", "miss", "hit"]
    both = [chat(client, "delay=100ms", authorization=f"Bearer {key}") for key in ("three", "four")]
    assert [got.cache for got in await asyncio.gather(*both)] == ["miss", "miss"]
    assert len(provider.ledger.requests) == 4


@pytest.mark.parametrize(
    ("fault", "more"),
    [
        ("status=500", {}),
        ("status=429", {}),
        ("status=400", {}),
        ("cut=body", {}),
        ("", {"max_tokens": 1}),
        ("cut=3", {"stream": True}),
        ("eof=3", {"stream": True}),
        ("error=3", {"stream": True}),
        ("", {"stream": True, "max_tokens": 1}),
        ("", {"tools": [{"type": "web_search"}]}),
        ("", {"store": True}),
        ("", {"temperature": 0.5}),
        ("", {"model": "plain"}),
        ("", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
    ],
)
async def test_what_is_never_kept(
    client: aiohttp.ClientSession, provider: FakeProvider, fault: str, more: dict[str, Any]
) -> None:
    for sent in (fault, ""):
        try:
            got = await ask(client, "/v1/chat/completions", CHAT | more, sent)
            assert got.cache in ("miss", "off")
        except aiohttp.ClientPayloadError:
            assert sent
    assert len(provider.ledger.requests) == 2


async def test_bypass_and_refresh(running: Running, client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    said = ["", "bypass", "", "refresh", ""]
    answers = [await chat(client, x_sidecar_cache=word) for word in said]
    assert [got.cache for got in answers] == ["miss", "bypass", "hit", "miss", "hit"]
    assert answers[2].body == answers[0].body
    assert answers[4].body == answers[3].body
    assert len(provider.ledger.requests) == 3
    assert all(name.lower() != "x-sidecar-cache" for r in provider.ledger.requests for name, _ in r.headers)


async def test_a_pin_that_is_pointed_elsewhere_misses(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    await chat(client)
    was, becomes = "kept: {stable: gpt-5.4-2025-11-02", "kept: {stable: gpt-5.5-2026-01-15"
    running.pins.write_text(PINS.replace("generation: 1", "generation: 2").replace(was, becomes))
    await until(lambda: running.lifecycle.shared.pinned.snapshot.pins.generation == 2)
    got = await chat(client)
    assert (got.cache, got.headers["x-sidecar-model"]) == ("miss", "gpt-5.5-2026-01-15")
    assert [r.model for r in provider.ledger.requests] == ["gpt-5.4-2025-11-02", "gpt-5.5-2026-01-15"]


async def test_a_thousand_at_once_make_one_call(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    async with nothing_left(running):
        answers = await asyncio.gather(*(chat(client, "delay=1500ms") for _ in range(1000)))
        await client.connector.close()  # type: ignore[union-attr]
    assert len(provider.ledger.requests) == 1
    caches = [got.cache for got in answers]
    assert caches.count("miss") == 1
    assert set(caches) <= {"miss", "coalesced", "hit"}
    assert len({got.body for got in answers}) == 1
    assert {got.headers["x-sidecar-attempts"] for got in answers if got.cache != "miss"} == {"0"}
    assert len({got.headers["x-sidecar-request-id"] for got in answers}) == 1000


async def leading(running: Running, fault: str, body: Any = CHAT) -> asyncio.StreamWriter:
    """A leader on a connection of its own, once its call is under way."""
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    data = json.dumps(body).encode()
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Authorization: Bearer one", "Accept: */*"]
    head += ["Accept-Encoding: gzip, deflate", f"x-fake-fault: {fault}", "Content-Length: " + str(len(data)), "", ""]
    writer.write("\r\n".join(head).encode() + data)
    await until(lambda: len(flights(running)) == 1)
    return writer


LIKE_LEADER = {"accept": "*/*", "accept_encoding": "gzip, deflate"}


async def following(running: Running, client: aiohttp.ClientSession, count: int) -> list[asyncio.Task[Got]]:
    tasks = [asyncio.create_task(chat(client, **LIKE_LEADER)) for _ in range(count)]
    await until(lambda: flights(running).waiting == count)
    return tasks


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("fault", ["delay=500ms", "slow-body=500ms"])
async def test_a_leader_that_leaves_hands_over(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider, fault: str, how: str
) -> None:
    async with nothing_left(running):
        writer = await leading(running, fault)
        tasks = await following(running, client, 3)
        writer.transport.abort() if how == "reset" else writer.close()
        answers = await asyncio.gather(*tasks)
        await client.connector.close()  # type: ignore[union-attr]
    assert [(got.status, got.cache) for got in answers] == [(200, "coalesced")] * 3
    assert len(provider.ledger.requests) == 1
    assert provider.ledger.aborted == 0
    await running.event(count=4)
    assert sorted(e["cache"] for e in running.events()) == ["coalesced", "coalesced", "coalesced", "miss"]


async def test_what_a_leader_that_left_has_fetched_is_kept(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    writer = await leading(running, "delay=300ms")
    tasks = await following(running, client, 1)
    writer.transport.abort()
    await asyncio.gather(*tasks)
    assert (await chat(client, **LIKE_LEADER)).cache == "hit"


async def test_when_the_last_one_has_left_the_call_ends(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    async with nothing_left(running):
        writer = await leading(running, "delay=9s")
        await until(lambda: provider.ledger.open == 1)
        tasks = await following(running, client, 3)
        writer.transport.abort()
        for task in tasks[:2]:
            task.cancel()
        await until(lambda: flights(running).waiting == 1)
        assert provider.ledger.open == 1, "one still waits"
        tasks[2].cancel()
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert provider.ledger.requests[0].outcome == "client_gone"


async def test_a_leader_alone_ends_with_its_client(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    async with nothing_left(running):
        writer = await leading(running, "delay=9s")
        tasks = await following(running, client, 1)
        await until(lambda: provider.ledger.open == 1)
        tasks[0].cancel()
        await until(lambda: flights(running).waiting == 0)
        assert provider.ledger.open == 1, "its own client is still there"
        writer.transport.abort()
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)


async def test_the_next_request_on_a_leader_s_connection_ends_with_its_client(
    running: Running, provider: FakeProvider
) -> None:
    async with nothing_left(running):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for fault, body in (("delay=50ms", CHAT), ("delay=9s", CHAT | {"model": "plain"})):
            data = json.dumps(body).encode()
            head = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", f"x-fake-fault: {fault}"]
            writer.write("\r\n".join([*head, f"Content-Length: {len(data)}", "", ""]).encode() + data)
            if body is CHAT:
                await reader.readuntil(b"}}")
        await until(lambda: provider.ledger.open == 1)
        writer.transport.abort()
        await until(lambda: provider.ledger.open == 0, ALLOWED_S)


async def test_followers_keep_their_own_deadlines(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    async with nothing_left(running):
        writer = await leading(running, "delay=600ms")
        patient = asyncio.create_task(chat(client, **LIKE_LEADER))
        hasty = await chat(client, **LIKE_LEADER, x_stainless_read_timeout="0.2")
        assert (hasty.status, hasty.headers["x-sidecar-error"]) == (504, "sidecar_upstream_timeout")
        assert hasty.cache == "coalesced"
        assert (await patient).status == 200
        writer.close()
        await client.connector.close()  # type: ignore[union-attr]
    assert len(provider.ledger.requests) == 1


async def test_an_error_is_shared_with_those_who_wait_and_then_forgotten(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    writer = await leading(running, "delay=300ms; status=500")
    tasks = await following(running, client, 2)
    answers = await asyncio.gather(*tasks)
    assert [(got.status, got.cache) for got in answers] == [(500, "coalesced")] * 2
    assert "x-sidecar-error" not in answers[0].headers, "it is the provider's own"
    assert len(provider.ledger.requests) == 1
    assert (await chat(client, **LIKE_LEADER)).cache == "miss"
    writer.close()


@pytest.mark.parametrize("fault", ["delay=300ms; cut=headers", "slow-body=300ms; cut=body"])
async def test_a_leader_without_an_answer_is_followed_by_the_next(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider, fault: str
) -> None:
    writer = await leading(running, fault)
    tasks = await following(running, client, 5)
    answers = await asyncio.gather(*tasks)
    assert [got.status for got in answers] == [200] * 5
    assert sorted(got.cache or "" for got in answers) == ["coalesced"] * 4 + ["miss"]
    assert len(provider.ledger.requests) == 2
    writer.close()


async def test_a_leader_s_fallback_is_named_and_kept_as_what_it_is(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script([{"match": {"model": "gpt-5.4-*"}, "fault": "delay=300ms; status=500"}])
    body = CHAT | {"model": "falls"}
    leader = asyncio.create_task(ask(client, "/v1/chat/completions", body))
    await until(lambda: len(flights(running)) == 1)
    follower = await ask(client, "/v1/chat/completions", body)
    assert ((await leader).cache, follower.cache) == ("miss", "coalesced")
    assert follower.headers["x-sidecar-model"] == "gpt-5.5-2026-01-15"
    assert (await ask(client, "/v1/chat/completions", body)).cache == "miss", "it is no answer of the stable model"


async def test_who_refuses_a_fallback_does_not_wait_for_one(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script([{"match": {"model": "gpt-5.4-*"}, "fault": "delay=300ms; status=404; code=model_not_found"}])
    body = CHAT | {"model": "falls"}
    leader = asyncio.create_task(ask(client, "/v1/chat/completions", body))
    await until(lambda: len(flights(running)) == 1)
    alone = await ask(client, "/v1/chat/completions", body, x_sidecar_fallback="off")
    assert (alone.status, alone.headers["x-sidecar-model"]) == (404, "gpt-5.4-2025-11-02")
    assert (await leader).headers["x-sidecar-model"] == "gpt-5.5-2026-01-15"


async def test_a_stream_is_not_copied_beyond_what_may_be_held(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    shared = running.lifecycle.shared
    shared.buffers.limit = 400  # the request, and a few of its answer's pieces
    for _ in range(2):
        got = await ask(client, "/v1/chat/completions", CHAT | {"stream": True})
        assert (got.status, got.cache, got.body[-8:]) == (200, "miss", b"[DONE]\n\n")
        await until(lambda: shared.buffers.used == 0)
    assert len(provider.ledger.requests) == 2


async def test_streams_at_once_each_make_their_own_call(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    body = CHAT | {"stream": True}
    answers = await asyncio.gather(*(ask(client, "/v1/chat/completions", body, "gap=20ms") for _ in range(3)))
    assert [got.cache for got in answers] == ["miss"] * 3
    assert len(provider.ledger.requests) == 3


async def test_an_answer_too_large_to_keep_is_not(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    for _ in range(2):
        got = await chat(client, "large=2000000")
        assert (got.status, got.cache) == (200, "miss")
    for _ in range(2):
        got = await ask(client, "/v1/chat/completions", CHAT | {"stream": True}, x_fake_tokens="9000")
        assert len(got.body) > 1024 * 1024
        assert (got.status, got.cache) == (200, "miss")
    assert len(provider.ledger.requests) == 4


async def test_what_was_decided_is_decided_again_offline(
    running: Running, client: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = await asyncio.gather(*(chat(client, "delay=200ms") for _ in range(3)))
    for word in ("", "bypass", "refresh"):
        answers.append(await chat(client, x_sidecar_cache=word))
    answers.append(await ask(client, "/v1/chat/completions", CHAT | {"model": "plain"}))
    assert {got.cache for got in answers} == {"miss", "coalesced", "hit", "bypass", "off"}
    await running.event(count=7)
    args = ["replay", str(running.folder / "events.jsonl"), "--pins", str(running.pins)]
    assert main([*args, "--config", str(running.folder / "sidecar.yaml")]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("leader_left", [False, True])
async def test_a_shutdown_ends_waiting(
    running: Running, client: aiohttp.ClientSession, provider: FakeProvider, leader_left: bool
) -> None:
    writer = await leading(running, "delay=9s")
    tasks = await following(running, client, 2)
    await until(lambda: provider.ledger.open == 1)
    if leader_left:
        writer.transport.abort()
        await until(lambda: all(f.forsaken is not None for f in flights(running)._by_key.values()))
    running.lifecycle.shared.stop()
    answers = await asyncio.gather(*tasks)
    assert {got.headers["x-sidecar-error"] for got in answers} == {"sidecar_draining"}
    await until(lambda: len(flights(running)) == 0 and provider.ledger.open == 0, ALLOWED_S)
    await until(lambda: running.lifecycle.shared.in_flight == 0, ALLOWED_S)
    writer.close()
