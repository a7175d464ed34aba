"""Faults 20 to 38 of the reliability notes: framing, headers, hosts, paths, methods, pipelining, crowds.

Faults 20, 26, 30, 36 and 37 have tests of their names in test_hardening_client_side.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults import wire
from tests.faults.stage import Stage
from tests.faults.upstream import HEALTHY, JSON
from tests.faults.wire import post, request
from tests.harness import until

CHAT = b"/v1/chat/completions"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
BOTH = b"transfer-encoding: chunked"
FRAMING: dict[str, bytes] = {
    "22 length and chunked": request(b"POST", CHAT, b"content-length: 5", BOTH) + b"0\r\n\r\n" + SMUGGLED,
    "22 chunked and length": request(b"POST", CHAT, BOTH, b"content-length: 5") + b"0\r\n\r\n" + SMUGGLED,
    "22 two lengths": request(b"POST", CHAT, b"content-length: 2", b"content-length: 47") + b"{}" + SMUGGLED,
    "22 one length twice": request(b"POST", CHAT, b"content-length: 2", b"content-length: 2") + b"{}" + SMUGGLED,
    "22 a list of lengths": request(b"POST", CHAT, b"content-length: 2, 2") + b"{}" + SMUGGLED,
    "22 a signed length": request(b"POST", CHAT, b"content-length: +2") + b"{}" + SMUGGLED,
    "22 a negative length": request(b"POST", CHAT, b"content-length: -2") + b"{}" + SMUGGLED,
    "22 a length in hex": request(b"POST", CHAT, b"content-length: 0x2") + b"{}" + SMUGGLED,
    "22 an empty length": request(b"POST", CHAT, b"content-length:") + SMUGGLED,
    "22 a length over 64 bits": request(b"POST", CHAT, b"content-length: 18446744073709551617") + b"{" + SMUGGLED,
    "22 gzip as transfer coding": request(b"POST", CHAT, b"transfer-encoding: gzip") + SMUGGLED,
    "22 chunked, then gzip": request(b"POST", CHAT, b"transfer-encoding: chunked, gzip") + b"0\r\n\r\n" + SMUGGLED,
    "22 identity as transfer coding": request(b"POST", CHAT, b"transfer-encoding: identity") + SMUGGLED,
    "22 an empty transfer coding": request(b"POST", CHAT, b"transfer-encoding:") + SMUGGLED,
    "22 almost chunked": request(b"POST", CHAT, b"transfer-encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED,
    "22 chunked twice": request(b"POST", CHAT, BOTH, BOTH) + b"0\r\n\r\n" + SMUGGLED,
    "22 vertical tab before chunked": request(b"POST", CHAT, b"transfer-encoding: \x0bchunked")
    + b"0\r\n\r\n"
    + SMUGGLED,
    "22 chunked in HTTP/1.0": request(b"POST", CHAT, BOTH).replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n" + SMUGGLED,
    "23 folded line": request(b"POST", CHAT, b"x-a: b\r\n folded: c") + SMUGGLED,
    "23 NUL in a value": request(b"POST", CHAT, b"x-a: b\x00c") + SMUGGLED,
    "23 bare CR in a value": request(b"POST", CHAT, b"x-a: b\rcontent-length: 5") + SMUGGLED,
    "23 bare LF as line end": b"POST /v1/chat/completions HTTP/1.1\nhost: 127.0.0.1\n\n" + SMUGGLED,
    "23 bare LF in a value": request(b"POST", CHAT, b"x-a: b\nx-evil: c") + SMUGGLED,
    "23 space in a name": request(b"POST", CHAT, b"x a: b") + SMUGGLED,
    "23 space before the colon": request(b"POST", CHAT, b"content-length : 5") + SMUGGLED,
    "23 no colon": request(b"POST", CHAT, b"no-colon-here") + SMUGGLED,
    "23 no name": request(b"POST", CHAT, b": value") + SMUGGLED,
    "23 non-ASCII name": request(b"POST", CHAT, b"x-\xe9: 1") + SMUGGLED,
    "23 no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n",
    "23 HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "23 HTTP/0.9": b"GET /\r\n\r\n",
    "23 HTTP/9.9": request(b"GET", b"/").replace(b"HTTP/1.1", b"HTTP/9.9"),
    "23 a bad version": request(b"GET", b"/").replace(b"HTTP/1.1", b"HTTP/1.1x"),
    "23 a method of nonsense": request(b"G(E)T", b"/") + SMUGGLED,
    "21 a target of 100 KiB": request(b"GET", b"/" + b"a" * 102_400),
    "21 a header of 100 KiB": request(b"GET", b"/v1/x", b"x-a: " + b"a" * 102_400),
    "21 a name of 100 KiB": request(b"GET", b"/v1/x", b"a" * 102_400 + b": 1"),
    "21 ten thousand headers": request(b"GET", b"/v1/x", *(b"x-%d: 1" % i for i in range(10_000))),
    "21 a header just too long": request(b"GET", b"/v1/x", b"x-a: " + b"a" * 8300),
    "24 an absolute target of another host": request(b"GET", b"http://evil.example/", host=b""),
    "28 CONNECT": request(b"CONNECT", b"evil.example:443", host=b"host: evil.example:443\r\n"),
}


@pytest.mark.parametrize("name", FRAMING)
async def test_malformed_http_gets_a_bare_answer_and_a_close(stage: Stage, name: str) -> None:
    async with wire.connected(stage.port) as client:
        await client.send(FRAMING[name])
        answer = await client.answer()
        assert answer.status in (
            (431, 400) if name.startswith("21") else (403, 400, 405) if name[:2] in ("24", "28") else (400,)
        )
        if answer.code is None:
            assert answer.body == b""
        assert await client.ended() == b"", "a second answer"
    assert stage.upstream.seen == []


CHUNKS: dict[str, bytes] = {
    "22 a bad size": b"xyz\r\n{}\r\n0\r\n\r\n",
    "22 a signed size": b"+2\r\n{}\r\n0\r\n\r\n",
    "22 a size of 17 digits": b"1" + b"0" * 16 + b"\r\n{}\r\n0\r\n\r\n",
    "22 more than its size": b"2\r\n{}{}\r\n0\r\n\r\n",
    "22 bare LF": b"2\n{}\n0\n\n",
    "22 a space behind the size": b"2 \r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("target", [CHAT, b"/v1/anything"])
@pytest.mark.parametrize("name", CHUNKS)
async def test_malformed_chunks(stage: Stage, name: str, target: bytes) -> None:
    """400 and a close; a body that streamed through must not have ended properly upstream."""
    async with wire.connected(stage.port) as client:
        await client.send(request(b"POST", target, BOTH) + CHUNKS[name] + SMUGGLED)
        answer = await client.answer()
        assert answer.status == 400
        assert await client.ended() == b""
    assert not any(seen.whole for seen in stage.upstream.seen)


@pytest.mark.parametrize("target", [CHAT, b"/v1/anything", b"/v1/realtime?model=chat.core"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_22_a_body_behind_an_upgrade_is_no_request(stage: Stage, method: bytes, target: bytes) -> None:
    """CVE-2026-69243: what stands behind the headers of an upgrade must not be taken for the next request."""
    lines = [b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13", b"sec-websocket-key: eA=="]
    async with wire.connected(stage.port) as client:
        await client.send(request(method, target, *lines, body=SMUGGLED))
        assert (await client.answer()).status >= 200
        await client.send(post(wire.chat()))
        await asyncio.sleep(0.1)
    assert [seen.target for seen in stage.upstream.seen if "smuggled" in seen.target] == []


async def test_22_a_length_that_is_too_short(stage: Stage) -> None:
    """What is over is read as the next request, which it isn't: 400 (for both, or for each) and a close."""
    async with wire.connected(stage.port) as client:
        await client.send(request(b"POST", CHAT, b"content-length: 10") + b'{"model":"chat.core"}')
        assert (await client.answer()).status == 400
        assert (await client.ended())[9:12] in (b"", b"400")
    assert stage.upstream.seen == []


