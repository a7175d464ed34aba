"""Where aiohttp's server is wrong for a proxy (reliability notes §0 and §3), each with a test of its name."""

from __future__ import annotations

import asyncio
import gzip
import time
from pathlib import Path

import pytest

from tests.faults import wire
from tests.faults.stage import Stage, staged
from tests.faults.upstream import JSON, Step
from tests.faults.wire import chunked
from tests.harness import until

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
GONE_S = 1.0
"""Ten times what is promised between a client's leaving and the end of the upstream call."""


@pytest.mark.parametrize(
    "line",
    [b"Authorization: Bearer sk-canary\x00", b"Authorization Bearer sk-canary", b"Authori zation: sk-canary",
     b"x-api-key : sk-canary", b"authorization: sk-\rcanary", b": sk-canary"],
)  # fmt: skip
async def test_a_malformed_header_line_is_neither_echoed_nor_logged(stage: Stage, line: bytes) -> None:
    async with wire.connected(stage.port) as client:
        await client.send(wire.post(wire.chat(), line))
        answer = await client.answer()
        assert (answer.status, answer.body) == (400, b"")
        assert b"canary" not in answer.raw
        assert await client.ended() == b""
    await stage.chat()
    await stage.running.event()
    assert "canary" not in stage.logged()
    assert len(stage.upstream.seen) == 1


TARGETS = {
    "encoded slash and dots": b"/v1/..%2fadmin",
    "dots": b"/v1/../admin",
    "encoded dots": b"/v1/%2e%2e/admin",
    "double encoding": b"/v1/%252e%252e/admin",
    "absolute form": b"http://169.254.169.254/v1/models",
    "absolute form to ourselves": b"http://127.0.0.1/v1/models/x",
    "two slashes": b"//evil.example/v1",
    "slash and backslash": b"/\\evil.example/v1",
    "encoded backslash": b"/%5cevil.example/v1",
    "userinfo": b"/v1@evil.example/../x",
    "authority form": b"evil.example:443",
}


@pytest.mark.parametrize("case", TARGETS)
async def test_targets_that_servers_read_differently_are_refused(stage: Stage, case: str) -> None:
    answer = await stage.ask(wire.request(b"GET", TARGETS[case]))
    assert answer.status == 400
    assert stage.upstream.seen == []


@pytest.mark.parametrize("target", [b"/v1/files/a@b:c;d=1,e", b"/v1/x?u=http://evil.example//", b"/v1/caf%C3%A9"])
async def test_a_sound_target_reaches_the_configured_origin_unchanged(stage: Stage, target: bytes) -> None:
    await stage.ask(wire.request(b"GET", target))
    seen = stage.upstream.seen[0]
    assert seen.target == "/openai" + target.decode()
    assert seen.values("host") == [f"127.0.0.1:{stage.upstream.port}"]


BOMB = gzip.compress(b"\0" * (64 << 20), 1)


async def test_encoded_bodies_are_never_inflated(stage: Stage) -> None:
    """Where the body must be read it is 415; where it streams, header and bytes still fit each other."""
    encoded = b"content-encoding: gzip"
    refused = await stage.ask(wire.post(gzip.compress(b"{}"), encoded))
    assert (refused.status, refused.code) == (415, "sidecar_bad_request")
    bomb = await stage.ask(wire.post(BOMB, encoded))
    assert bomb.status == 415
    members = await stage.ask(wire.post(gzip.compress(b"") * 50_000, encoded))
    assert members.status == 415
    assert stage.upstream.seen == []
    assert (await stage.ask(wire.post(BOMB, encoded, target=b"/v1/anything"))).status == 200
    seen = stage.upstream.seen[0]
    assert (seen.body, seen.values("content-encoding")) == (BOMB, ["gzip"])


async def test_bodies_over_one_mebibyte_pass(stage: Stage) -> None:
    large = await stage.chat(user="x" * (3 << 20))
    streamed = await stage.ask(wire.post(b"y" * (3 << 20), target=b"/v1/anything"))
    assert (large.status, streamed.status) == (200, 200)
    assert [len(seen.body) > 3 << 20 or seen.body == b"y" * (3 << 20) for seen in stage.upstream.seen] == [True, True]


