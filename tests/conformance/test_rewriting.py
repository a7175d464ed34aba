"""Only the model's bytes change: what the provider got is held against bytes written by hand."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from sidecar.provider import FakeProvider
from tests.conformance.sides import MEANING, pins
from tests.harness import Running, sidecar

CHAT = MEANING["chat"]
JSON = {"content-type": "application/json"}
ANTHROPIC = JSON | {"anthropic-version": "2023-06-01", "x-api-key": "key"}
CAPABILITY = {"x-model-capability": "chat"}


@pytest.fixture
async def http(proxy: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(proxy.url) as session:
        yield session


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


ODD = rb"""
  { "n" : 1.0e0 ,"seed":12345678901234567890123,	"temperature":-0.0,"top_p":1E-7,
  "messages" : [ {"role":"user","content":"\u00e9\/\ud83d\ude00 \"model\": \"chat\"","model":"chat"} ],
  "model":%s, "unknown":{"model":"chat","b":[ ],"a":{ }}, "z":true,"a":null }
"""
# The path, the headers and the body that are asked, and the body that is received.
JSON_CASES = {
    "everything-stays": ("chat/completions", JSON, ODD % b'"chat"', ODD % b'"%s"' % CHAT.encode()),
    "escaped-value": ("chat/completions", JSON, ODD % rb'"ch\u0061t"', ODD % b'"%s"' % CHAT.encode()),
    "escaped-key": (
        "chat/completions", JSON, rb'{"mod\u0065l":"chat","messages":[]}',
        rb'{"mod\u0065l":"gpt-5.4-2025-11-02","messages":[]}',
    ),
    "an-id-keeps-its-bytes": (
        "chat/completions", JSON, rb'{"model":"gpt\u002d5.4-2025-11-02","messages":[]}',
        rb'{"model":"gpt\u002d5.4-2025-11-02","messages":[]}',
    ),
    "no-content-type": (
        "chat/completions", {}, b'{"messages":[],"model":"chat"}', b'{"messages":[],"model":"gpt-5.4-2025-11-02"}'
    ),
    "capability-first": (
        "chat/completions", JSON, b'{ "capability":"chat" , "messages":[ ]}',
        b'{ "model":"gpt-5.4-2025-11-02" , "messages":[ ]}',
    ),
    "capability-beats-model": (
        "chat/completions", JSON, b'{"model":"other",\n "capability" : "chat",\n "messages":[]}',
        b'{"model":"gpt-5.4-2025-11-02",\n "messages":[]}',
    ),
    "capability-before-model": (
        "chat/completions", JSON, b'{ "capability":"chat", "messages":[], "model":"other" }',
        b'{ "messages":[], "model":"gpt-5.4-2025-11-02" }',
    ),
    "header-beats-body": (
        "chat/completions", JSON | CAPABILITY, b'{"messages":[],"model": "other" }',
        b'{"messages":[],"model": "gpt-5.4-2025-11-02" }',
    ),
    "nested-batches": (
        "messages/batches", ANTHROPIC,
        b'{"requests":[{"params":{"n":1e1,"model" : "assistant"}},\n{"params":{"model":"quick","m":0}}]}',
        b'{"requests":[{"params":{"n":1e1,"model" : "%s"}},\n{"params":{"model":"%s","m":0}}]}'
        % (MEANING["assistant"].encode(), MEANING["quick"].encode()),
    ),
    "optional-and-absent": ("moderations", JSON, b'{"input" : "a"}', b'{"input" : "a"}'),
    "optional-and-null": ("responses", JSON, b'{"input":"a","model":null}', b'{"input":"a","model":null}'),
    "stream-of-responses": (
        "responses", JSON, b'{"model":"chat","input":"a","stream":true}',
        b'{"model":"gpt-5.4-2025-11-02","input":"a","stream":true}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", JSON_CASES)
async def test_json(http: aiohttp.ClientSession, provider: FakeProvider, case: str) -> None:
    path, headers, asked, received = JSON_CASES[case]
    async with http.post(f"/v1/{path}", data=asked, headers=headers, skip_auto_headers=["content-type"]) as answer:
        await answer.read()
    record = provider.ledger.requests[0]
    assert record.body_sha256 == sha256(received)
    assert dict(record.headers)["Content-Length"] == str(len(received))
    assert not {name.lower() for name, _ in record.headers} & {"x-model-capability"}


async def test_a_capability_is_all_that_a_body_needs(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    async with http.post("/v1/chat/completions", data=b'{"messages":[]}', headers=JSON | CAPABILITY) as answer:
        assert (await answer.json())["model"] == CHAT
    assert provider.ledger.requests[0].model == CHAT


@pytest.mark.parametrize(
    ("method", "asked", "received"),
    [
        (
            "POST",
            "/v1beta/models/vision:generateContent?a=%20b&key=k",
            "/v1beta/models/{}:generateContent?a=%20b&key=k",
        ),
        ("POST", "/v1beta/models/v%69sion:generateContent", "/v1beta/models/{}:generateContent"),
        ("GET", "/v1beta/models/vision", "/v1beta/models/{}"),
    ],
)
async def test_path(
    http: aiohttp.ClientSession, provider: FakeProvider, method: str, asked: str, received: str
) -> None:
    body = b'{ "contents":[{"parts":[{"text":"a"}]}] }' if method == "POST" else b""
    async with http.request(method, URL(asked, encoded=True), data=body) as answer:
        assert answer.status == 200
    record = provider.ledger.requests[0]
    assert record.path + (f"?{record.query}" if record.query else "") == received.format(MEANING["vision"])
    assert record.body_sha256 == sha256(body)


FORM = (
    b'preamble\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\n\x00\xff\r\n--bc\r\n'
    b"\r\n--b\r\ncontent-disposition:form-data;name=model\r\nX-Odd: 1\r\n\r\n%s\r\n--b--\r\nepilogue"
)


async def test_form_with_a_late_model(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    headers = {"content-type": 'multipart/form-data; boundary="b"'}
    async with http.post("/v1/audio/transcriptions", data=FORM % b"hear", headers=headers) as answer:
        await answer.read()
    assert provider.ledger.requests[0].body_sha256 == sha256(FORM % MEANING["hear"].encode())


UPLOAD = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n%s\r\n--b\r\nContent-Disposition: form-data; '
    b'name="file"; filename="a.jsonl"\r\n\r\n{"body":{"x":1.0,"model":"%s"}}\r\n\r\n'
    b' {"body" : {"model": "%s"} }\r\n--b--\r\n'
)


@pytest.mark.parametrize("purpose", [b"batch", b"user_data"])
async def test_only_batches_are_rewritten(http: aiohttp.ClientSession, provider: FakeProvider, purpose: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    asked = UPLOAD % (purpose, b"chat", b"other")
    async with http.post("/v1/files", data=asked, headers=headers) as answer:
        assert answer.status == 200
    rewritten = UPLOAD % (purpose, CHAT.encode(), MEANING["other"].encode())
    assert provider.ledger.requests[0].body_sha256 == sha256(rewritten if purpose == b"batch" else asked)


STREAM = b'{%s"model":"chat", "messages":[], "stream":true%s}'
ADDED = b'"stream_options":{"include_usage":true},'


def sent(before: bytes, after: bytes) -> str:
    return sha256((STREAM % (before, after)).replace(b"chat", CHAT.encode(), 1))


@pytest.mark.parametrize(
    ("options", "as_sent", "shown"),
    [
        (b"", (ADDED, b""), False),
        (b', "stream_options":null', (b"", b', "stream_options":{"include_usage":true}'), False),
        (b', "stream_options" : {"x":1.0}', (b"", b', "stream_options" : {"include_usage":true,"x":1.0}'), False),
        (b', "stream_options": { }', (b"", b', "stream_options": {"include_usage":true }'), False),
        (b', "stream_options":{"include_usage": true}', (b"", b', "stream_options":{"include_usage": true}'), True),
        (b', "stream_options":{"include_usage": false}', (b"", b', "stream_options":{"include_usage": false}'), False),
    ],
)
async def test_include_usage(
    proxy: Running,
    http: aiohttp.ClientSession,
    provider: FakeProvider,
    options: bytes,
    as_sent: tuple[bytes, bytes],
    shown: bool,
) -> None:
    """DESIGN 2.1: added where absent, and hidden then; an explicit word is respected, even if it means no metering."""
    async with http.post("/v1/chat/completions", data=STREAM % (b"", options), headers=JSON) as answer:
        text = await answer.text()
    record = provider.ledger.requests[0]
    assert record.body_sha256 == sent(*as_sent)
    assert ('"choices":[]' in text) is shown
    event = await proxy.event()
    if b"false" in options:
        assert event["tokens_prompt"] is None or not event["tokens_prompt"]
    else:
        assert (event["tokens_prompt"], event["tokens_completion"]) == (record.prompt_tokens, record.completion_tokens)


async def test_stream_usage_keep_leaves_the_body_alone(provider: FakeProvider, tmp_path: Path) -> None:
    settings = {"dialect": "openai", "base_url": f"{provider.url}/v1", "stream_usage": "keep"}
    async with (
        sidecar(tmp_path, {"openai": settings}, pins=pins(("openai",))) as running,
        aiohttp.ClientSession() as http,
    ):
        url = f"{running.url}/v1/chat/completions"
        async with http.post(url, data=STREAM % (b"", b""), headers=JSON) as answer:
            assert (await answer.text()).endswith("[DONE]\n\n")
    assert provider.ledger.requests[0].body_sha256 == sent(b"", b"")


async def test_a_provider_that_refuses_stream_options_is_asked_again_and_remembered(
    proxy: Running, http: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script([{"fault": "reject-stream-options"}])
    for _ in range(2):
        async with http.post("/v1/chat/completions", data=STREAM % (b"", b""), headers=JSON) as answer:
            assert answer.status == 200
            assert (await answer.text()).endswith("data: [DONE]\n\n")
    as_asked = sent(b"", b"")
    assert [r.status for r in provider.ledger.requests] == [400, 200, 200]
    assert [r.body_sha256 for r in provider.ledger.requests][1:] == [as_asked, as_asked]
    first, second = [await proxy.event(n, count=2) for n in range(2)]
    assert [a["cause"] for a in first["attempts"]] == ["first", "without_usage"]
    assert len(second["attempts"]) == 1


async def test_the_callers_own_stream_options_are_refused_as_without_us(
    http: aiohttp.ClientSession, provider: FakeProvider
) -> None:
    provider.script([{"fault": "reject-stream-options"}])
    body = STREAM % (ADDED, b"")
    async with http.post("/v1/chat/completions", data=body, headers=JSON) as answer:
        assert answer.status == 400
    assert len(provider.ledger.requests) == 1