@pytest.mark.parametrize("target", [CHAT, b"/v1/anything"])
async def test_22_trailers_of_a_request_end_here(stage: Stage, target: bytes) -> None:
    body = b'{"model":"chat.core"}'
    chunks = b"%x\r\n%s\r\n0\r\nx-trailer: 1\r\nauthorization: Bearer x\r\n\r\n" % (len(body), body)
    answer = await stage.ask(request(b"POST", target, BOTH, b"trailer: x-trailer") + chunks)
    assert answer.status == 200
    (seen,) = stage.upstream.seen
    assert {name.lower() for name, _ in seen.headers} <= {"host", "content-length", "transfer-encoding"}
    assert seen.body.startswith(b'{"model":')


HOSTS: dict[str, tuple[bytes, int]] = {
    "24 none": (b"", 400),
    "24 two": (b"host: 127.0.0.1\r\nhost: 127.0.0.1\r\n", 400),
    "24 two, different": (b"host: 127.0.0.1\r\nhost: evil.example\r\n", 400),
    "24 empty": (b"host:\r\n", 400),
    "24 list": (b"host: 127.0.0.1, evil.example\r\n", 400),
    "24 userinfo": (b"host: evil@127.0.0.1\r\n", 400),
    "24 path": (b"host: 127.0.0.1/evil\r\n", 400),
    "24 bad port": (b"host: 127.0.0.1:port\r\n", 400),
    "24 scheme": (b"host: http://127.0.0.1\r\n", 400),
    "25 rebound": (b"host: attacker.example\r\n", 403),
    "25 rebound with our port": (b"host: attacker.example:4010\r\n", 403),
}


