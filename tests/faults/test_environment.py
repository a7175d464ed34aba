"""Faults of the environment that no other suite has: 79 (clocks), 80 (names), 82 (a frozen process), libraries.

Elsewhere: 72 in test_hardening_secrets.py; 73 and 74 in tests/pins; 77 and 78 in tests/settings/test_strict.py; 81 and
the signals of 82 in tests/process; 87 in tests/pins/test_events.py and tests/telemetry/test_metrics.py.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from sidecar.runtime import connector
from sidecar.runtime import serve as start
from tests.faults import wire
from tests.faults.stage import PINS, Stage, staged
from tests.faults.upstream import HEALTHY, JSON, Step, Upstream, serving
from tests.faults.wire import chunked
from tests.harness import until
from tests.process import kit

Resolve = Callable[[], Awaitable[list[str]]]
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
DONE = DELTA.replace(b'{"content":"x"}', b'{},"finish_reason":"stop"') + b"data: [DONE]\n\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_79_the_wall_clock_jumps(stage: Stage, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """Neither does a request in flight expire, nor does a limit never come."""
    real = time.time
    stage.upstream.says(0.2, HEALTHY)
    running = asyncio.create_task(stage.chat())
    await until(lambda: stage.upstream.seen)
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert (await running).status == 200
    stage.upstream.says(Step.HANG)
    began = time.monotonic()
    assert (await stage.chat("chat.hasty")).status == 504
    assert time.monotonic() - began < 3
    assert 0 <= (await stage.running.event())["latency_ms"] < 10_000


@asynccontextmanager
async def named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, resolve: Resolve
) -> AsyncIterator[tuple[Stage, Upstream]]:
    """`chat.far` and `chat.far.hasty` live at a provider whose name is resolved by `resolve`."""

    async def fake(
        self: ThreadedResolver, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        assert host == "provider.test"
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=socket.AF_INET, proto=0, flags=0)
            for ip in await resolve()
        ]

    monkeypatch.setattr(ThreadedResolver, "resolve", fake)
    monkeypatch.setattr(connector, "DNS_TTL_S", 0.05)
    monkeypatch.setenv("SOME_KEY", "k")
    pins = PINS.replace("pins:\n", "  gpt-5.5-2026-01-15: {provider: second}\npins:\n").replace(
        "  assistant:",
        "  chat.far: {stable: gpt-5.5-2026-01-15}\n"
        "  chat.far.hasty: {stable: gpt-5.5-2026-01-15, timeouts: {connect: 300ms}}\n  assistant:",
    )
    async with serving() as far:
        section = {"base_url": f"http://provider.test:{far.port}/v1", "api_key_env": "SOME_KEY", "proxy": "none"}
        async with staged(folder, {"second": section}, pins) as stage:
            yield stage, far


async def test_80_a_name_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere() -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async with named(tmp_path, monkeypatch, nowhere) as (stage, _):
        answer = await stage.chat("chat.far")
        assert (answer.status, answer.code) == (502, "sidecar_upstream_unreachable")
        assert b"provider.test" not in answer.body


async def test_80_a_resolver_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> list[str]:
        await asyncio.sleep(60)
        return []

    async with named(tmp_path, monkeypatch, never) as (stage, _):
        began = time.monotonic()
        answer = await stage.chat("chat.far.hasty")
        assert (answer.status, answer.code) == (504, "sidecar_upstream_timeout")
        assert time.monotonic() - began < 3


async def test_80_addresses_change_and_the_last_good_ones_serve_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[list[str] | None] = [["127.0.0.9"], ["127.0.0.1"], None]
    asked = 0

    async def changing() -> list[str]:
        nonlocal asked
        found = answers[min(asked, 2)]
        asked += 1
        if found is None:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return found

    async with named(tmp_path, monkeypatch, changing) as (stage, far):
        assert (await stage.chat("chat.far")).status == 502  # nobody listens at the first address
        for _ in range(3):
            await asyncio.sleep(0.1)
            far.hang_up()
            assert (await stage.chat("chat.far")).body == JSON
        assert asked >= 3, "the failing resolver was never asked"


async def test_80_one_address_of_two_is_a_black_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Happy eyeballs: the second is tried before the first has given up."""

    async def both() -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with named(tmp_path, monkeypatch, both) as (stage, far):
        with socket.create_server(("127.0.0.2", far.port), backlog=0):
            plugs = [asyncio.create_task(asyncio.open_connection("127.0.0.2", far.port)) for _ in range(4)]
            await asyncio.sleep(0.1)
            began = time.monotonic()
            answer = await stage.chat("chat.far")
            assert (answer.status, answer.body) == (200, JSON)
            assert 0.2 < time.monotonic() - began < 2.5
            for plug in plugs:
                plug.cancel()
            for made in await asyncio.gather(*plugs, return_exceptions=True):
                if isinstance(made, tuple):
                    made[1].close()


async def test_82_a_process_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """SIGSTOP in the middle of a stream, as by a debugger or a suspended machine."""
    async with serving() as upstream:
        upstream.says(EVENTS, chunked(DELTA, last=False), 1.0, chunked(DONE))
        with kit.serve(tmp_path, f"{upstream.url}/v1") as process:
            port = int(process.addresses["listen"][0].rpartition(":")[2])
            async with wire.connected(port) as client:
                await client.send(wire.post(wire.chat(stream=True)))
                await until(lambda: upstream.seen)
                process.send(signal.SIGSTOP)
                await asyncio.sleep(1.5)
                process.send(signal.SIGCONT)
                answer = await client.answer()
                assert (answer.status, answer.complete, answer.body) == (200, True, DELTA + DONE)
            assert (await wire.ask(port, wire.post(wire.chat()))).body == JSON


@pytest.mark.parametrize("version", ["3.14.3", "3.9.5", "2.0"])
def test_an_aiohttp_with_known_holes_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(aiohttp, "__version__", version)
    with pytest.raises(start.CannotServeError, match=r"3\.14\.4"):
        start.check_aiohttp()


def test_an_aiohttp_without_its_c_parser_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    start.check_aiohttp()
    monkeypatch.setattr(start, "HttpRequestParser", start.HttpRequestParserPy)
    with pytest.raises(start.CannotServeError, match="C parser"):
        start.check_aiohttp()
