"""What crosses the proxy, byte for byte, where no SDK looks."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from sidecar.provider import FakeProvider
from tests.conformance import wire
from tests.conformance.sides import ALWAYS, MEANING, NAMED, ours, pins
from tests.harness import Running, sidecar

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok"
GET = b"GET /v1/odd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@asynccontextmanager
async def between(tmp_path: Path, answer: bytes) -> AsyncIterator[tuple[Running, wire.Provider]]:
    """A sidecar in front of a provider of bytes."""
    async with (
        wire.provider_of_bytes(answer) as provider,
        sidecar(tmp_path, {"openai": f"{provider.url}/v1"}, pins=pins(("openai",))) as running,
    ):
        yield running, provider


async def test_request_headers(tmp_path: Path) -> None:
    """Order, duplicates, case and bytes are kept; hop-by-hop fields and ours end here; nothing is added."""
    lines = """POST /v1/odd HTTP/1.1|hOST: localhost:4010|X-Twice: 1|authorization:Bearer  k|aCCept: */*|X-Hop: 1
        |X-TWICE: 2|Connection: close, x-hop|Connection: x-hop2|X-Hop2: 1|x-Sidecar-Unit: u|X-MODEL-capability: chat
        |x-sidecar-anything: 1|TE: trailers|Keep-Alive: 5|Upgrade: h2c|Proxy-Authorization: p|Proxy-Connection: k
        |X-Twice: 3|X-Empty:|X-Utf8: ü|Cookie: a=b; c|Sec-Fetch-Mode: cors|x-request-ID: 7|X-Forwarded-For: 1.2.3.4
        |Content-Length: 2||{}"""
    sent = "\r\n".join(line.strip() for line in lines.split("|")).encode()
    async with between(tmp_path, OK) as (running, provider):
        await wire.talk(running.port, sent)
    assert provider.heads[0].startswith(b"POST /v1/odd HTTP/1.1\r\n")
    host, *others = provider.headers()
    assert host == ("Host", f"127.0.0.1:{provider.port}")
    assert [pair for pair in others if pair[0] != "Content-Length"] == [
        ("X-Twice", "1"),
        ("authorization", "Bearer  k"),
        ("aCCept", "*/*"),
        ("X-TWICE", "2"),
        ("X-Twice", "3"),
        ("X-Empty", ""),
        ("X-Utf8", "\xc3\xbc"),
        ("Cookie", "a=b; c"),
        ("Sec-Fetch-Mode", "cors"),
        ("x-request-ID", "7"),
        ("X-Forwarded-For", "1.2.3.4"),
    ]
    assert provider.bodies == [b"{}"]


async def test_response_headers(tmp_path: Path) -> None:
    lines = """HTTP/1.1 299 Quite Fine|X-Twice: 1|set-cookie: a=1; Path=/|X-Hop: 1|Connection: x-hop|Set-Cookie: b=2
        |X-Sidecar-Model: forged|x-sidecar-new: forged|Keep-Alive: timeout=5|X-twice: 2|SERVER: s|Date: then
        |X-REQUEST-id: 7|X-Utf8: ü|retry-after-ms: 7|Content-Length: 2||ok"""
    answer = "\r\n".join(line.strip() for line in lines.split("|")).encode()
    async with between(tmp_path, answer) as (running, _):
        status, headers, body = wire.split(await wire.talk(running.port, GET + b"\r\n"))
    assert (status, body) == (b"HTTP/1.1 299 Quite Fine", b"ok")
    assert {name for name, _ in headers if name.startswith("x-sidecar-")} == ALWAYS
    assert [pair for pair in headers if not pair[0].startswith("x-sidecar-")] == [
        ("X-Twice", "1"),
        ("set-cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=2"),
        ("X-twice", "2"),
        ("SERVER", "s"),
        ("Date", "then"),
        ("X-REQUEST-id", "7"),
        ("X-Utf8", "\xc3\xbc"),
        ("retry-after-ms", "7"),
        ("Content-Length", "2"),
        ("Connection", "close"),
    ]


@pytest.mark.parametrize("direction", ["request", "response"])
async def test_header_bytes_beyond_utf8(tmp_path: Path, direction: str) -> None:
    """`obs-text` is taken for Latin-1 and becomes UTF-8: aiohttp's writer knows nothing else, and would drop it."""
    line, passed = b"X-Name: caf\xe9 \xff\r\n", "X-Name: café ÿ\r\n".encode()
    answer = OK.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n", 1) if direction == "response" else OK
    async with between(tmp_path, answer) as (running, provider):
        got = await wire.talk(running.port, GET + (line if direction == "request" else b"") + b"\r\n")
    assert passed in (provider.heads[0] if direction == "request" else got)


