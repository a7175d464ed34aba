"""The second tier by itself: what an entry is, and what a server may do to those who ask."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import istr

from sidecar.core.answers import Stored
from sidecar.core.facts import Usage
from sidecar.runtime.fleet_cache import LINKS, SecondTier, place
from sidecar.runtime.fleet_entry import MAX_BYTES, decode, encode
from sidecar.runtime.fleet_link import connector
from tests.fleet.kit import Server
from tests.harness import until

KEY = bytes(range(32))
STORED = Stored(
    status=200,
    reason="OK",
    headers=((istr("Content-Type"), "application/json"), ("x", "é")),
    body=b'{"a": 1}\x00\xff',
    provider="openai",
    model="gpt-a",
    usage=Usage(input=3, output=4, cached_input=1),
    stored_at=0.0,
)


def fresh() -> Stored:
    """As if it had just come: the suite may have run for longer than an entry lives."""
    return replace(STORED, stored_at=time.monotonic())


def entry(stored: Stored = STORED) -> bytes:
    made = encode(KEY, stored, 60_000)
    assert made is not None
    return made


def test_an_entry_comes_back_as_it_was_with_its_age() -> None:
    found = decode(KEY, entry(), 45_000, 1000.0)
    assert found is not None
    stored, ttl_s = found
    assert (stored.status, stored.reason, stored.headers, stored.body) == (200, "OK", STORED.headers, STORED.body)
    assert (stored.provider, stored.model, stored.usage) == (STORED.provider, STORED.model, STORED.usage)
    assert (stored.stored_at, ttl_s) == (985.0, 60.0)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.integers(1, 300), junk=st.binary(max_size=400))
def test_whatever_else_lies_there_is_a_miss(at: int, bit: int, cut: int, junk: bytes) -> None:
    good = entry()
    turned = bytearray(good)
    turned[at % len(good)] ^= 1 << bit
    for bad in (bytes(turned), good[:-cut], good + junk + b"x", junk, good[: at % len(good)]):
        assert decode(KEY, bad, 1000, 0.0) is None
    assert decode(KEY[::-1], good, 1000, 0.0) is None, "another key's entry"


@pytest.mark.parametrize(("raw", "left"), [(None, 10), (entry(), -2), (entry(), -1), (entry(), None), (7, 10)])
def test_no_entry(raw: object, left: object) -> None:
    assert decode(KEY, raw, left, 0.0) is None


def test_what_can_not_be_an_entry() -> None:
    assert encode(KEY, Stored(200, None, (), bytes(MAX_BYTES), "p", "m", None, 0.0), 1000) is None
    assert encode(KEY, Stored(200, None, (("a", "\ud800"),), b"", "p", "m", None, 0.0), 1000) is None


@contextlib.asynccontextmanager
async def tier(url: str, deadline_s: float = 0.05) -> AsyncIterator[SecondTier]:
    made = SecondTier(connector(url), deadline_s)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.01)  # until what was broken off is closed


async def test_put_and_found(store: Server) -> None:
    async with tier(f"unix://{store.path}") as cache:
        assert await cache.find(KEY, 60) is None, "not connected yet: nobody waits for that"
        await until(lambda: cache._open)
        cache.put(KEY, fresh(), 60)
        await until(lambda: store.client().exists(place(KEY)))
        found = await cache.find(KEY, 60)
        assert found is not None
        assert found.body == STORED.body
        assert await cache.find(KEY, 1e-9) is None, "a reader's shorter ttl holds"
        assert store.client().pttl(place(KEY)) <= 60_000


async def test_more_at_once_than_connections_are_misses(store: Server) -> None:
    async with tier(f"unix://{store.path}") as cache:
        await until(lambda: cache._open)
        cache.put(KEY, fresh(), 60)
        await until(lambda: store.client().exists(place(KEY)))
        found = await asyncio.gather(*(cache.find(KEY, 60) for _ in range(4 * LINKS)))
        assert sum(stored is not None for stored in found) == LINKS
        assert cache.late == 0


async def test_a_cancelled_question_leaves_no_answer_behind(store: Server) -> None:
    """Else the next one would read it as its own."""
    async with tier(f"unix://{store.path}") as cache:
        await until(lambda: cache._open)
        cache.put(KEY, fresh(), 60)
        await until(lambda: store.client().exists(place(KEY)))
        for _ in range(3 * LINKS):
            task = asyncio.create_task(cache.find(KEY, 60))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await until(lambda: len(cache._idle) == LINKS)
            assert await cache.find(bytes(32), 60) is None
            assert await cache.find(KEY, 60) is not None


class Slow:
    """Between the pods and a server: passes all on, `delay_s` late or never."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.delay_s: float | None = 0.0
        self.tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        upstream, down = await asyncio.open_unix_connection(self.path)

        async def back() -> None:
            while data := await upstream.read(65536):
                if self.delay_s is None:
                    await asyncio.sleep(60)
                await asyncio.sleep(self.delay_s or 0)
                writer.write(data)

        task = asyncio.create_task(back())
        self.tasks.add(task)
        try:
            while data := await reader.read(65536):
                down.write(data)
        except OSError:
            pass
        finally:
            task.cancel()
            down.transport.abort()
            writer.transport.abort()