@pytest.mark.parametrize("name", HOSTS)
async def test_hosts(stage: Stage, name: str) -> None:
    host, status = HOSTS[name]
    answer = await stage.ask(request(b"GET", b"/v1/anything", host=host))
    assert answer.status == status
    assert stage.upstream.seen == []


PATHS: dict[str, tuple[bytes, int]] = {
    "27 dots": (b"/v1/files/../../admin", 400),
    "27 encoded dots": (b"/v1/%2e%2e/admin", 400),
    "27 half-encoded dots": (b"/v1/.%2E/admin", 400),
    "27 dots behind an encoded slash": (b"/v1/..%2fadmin", 400),
    "27 encoded backslash": (b"/v1/..%5cadmin", 400),
    "27 backslash": (b"/v1/..\\admin", 400),
    "27 NUL": (b"/v1/files/a%00b", 400),
    "27 CRLF": (b"/v1/files/a%0d%0ax-evil:1", 400),
    "27 CRLF in the query": (b"/v1/files?a=%0d%0ax-evil:1", 400),
    "27 broken encoding": (b"/v1/%zz", 400),
    "27 a model that leaves its segment": (b"/v1/models/..%2f..%2fadmin", 400),
    "27 semicolon": (b"/v1/files;a=b", 200),
    "27 hidden file": (b"/v1/.env", 200),
    "27 fragment": (b"/v1/files#x", 400),
}


@pytest.mark.parametrize("name", PATHS)
async def test_paths_stay_under_their_prefix(stage: Stage, name: str) -> None:
    target, status = PATHS[name]
    answer = await stage.ask(request(b"GET", target))
    assert answer.status == status
    assert [seen.target for seen in stage.upstream.seen] == ["/openai" + target.decode()] * (status == 200)


@pytest.mark.parametrize(("method", "target", "statuses"), [
    (b"TRACE", CHAT, {405}), (b"PROPFIND", b"/v1/x", {405}), (b"OPTIONS", b"*", {200, 204, 400, 405}),
])  # fmt: skip
async def test_28_methods(stage: Stage, method: bytes, target: bytes, statuses: set[int]) -> None:
    answer = await stage.ask(request(method, target))
    assert answer.status in statuses
    assert stage.upstream.seen == []


