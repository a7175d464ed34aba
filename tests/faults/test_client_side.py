"""Faults 1 to 19 of the reliability notes: bodies. DESIGN §3.5 and §3.8 win where the notes differ.

The rest of the client's side is in test_client_http.py; 15 and 16 (gzip) in test_hardening_client_side.py.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.faults import wire
from tests.faults.stage import Stage
from tests.faults.wire import chunked, post, request

BAD = "sidecar_bad_request"
MESSAGES = b'"messages":[]'
CHAT = b"/v1/chat/completions"
BOTH = b"transfer-encoding: chunked"

BODIES: dict[str, bytes] = {
    "1 empty": b"",
    "1 white space": b" \r\n\t",
    "1 not JSON": b"model=chat.core",
    "1 array": b'[{"model":"chat.core"}]',
    "1 text": b'"chat.core"',
    "1 number": b"42",
    "1 null": b"null",
    "2 trailing garbage": b'{"model":"chat.core"}x',
    "2 two documents": b'{"model":"chat.core"}{"model":"chat.core"}',
    "2 truncated": b'{"model":"chat.core","messages":[{"role"',
    "3 byte order mark": b'\xef\xbb\xbf{"model":"chat.core"}',
    "3 UTF-16": '{"model":"chat.core"}'.encode("utf-16"),
    "3 bad UTF-8": b'{"model":"chat.core","user":"\xff\xfe"}',
    "3 overlong UTF-8": b'{"model":"chat.core","user":"\xc0\xaf"}',
    "4 deep arrays": b'{"model":"chat.core","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "4 deep objects": b'{"model":"chat.core","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "4 deep and unclosed": b"[" * 100_000,
    "4 just too deep": b'{"model":"chat.core","x":' + b"[" * 512 + b"]" * 512 + b"}",
    "5 NaN": b'{"model":"chat.core","temperature":NaN}',
    "5 Infinity": b'{"model":"chat.core","temperature":-Infinity}',
    "8 model twice": b'{"model":"chat.core","model":"chat.hasty"}',
    "8 model twice, one escaped": b'{"model":"chat.core","mod\\u0065l":"chat.hasty"}',
    "8 capability twice": b'{"capability":"chat.core","capability":"chat.hasty"}',
    "9 no model": b"{" + MESSAGES + b"}",
    "9 empty": b'{"model":""}',
    "9 number": b'{"model":7}',
    "9 null": b'{"model":null}',
    "9 true": b'{"model":true}',
    "9 list": b'{"model":["chat.core"]}',
    "9 object": b'{"model":{"id":"chat.core"}}',
    "9 one megabyte": b'{"model":"' + b"x" * (1 << 20) + b'"}',
    "9 CRLF": b'{"model":"chat.core\\r\\nx-evil: 1"}',
    "9 NUL": b'{"model":"chat.core\\u0000"}',
    "9 lone surrogate": b'{"model":"\\ud800"}',
}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_bodies(stage: Stage, name: str) -> None:
    """400 in words of ours, nothing of it goes further, and the connection stays usable."""
    async with wire.connected(stage.port) as client:
        await client.send(post(BODIES[name]))
        answer = await client.answer()
        assert (answer.status, answer.code) == (400, BAD)
        assert json.loads(answer.body)["error"]["code"] == BAD
        assert b"evil" not in answer.body
        assert stage.upstream.seen == []
        await client.send(post(wire.chat()))
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "chat.core/../x", "nobody", "%2e%2e", "Chat.Core", "chat.core ", "${7*7}"]
)
async def test_9_names_that_mean_nothing(stage: Stage, name: str) -> None:
    """Unknown, never part of a path, a header or a label."""
    answer = await stage.chat(name)
    assert (answer.status, answer.code) == (404, "sidecar_unknown_model")
    assert "x-sidecar-pin" not in [header for header, _ in answer.headers]
    assert stage.upstream.seen == []


PASSING: dict[str, bytes] = {
    "5 a number beyond a double": b'"x":1e999',
    "6 an integer of 5000 digits": b'"x":' + b"9" * 5000,
    "7 numbers as they are": b'"a":99999999999999999999,"b":1.0,"c":1e-7,"d":-0.0,"e":1E+2,"f":0.10',
    "7 lone surrogates in text": b'"user":"\\ud83d"',
    "8 another key twice": b'"x":1,"x":2',
    "10 stream is a text": b'"stream":"true"',
    "10 stream is a number": b'"stream":1',
    "10 stream is null": b'"stream":null',
    "11 max_tokens below zero": b'"max_tokens":-1',
    "11 max_tokens huge": b'"max_tokens":1e30',
    "11 max_tokens a text": b'"max_tokens":"many"',
    "12 a million choices": b'"n":1000000,"max_tokens":4096',
    "13 where else to go": b'"api_base":"http://evil.example","base_url":"http://evil.example","api_key":"x"',
    "13 deeper": b'"user_config":{"model_list":[{"litellm_params":{"api_base":"http://evil.example"}}]}',
    "14 a hundred thousand keys": b",".join(b'"k%d":%d' % (i, i) for i in range(100_000)),
    "14 ten thousand messages": b'"m":[' + b",".join([b'{"role":"user","content":"hi"}'] * 10_000) + b"]",
    "4 deep, but not too deep": b'"x":' + b"[" * 510 + b"]" * 510,
}


@pytest.mark.parametrize("name", PASSING)
async def test_odd_but_valid_bodies_arrive_unchanged(stage: Stage, name: str) -> None:
    before = b'{ "model" :"chat.core",' + PASSING[name] + b"," + MESSAGES + b"}"
    began = time.monotonic()
    answer = await stage.ask(post(before))
    took = time.monotonic() - began
    assert answer.status == 200
    (seen,) = stage.upstream.seen
    assert seen.body == before.replace(b"chat.core", b"gpt-5.4-2025-11-02", 1)
    assert seen.target == "/openai/v1/chat/completions"
    assert took < 2.5, "ten times the loop's longest stall that is allowed"


def form(*fields: tuple[bytes, bytes]) -> bytes:
    parts = b"".join(b'--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n' % field for field in fields)
    return request(
        b"POST",
        b"/v1/audio/transcriptions",
        b"content-type: multipart/form-data; boundary=b",
        body=parts + b"--b--\r\n",
    )


@pytest.mark.parametrize(
    "fields",
    [[(b"file", b"x")], [(b"model", b"chat.core"), (b"model", b"chat.hasty")], [(b"model", b"")], []],
    ids=["no model", "two", "an empty one", "nothing"],
)
async def test_bad_forms(stage: Stage, fields: list[tuple[bytes, bytes]]) -> None:
    answer = await stage.ask(form(*fields))
    assert (answer.status, answer.code) == (400, BAD)
    assert stage.upstream.seen == []


async def test_a_form_whose_model_comes_last(stage: Stage) -> None:
    file = (b"file", bytes(range(256)) * 4000)
    assert (await stage.ask(form(file, (b"model", b"chat.core")))).status == 200
    _, _, sent = form(file, (b"model", b"gpt-5.4-2025-11-02")).partition(b"\r\n\r\n")
    assert stage.upstream.seen[0].body == sent


async def test_17_a_huge_declared_length_is_refused_at_once(stage: Stage) -> None:
    async with wire.connected(stage.port) as client:
        await client.send(request(b"POST", CHAT, b"content-length: 999999999999"))
        answer = await client.answer()
        assert (answer.status, answer.code) == (413, "sidecar_too_large")
        await client.ended()


async def test_18_an_endless_chunked_body_is_refused_at_the_limit(stage: Stage) -> None:
    async with wire.connected(stage.port) as client:

        async def feed() -> None:
            await client.send(request(b"POST", CHAT, BOTH))
            while True:
                await client.send(chunked(b"x" * 65536, last=False))
                await asyncio.sleep(0)

        feeding = asyncio.create_task(feed())
        try:
            answer = await client.answer()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        assert (answer.status, answer.code) == (413, "sidecar_too_large")
        await client.ended()
    assert stage.upstream.seen == []


async def test_19_a_body_of_tiny_chunks_delays_nobody(stage: Stage) -> None:
    body = b'{"model":"chat.core","user":"' + b"x" * 300_000 + b'"}'
    data = request(b"POST", CHAT, BOTH) + chunked(*(body[i : i + 1] for i in range(len(body))))
    tiny = asyncio.create_task(stage.ask(data))
    longest = 0.0
    while not tiny.done():
        began = time.monotonic()
        assert (await stage.chat()).status == 200
        longest = max(longest, time.monotonic() - began)
    assert (await tiny).status == 200
    assert longest < 10, "ten times the promise"