@contextlib.asynccontextmanager
async def slow(store: Server) -> AsyncIterator[tuple[Slow, str]]:
    between = Slow(store.path)
    server = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    try:
        yield between, f"valkey://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0.05)
        for task in between.tasks:
            task.cancel()
        await asyncio.gather(*between.tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("delay_s", [0.3, None], ids=["slow", "silent"])
async def test_a_late_server_costs_few_requests_a_deadline_each(store: Server, delay_s: float | None) -> None:
    async with slow(store) as (between, url), tier(url) as cache:
        await until(lambda: cache._open)
        between.delay_s = delay_s
        took = []
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            began = time.monotonic()
            assert await cache.find(KEY, 60) is None
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.001)
        assert sum(t > 0.03 for t in took) <= 1, "it isn't asked again before it has shown that it answers"
        assert max(took) < 0.5
        between.delay_s = 0.0
        await until(lambda: cache._open)
        assert cache.late == 1


async def test_what_can_not_be_written_is_dropped_and_counted(store: Server) -> None:
    async with tier(f"unix://{store.path}") as cache:
        large = replace(fresh(), body=bytes(900_000))
        cache.put(KEY, replace(fresh(), body=bytes(MAX_BYTES)), 60)
        assert cache.dropped == 1
        for n in range(20):
            cache.put(bytes([n]) * 32, large, 60)
        assert 10 < cache.dropped < 20, "more than may wait"
        await until(lambda: cache._open)
        await until(lambda: not cache._queue)


async def test_a_full_server_may_still_be_read(store: Server) -> None:
    client = store.client()
    async with tier(f"unix://{store.path}") as cache:
        await until(lambda: cache._open)
        cache.put(KEY, fresh(), 60)
        await until(lambda: client.exists(place(KEY)))
        client.config_set("maxmemory", 1)
        try:
            cache.put(bytes(32), fresh(), 60)
            await until(lambda: cache.dropped == 1)
            assert await cache.find(KEY, 60) is not None
        finally:
            client.config_set("maxmemory", 0)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_tls_checks_the_servers_name(scheme: str) -> None:
    connection = connector(f"{scheme}://user:secret@h:6380/2")()
    assert (connection.host, connection.port, connection.db, connection.password) == ("h", 6380, 2, "secret")
    assert connection.check_hostname is True
    assert connection.ssl_context.get().check_hostname is True


@pytest.mark.parametrize("url", ["redis://h/0?no_such_option=1", "redis://h:6379/0?db=x"])
def test_a_url_that_can_not_be_used(url: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        connector(url)