async def test_29_head_has_no_body_and_keeps_the_connection(stage: Stage) -> None:
    async with wire.connected(stage.port) as client:
        for target in (b"/v1/models", b"/v1/anything"):
            stage.upstream.says(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")
            await client.send(request(b"HEAD", target))
            assert (await client.answer(head=True)).status == 200
        stage.upstream.answers.clear()
        await client.send(post(wire.chat()))
        assert (await client.answer()).body == JSON
    assert {seen.connection for seen in stage.upstream.seen} == {1}


@pytest.mark.parametrize("target", [CHAT, b"/v1/anything"])
async def test_31_expect(stage: Stage, target: bytes) -> None:
    async with wire.connected(stage.port) as client:
        data = post(wire.chat(), b"expect: 100-continue", target=target)
        head, _, body = data.partition(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n")
        await asyncio.sleep(0.05)
        await client.send(body)
        answer = await client.answer()
        assert (answer.status, answer.informational) == (200, [100])
        assert stage.upstream.seen[0].values("expect") == []
        await client.send(post(wire.chat(), b"expect: 200-ok", target=target))
        assert (await client.answer()).status == 417
        await client.ended()


async def test_32_hop_by_hop_headers_end_here(stage: Stage) -> None:
    lines = [b"connection: keep-alive, X-Drop-Me", b"connection: x-drop-too", b"x-drop-me: 1", b"x-drop-too: 1",
             b"te: trailers", b"proxy-authorization: Basic eA==", b"proxy-connection: keep-alive",
             b"keep-alive: timeout=5", b"trailer: x", b"upgrade: h2c", b"http2-settings: AAMAAABk"]  # fmt: skip
    assert (await stage.chat("chat.core", *lines)).status == 200
    names = {name.lower() for name, _ in stage.upstream.seen[0].headers}
    assert names <= {"host", "content-type", "content-length", "http2-settings"}


async def test_33_end_to_end_headers_are_kept(stage: Stage) -> None:
    lines = ["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "OpenAI-Organization: org-1",
             "Idempotency-Key: k-1", "x-stainless-retry-count: 2", "x-stainless-arch: arm64",
             "user-agent: OpenAI/Python 3", "accept: application/json", "x-user-id: u1",
             "anthropic-beta: a", "anthropic-beta: b"]  # fmt: skip
    await stage.chat("chat.core", *(line.encode() for line in lines))
    sent = [f"{name}: {value}" for name, value in stage.upstream.seen[0].headers]
    assert [line for line in sent if line in lines] == lines


async def test_34_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    stage.upstream.says(0.1, HEALTHY)
    async with wire.connected(stage.port) as client:
        await client.send(post(wire.chat()) + post(b"[]") + post(wire.chat(user="third")))
        assert [(await client.answer()).status for _ in range(3)] == [200, 400, 200]


async def test_34_pipelined_garbage_does_not_spoil_the_answer_before_it(stage: Stage) -> None:
    stage.upstream.says(0.1, HEALTHY)
    async with wire.connected(stage.port) as client:
        await client.send(post(wire.chat()))
        await asyncio.sleep(0.02)
        await client.send(b"\x00garbage\r\n\r\n")
        assert (await client.answer()).body == JSON
        assert (await client.answer()).status == 400
        assert await client.ended() == b""


async def test_35_half_closed_clients_get_an_answer_or_a_close(stage: Stage) -> None:
    async with wire.connected(stage.port) as client:
        await client.send(post(wire.chat()))
        client.half_close()
        assert (await client.ended())[:12] in (b"", b"HTTP/1.1 200")
    async with wire.connected(stage.port) as client:
        await client.send(request(b"POST", CHAT, b"content-length: 100") + b"{")
        client.half_close()
        assert (await client.ended())[:12] in (b"", b"HTTP/1.1 400")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_38_three_hundred_at_once(stage: Stage) -> None:
    await stage.chat()
    await stage.running.event()
    before = descriptors()
    answers = await asyncio.gather(*(stage.chat() for _ in range(300)))
    assert {answer.status for answer in answers} <= {200, 429, 503}
    assert sum(answer.status == 200 for answer in answers) >= 250
    stage.upstream.hang_up()
    await until(lambda: descriptors() <= before + 2)