async def test_our_own_headers_may_hold_any_bytes(tmp_path: Path) -> None:
    odd = b"".join(b"%s: \xe9\xff\r\n" % name for name in (b"x-sidecar-unit", b"x-sidecar-task", b"traceparent"))
    post = GET.replace(b"GET /v1/odd", b"POST /v1/chat/completions") + odd + b"x-sidecar-explain: 1\r\n"
    async with between(tmp_path, OK) as (running, _):
        got = await wire.talk(running.port, post + b'Content-Length: 16\r\n\r\n{"model":"chat"}')
        assert got.startswith(b"HTTP/1.1 200 OK")
        assert (await running.event())["status"] == 200


BODILESS = [
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: x\r\n\r\n", "1234"),
    ("HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nContent-Type: application/json\r\n\r\n", "9"),
    ("GET", b"HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n", None),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 77\r\n\r\n", "77"),
    ("GET", b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/x\r\nContent-Length: 0\r\n\r\n", "0"),
    ("GET", b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/odd\r\nContent-Length: 0\r\n\r\n", "0"),
    ("DELETE", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
]


@pytest.mark.parametrize(("method", "answer", "length"), BODILESS)
async def test_answers_without_a_body(tmp_path: Path, method: str, answer: bytes, length: str | None) -> None:
    """Also: redirects are passed on, not followed."""
    async with between(tmp_path, answer) as (running, provider):
        got = await wire.talk(running.port, GET.replace(b"GET", method.encode()) + b"\r\n")
    status, headers, body = wire.split(got)
    assert status == answer.partition(b"\r\n")[0]
    assert body == b""
    fields = {name.lower(): value for name, value in headers}
    assert fields.get("content-length") == length
    assert "transfer-encoding" not in fields
    for name in ("etag", "location"):
        assert fields.get(name) == {n.lower(): v for n, v in wire.split(answer)[1]}.get(name)
    assert len(provider.heads) == 1


async def test_early_hints_are_skipped(tmp_path: Path) -> None:
    async with between(tmp_path, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK) as (running, _):
        got = await wire.talk(running.port, GET + b"\r\n")
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert got.endswith(b"ok")


@pytest.mark.parametrize("path", [b"/v1/odd", b"/v1/chat/completions"])
async def test_expect_100_continue(tmp_path: Path, path: bytes) -> None:
    head = GET.replace(b"GET /v1/odd", b"POST " + path) + b"Expect: 100-continue\r\n"
    body = b'{"model":"other"}'
    async with between(tmp_path, OK) as (running, provider):
        head += b"Content-Length: %d\r\n\r\n" % len(body)
        got = await wire.talk(running.port, head, body, after=b"HTTP/1.1 100 Continue\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert "expect" not in {name.lower() for name, _ in provider.headers()}
    assert provider.bodies[0].endswith(b"}")


async def test_another_expectation_fails(tmp_path: Path) -> None:
    async with between(tmp_path, OK) as (running, provider):
        got = await wire.talk(running.port, GET + b"Expect: 200-ok\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 417 ")
    assert not provider.heads


async def test_chunked_upload_with_trailers(tmp_path: Path) -> None:
    """Chunks may be cut anew, their content may not change; trailers may be dropped (RFC 9110 section 6.5.1)."""
    head = GET.replace(b"GET", b"PUT") + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    body = b"3;ext=1\r\nab\x00\r\n5\r\n\xff\r\n0\r\r\n0\r\nX-Sum: 1\r\n\r\n"
    async with between(tmp_path, OK) as (running, provider):
        got = await wire.talk(running.port, head + body)
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert wire.unchunked(provider.bodies[0]) == b"ab\x00\xff\r\n0\r"
    assert "content-length" not in {name.lower() for name, _ in provider.headers()}


async def test_chunked_upload_of_a_body_that_names_a_model(tmp_path: Path) -> None:
    head = GET.replace(b"GET /v1/odd", b"POST /v1/embeddings") + b"Transfer-Encoding: chunked\r\n\r\n"
    async with between(tmp_path, OK) as (running, provider):
        await wire.talk(running.port, head + b'8\r\n{"model"\r\n9\r\n:"embed"}\r\n0\r\n\r\n')
    assert provider.bodies == [b'{"model":"%s"}' % MEANING["embed"].encode()]


async def test_chunked_answer_with_trailers(tmp_path: Path) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nContent-Type: audio/mpeg\r\n\r\n"
        b"3;ext=1\r\nab\x00\r\n2\r\n\xff\r\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    async with between(tmp_path, answer) as (running, _):
        _, headers, body = wire.split(await wire.talk(running.port, GET + b"\r\n"))
    assert ("Transfer-Encoding", "chunked") in headers
    assert "trailer" not in {name.lower() for name, _ in headers}
    assert wire.unchunked(body) == b"ab\x00\xff\r"


async def test_an_answer_that_ends_with_its_connection(tmp_path: Path) -> None:
    """HTTP/1.0's way of framing: the end can't be told from a cut, so it is passed on as an end."""
    answer = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nall of it"
    async with between(tmp_path, answer) as (running, _):
        _, _, body = wire.split(await wire.talk(running.port, GET + b"\r\n"))
    assert wire.unchunked(body) == b"all of it"


async def test_http_1_0_client(tmp_path: Path) -> None:
    async with between(tmp_path, OK) as (running, _):
        got = await wire.talk(running.port, b"GET /v1/odd HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert got.partition(b"\r\n")[0].endswith(b" 200 OK")
    assert got.endswith(b"\r\n\r\nok")


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
TARGETS = ["/v1/odd?b=%20&a=+&&x=%C3%BC;=", "/anything/p%61th/%E2%82%AC@:,'()?model=chat", "/v2/files/a%20b?", "/v1/a/"]


@pytest.mark.parametrize("method", METHODS)
async def test_unknown_paths_pass_untouched(proxy: Running, method: str) -> None:
    """By any method, with any bytes; the provider echoes what it got. They are appended to its `base_url`, `…/v1`."""
    body = bytes(range(256)) * 99 if method != "GET" else b""
    async with aiohttp.ClientSession() as http:
        for target in TARGETS:
            url = URL(proxy.url + target, encoded=True)
            async with http.request(method, url, data=body, headers={"content-encoding": "br"}) as answer:
                assert answer.status == 200
                echoed = await answer.json()
            path, _, query = target.partition("?")
            expected = (method, path if path.startswith("/v1/") else f"/v1{path}", query)
            assert (echoed["method"], echoed["path"], echoed["query"]) == expected
            assert echoed["body_sha256"] == hashlib.sha256(body).hexdigest()


async def test_large_binary_both_ways(proxy: Running, provider: FakeProvider) -> None:
    """A body that isn't rewritten streams through, whatever its size, and comes back the same."""
    content = hashlib.shake_128(b"x").digest(5_000_000)
    async with aiohttp.ClientSession(proxy.url) as http:
        form = aiohttp.FormData()
        form.add_field("purpose", "user_data")
        form.add_field("file", io.BytesIO(content), filename="a.bin")
        async with http.post("/v1/files", data=form) as answer:
            file_id = (await answer.json())["id"]
        async with http.get(f"/v1/files/{file_id}/content") as answer:
            assert await answer.read() == content


async def test_head_of_known_paths(proxy: Running) -> None:
    async with aiohttp.ClientSession(proxy.url) as http:
        for path in ("/v1/models", "/v1/models/chat"):
            async with http.head(path) as answer:
                assert answer.status < 500
                assert await answer.read() == b""


ENCODINGS = [  # path, body, what the caller accepts, what the provider is told
    ("chat/completions", {"model": "chat", "messages": [], "stream": True}, "gzip, br", "identity"),
    ("responses", {"model": "chat", "input": "a", "stream": True}, None, "identity"),
    ("chat/completions", {"model": "chat", "messages": []}, "gzip, deflate, br, zstd", "gzip, deflate"),
    ("chat/completions", {"model": "chat", "messages": []}, "br", "identity"),
    ("chat/completions", {"model": "chat", "messages": []}, None, None),
    ("odd", {"any": 1}, "br, zstd;q=0.1", "br, zstd;q=0.1"),
]


@pytest.mark.parametrize(("path", "body", "accepted", "told"), ENCODINGS)
async def test_accept_encoding(
    proxy: Running, provider: FakeProvider, path: str, body: dict, accepted: str | None, told: str | None
) -> None:
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["accept-encoding"]) as http,
        http.post(f"{proxy.url}/v1/{path}", json=body, headers=headers) as answer,
    ):
        await answer.read()
    sent = {name.lower(): value for name, value in provider.ledger.requests[0].headers}
    assert sent.get("accept-encoding") == told


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_encoded_answers_pass_unchanged_and_are_metered(tmp_path: Path, coding: str) -> None:
    """Brotli isn't asked for, but a provider may send it: then it passes, unmetered."""
    plain = json.dumps({"model": "m", "choices": [], "usage": USAGE}).encode()
    packed = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain), "br": b"\x0b\x02\x80not really"}[coding]
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\n"
    answer = f"{head}content-length: {len(packed)}\r\n\r\n".encode() + packed
    async with between(tmp_path, answer) as (running, _):
        body = b'{"model":"chat","messages":[]}'
        post = GET.replace(b"GET /v1/odd", b"POST /v1/chat/completions") + b"Content-Length: %d\r\n\r\n" % len(body)
        _, headers, got = wire.split(await wire.talk(running.port, post + body))
        assert got == packed
        assert ("content-encoding", coding) in headers
        assert ours(headers) == NAMED
        event = await running.event()
    metered = (event["tokens_prompt"], event["tokens_completion"])
    assert metered == ((7, 3) if coding != "br" else (None, None))