@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/v1/anything"])
@pytest.mark.parametrize("trickle", [False, True])
async def test_the_body_phase_has_a_limit(stage: Stage, target: bytes, trickle: bool) -> None:
    async with wire.connected(stage.port) as client:
        began = time.monotonic()
        await client.send(wire.request(b"POST", target, b"content-length: 1000") + b"{")
        feeding = asyncio.create_task(_trickle(client)) if trickle else None
        try:
            answer = await client.answer()
            assert (answer.status, answer.code) == (400, "sidecar_bad_request")
            await client.ended()
        finally:
            if feeding is not None:
                feeding.cancel()
        assert time.monotonic() - began < 8
    await until(lambda: stage.upstream.open == 0)


async def _trickle(client: wire.Client, byte: bytes = b" ") -> None:
    while True:
        await asyncio.sleep(0.02)
        await client.send(byte)


@pytest.mark.parametrize("start", [b"", b"GET /", b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-"])
async def test_fifty_connections_that_never_finish_their_headers_are_closed(stage: Stage, start: bytes) -> None:
    async def slow() -> None:
        async with wire.connected(stage.port) as client:
            if start:
                await client.send(start)
                feeding = asyncio.create_task(_trickle(client, b"a"))
            try:
                assert await client.ended(5) == b""
            finally:
                if start:
                    feeding.cancel()

    slowly = asyncio.gather(*(slow() for _ in range(50)))
    assert (await stage.chat()).status == 200
    await slowly


async def test_the_header_limit_counts_anew_on_a_kept_connection(stage: Stage) -> None:
    async with wire.connected(stage.port) as client:
        await client.send(wire.post(wire.chat()))
        assert (await client.answer()).status == 200
        await asyncio.sleep(0.6)  # idle longer than headers may take: that is keep-alive's business
        await client.send(wire.post(wire.chat()))
        assert (await client.answer()).status == 200
        await client.send(b"POST /v1/chat")
        assert await client.ended(5) == b""


LEAVING = ["before the first byte", "mid-stream", "while a whole body is awaited", "mid-upload"]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("when", LEAVING)
async def test_a_client_that_leaves_ends_the_upstream_call(stage: Stage, when: str, reset: bool) -> None:
    """Without `handler_cancellation` the provider would go on thinking, and billing."""
    upstream = stage.upstream
    async with wire.connected(stage.port) as client:
        if when == "mid-upload":
            await client.send(wire.request(b"POST", b"/v1/anything", b"content-length: 5000") + b"x" * 2000)
        else:
            await client.send(wire.post(wire.chat(stream=when == "mid-stream")))
        match when:
            case "mid-stream":
                upstream.says(EVENTS + chunked(DELTA, last=False), Step.HANG)
                await client.reader.readuntil(DELTA)
            case "while a whole body is awaited":
                upstream.says(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", Step.HANG
                )
            case _:
                upstream.says(Step.HANG)
        await until(lambda: upstream.seen)
        await asyncio.sleep(0.05)
        assert not upstream.seen[0].gone.is_set()
        client.leave(reset=reset)
        async with asyncio.timeout(GONE_S):
            await upstream.seen[0].gone.wait()
    event = await stage.running.event()
    assert event["error"] == "client_gone"
    assert [a["outcome"] for a in event["attempts"]] == ["client_gone"]
    assert [a["fault"] for a in event["attempts"]] == [None]


async def test_a_client_that_never_reads_is_cut_off(stage: Stage) -> None:
    stage.upstream.says(EVENTS, chunked(DELTA * 400, last=False), Step.ENDLESS)
    async with wire.connected(stage.port, receive_buffer=4096) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(wire.post(wire.chat("chat.hasty", stream=True)))
        await until(lambda: stage.upstream.seen and stage.upstream.seen[0].gone.is_set(), 5)
    event = await stage.running.event()
    assert event["error"] == "client_gone"


async def test_connections_over_the_limit_are_shed(tmp_path: Path) -> None:
    async with staged(tmp_path, limits={"connections": 3}) as stage:
        async with wire.connected(stage.port) as a, wire.connected(stage.port) as b, wire.connected(stage.port) as c:
            for client in (a, b, c):
                await client.send(wire.post(wire.chat()))
                assert (await client.answer()).status == 200
            async with wire.connected(stage.port) as d:
                await d.send(wire.post(wire.chat(user="x" * 200_000)))
                shed = await d.answer()
                assert (shed.status, shed.code, shed.get("retry-after")) == (503, "sidecar_overloaded", "1")
                assert await d.ended() == b""
            await a.send(wire.post(wire.chat()))
            assert (await a.answer()).status == 200
        assert len(stage.upstream.seen) == 4


async def test_requests_in_flight_over_the_limit_are_shed(tmp_path: Path) -> None:
    async with staged(tmp_path, limits={"in_flight": 2}) as stage:
        for _ in range(2):
            stage.upstream.says(0.5, wire.framed(b"200 OK", JSON, b"content-type: application/json"))
        running = [asyncio.create_task(stage.chat()) for _ in range(2)]
        await until(lambda: len(stage.upstream.seen) == 2)
        began = time.monotonic()
        shed = await stage.chat()
        assert (shed.status, shed.code, shed.get("retry-after")) == (503, "sidecar_overloaded", "1")
        assert time.monotonic() - began < 0.4, "it was queued"
        assert [(await task).status for task in running] == [200, 200]


async def test_buffered_bytes_over_the_limit_are_shed(tmp_path: Path) -> None:
    async with staged(tmp_path, limits={"buffered": "100KiB", "body": "90KiB"}) as stage:
        stage.upstream.says(0.5, wire.framed(b"200 OK", JSON, b"content-type: application/json"))
        running = asyncio.create_task(stage.chat(user="x" * 60_000))
        await until(lambda: stage.upstream.seen)
        data = b'{"model":"chat.core","user":"' + b"x" * 60_000 + b'"}'
        by_length = await stage.ask(wire.post(data))
        by_chunks = await stage.ask(
            wire.request(b"POST", b"/v1/chat/completions", b"transfer-encoding: chunked") + chunked(data)
        )
        for shed in (by_length, by_chunks):
            assert (shed.status, shed.code, shed.get("retry-after")) == (503, "sidecar_overloaded", "1")
        assert (await running).status == 200


FOREIGN = [
    b"host: attacker.example", b"host: 127.0.0.1.nip.io", b"host: localhost.attacker.example", b"host: 10.0.0.1",
    b"host: 127.0.0.1\r\norigin: https://attacker.example", b"host: 127.0.0.1\r\norigin: null",
    b"host: 127.0.0.1\r\norigin: http://localhost.attacker.example", b"host: 127.0.0.1\r\nsec-fetch-site: cross-site",
]  # fmt: skip
OWN = [
    b"host: 127.0.0.1", b"host: localhost:4010", b"host: [::1]:4010", b"host: LOCALHOST", b"host: sidecar.internal",
    b"host: 127.0.0.1\r\norigin: http://localhost:3000", b"host: 127.0.0.1\r\nsec-fetch-mode: cors",
    b"host: 127.0.0.1\r\nsec-fetch-site: same-origin", b"host: [::1]\r\nsec-fetch-mode: cors\r\nsec-fetch-dest: empty",
]  # fmt: skip


@pytest.mark.parametrize("lines", FOREIGN)
async def test_a_rebound_name_or_a_foreign_page_gets_nothing(stage: Stage, lines: bytes) -> None:
    text = wire.request(b"POST", b"/v1/chat/completions", b"content-type: text/plain", body=b"{}", host=lines + b"\r\n")
    answer = await stage.ask(text)
    assert (answer.status, answer.code) == (403, "sidecar_forbidden")
    assert [name for name, _ in answer.headers if name.lower().startswith("access-control")] == []
    assert stage.upstream.seen == []


@pytest.mark.parametrize("lines", OWN)
async def test_an_app_beside_us_is_served(tmp_path: Path, lines: bytes) -> None:
    """SDKs on Node send `sec-fetch-mode: cors` with every call."""
    async with staged(tmp_path, allowed_hosts=["sidecar.internal"]) as stage:
        answer = await stage.ask(wire.request(b"GET", b"/v1/anything", host=lines + b"\r\n"))
        assert answer.status == 200
