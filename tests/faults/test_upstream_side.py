"""Faults 39 to 67 of the reliability notes, before and in whole answers. Streams are in test_upstream_streams.py.

What one attempt comes to is tried with pins that allow no more; `chat.tried` makes up to three, as by default. Faults
48, 49, 57, 59 and 62 have tests of their names in test_hardening_provider_side.py.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
import zlib
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.faults import wire
from tests.faults.stage import PINS, Stage, staged
from tests.faults.upstream import HEALTHY, JSON, Script, Step
from tests.faults.wire import chunked, framed, post, request

APP = b"content-type: application/json"
HTML = b"content-type: text/html"
HINT = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
UNREACHABLE, TIMEOUT = "sidecar_upstream_unreachable", "sidecar_upstream_timeout"
OK = b"HTTP/1.1 200 OK\r\n"
ONE_BY_ONE = [step for i in range(len(HEALTHY)) for step in (HEALTHY[i : i + 1], 0.001)]

CHUNKED = APP + b"\r\ntransfer-encoding: chunked\r\n\r\n"
LONG = APP + b"\r\ncontent-length: 9999\r\n\r\n"

NOT_IN_TIME: dict[str, Script] = {
    "40 hang": (Step.HANG,),
    "40 hang in the status line": (b"HTTP/1.1 2", Step.HANG),
    "40 hang in the headers": (OK + b"content-type: app", Step.HANG),
    "40 hang in a whole body": (framed(b"200 OK", JSON, APP)[:-5], Step.HANG),
    "41 headers without end, a byte at a time": (OK + b"x: ", *[b"a", 0.02] * 100, Step.HANG),
}
NO_ANSWER: dict[str, Script] = {
    "39 reset": (Step.RST,),
    "39 closed": (Step.FIN,),
    "42 half a header": (OK + b"content-le", Step.FIN),
    "42 SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", Step.HANG),
    "42 TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", Step.HANG),
    "42 HTTP/0.9": (b"<html>hello</html>", Step.FIN),
    "42 HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Step.HANG),
    "42 status 000": (b"HTTP/1.1 000 No\r\ncontent-length: 0\r\n\r\n", Step.HANG),
    "42 status of four digits": (b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", Step.HANG),
    "42 unasked 101": (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Step.HANG),
    "43 nothing but 1xx": (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, Step.FIN),
    "44 a header of 200 KB": (OK + b"x: " + b"a" * 200_000 + b"\r\n\r\n", Step.HANG),
    "44 five thousand headers": (OK + b"".join(b"x-%d: 1\r\n" % i for i in range(5000)) + b"\r\n", Step.HANG),
    "44 headers without end": (OK, b"x: y\r\n" * 1000, Step.ENDLESS),
    "45 NUL in a value": (OK + b"x: a\x00b\r\ncontent-length: 0\r\n\r\n", Step.HANG),
    "45 CR in a value": (OK + b"x: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n", Step.HANG),
    "46 two lengths": (OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!", Step.HANG),
    "46 length and chunked": (OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Step.HANG),
    "46 a length of nonsense": (OK + b"content-length: five\r\n\r\nhello", Step.HANG),
    "56 JSON shorter than its length": (OK + LONG + JSON, Step.FIN),
    "56 JSON, reset": (OK + LONG + JSON, 0.05, Step.RST),
    "56 JSON, no last chunk": (OK + CHUNKED + chunked(JSON, last=False), Step.FIN),
    "56 JSON, a bad chunk": (OK + CHUNKED + b"zz\r\n{}", Step.HANG),
    "56 an error's body, cut": (b"HTTP/1.1 500 No\r\n" + APP + b"\r\ncontent-length: 99\r\n\r\n{", Step.FIN),
}


@pytest.mark.parametrize("name", [*NOT_IN_TIME, *NO_ANSWER])
async def test_no_usable_answer(stage: Stage, name: str) -> None:
    """An error of ours in the caller's dialect, soon, in one attempt, with nothing of the provider's bytes in it."""
    status, code = (504, TIMEOUT) if name in NOT_IN_TIME else (502, UNREACHABLE)
    stage.upstream.says(*(NOT_IN_TIME | NO_ANSWER)[name])
    began = time.monotonic()
    answer = await stage.chat("chat.hasty")
    assert (answer.status, answer.code, answer.complete) == (status, code, True)
    assert json.loads(answer.body)["error"]["code"] == code
    assert answer.get("x-sidecar-attempts") == "1"
    assert answer.values("set-cookie") == []
    assert time.monotonic() - began < 3
    assert len(stage.upstream.seen) == 1
    async with asyncio.timeout(3):
        await stage.upstream.seen[0].gone.wait()  # nothing is left open behind it


PASSING = ["39 reset", "42 SSH", "46 two lengths", "56 JSON, reset", "56 an error's body, cut"]
"""Of each kind one that may be over the next time."""


@pytest.mark.parametrize("name", [*PASSING, "40 hang in a whole body"])
async def test_no_usable_answer_is_asked_for_again(stage: Stage, name: str) -> None:
    stage.upstream.says(*(NOT_IN_TIME | NO_ANSWER)[name])
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.body, answer.get("x-sidecar-attempts")) == (200, JSON, "2")
    assert answer.values("x-should-retry") == []
    first, second = stage.upstream.seen
    assert first.body == second.body


@pytest.mark.parametrize("name", PASSING)
async def test_no_usable_answer_three_times(stage: Stage, name: str) -> None:
    """The SDK must not multiply our attempts by its own."""
    for _ in range(3):
        stage.upstream.says(*NO_ANSWER[name])
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.code, answer.get("x-sidecar-attempts")) == (502, UNREACHABLE, "3")
    assert answer.values("x-should-retry") == ["false"]
    assert len(stage.upstream.seen) == 3


ANSWERED: dict[str, tuple[Script, int, bytes]] = {
    "41 a byte at a time": (tuple(ONE_BY_ONE), 200, JSON),
    "43 1xx, twenty thousand times": ((HINT * 20_000 + HEALTHY,), 200, JSON),
    "47 an empty Connection": ((framed(b"200 OK", JSON, APP, b"connection:"),), 200, JSON),
    "50 empty error": ((framed(b"404 Not Found", b""),), 404, b""),
    "53 HTML 502": ((framed(b"502 Bad Gateway", b"<html>bad</html>", HTML),), 502, b"<html>bad</html>"),
    "53 HTML 200": ((framed(b"200 OK", b"<html>log in</html>", HTML),), 200, b"<html>log in</html>"),
    "54 no JSON": ((framed(b"200 OK", b"{nope", APP),), 200, b"{nope"),
    "54 nothing": ((framed(b"200 OK", b"", APP),), 200, b""),
    "54 null": ((framed(b"200 OK", b"null", APP),), 200, b"null"),
    "54 bad UTF-8": ((framed(b"200 OK", b'{"usage":"\xff"}', APP),), 200, b'{"usage":"\xff"}'),
    "54 deep": ((framed(b"200 OK", b'{"usage":' + b"[" * 100_000, APP),), 200, b'{"usage":' + b"[" * 100_000),
    "58 a lie of gzip": ((framed(b"200 OK", JSON, APP, b"content-encoding: gzip"),), 200, JSON),
    "58 an unknown coding": ((framed(b"200 OK", JSON, APP, b"content-encoding: zz"),), 200, JSON),
    "60 HTTP/1.0, ended by its close": ((b"HTTP/1.0 200 OK\r\n" + APP + b"\r\n\r\n" + JSON, Step.FIN), 200, JSON),
    "60 no framing, ended by its close": ((OK + b"\r\n" + JSON, Step.FIN), 200, JSON),
}


@pytest.mark.parametrize("name", ANSWERED)
async def test_odd_answers_pass_byte_for_byte(stage: Stage, name: str) -> None:
    script, status, body = ANSWERED[name]
    stage.upstream.says(*script)
    answer = await stage.chat()
    assert (answer.status, answer.body, answer.complete, answer.code) == (status, body, True, None)
    assert len(stage.upstream.seen) == 1


INSIDE = {
    "54 no JSON": b"{nope",
    "54 nothing": b"",
    "54 half of it": JSON[:-5],
    "an error": b'{"error":{"message":"overloaded","type":"server_error","code":null}}',
}
"""No answer, though the status says 200."""


@pytest.mark.parametrize("name", INSIDE)
async def test_an_error_inside_a_whole_answer_is_asked_for_again(stage: Stage, name: str) -> None:
    bad = framed(b"200 OK", INSIDE[name], APP)
    stage.upstream.says(bad)
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.body, answer.get("x-sidecar-attempts")) == (200, JSON, "2")
    for _ in range(3):
        stage.upstream.says(bad)
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.body, answer.get("x-sidecar-attempts")) == (200, INSIDE[name], "3")


async def test_one_that_an_sdk_can_use_is_not(stage: Stage) -> None:
    odd = b'{"error":{"message":"a part is missing"},"choices":[{"index":0}],"logprob":NaN}'
    stage.upstream.says(framed(b"200 OK", odd, APP))
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.body, answer.get("x-sidecar-attempts")) == (200, odd, "1")


CALLERS = [400, 401, 403, 404, 409, 413, 422]
PASSING_BY = [408, 429, 500, 502, 503, 504, 529]


def error(status: int, number: int = 0, *headers: bytes) -> tuple[bytes, bytes]:
    """An answer and its body, which no other number's equals."""
    body = b'{"error" : {"message":"no %d","type":"x","code":null}}\n' % number
    ids = b"x-request-id: r%d" % number, b"request-id: s%d" % number
    return framed(b"%d Its Own Words" % status, body, APP, *ids, *headers), body


@pytest.mark.parametrize("status", [*CALLERS, *PASSING_BY])
async def test_50_51_errors_pass_as_they_came(stage: Stage, status: int) -> None:
    """One attempt: the app's own SDK may still try again, so we say nothing of that."""
    answer, body = error(status)
    stage.upstream.says(answer)
    got = await stage.chat()
    assert (got.status, got.body, got.code) == (status, body, None)
    assert got.raw.startswith(b"HTTP/1.1 %d Its Own Words\r\n" % status)
    assert (got.get("x-request-id"), got.get("request-id")) == ("r0", "s0")
    assert got.values("x-should-retry") == []
    assert len(stage.upstream.seen) == 1


@pytest.mark.parametrize("status", CALLERS)
async def test_50_the_caller_s_own_errors_are_not_retried(stage: Stage, status: int) -> None:
    answer, body = error(status)
    stage.upstream.says(answer)
    got = await stage.chat("chat.tried")
    assert (got.status, got.body, got.get("x-sidecar-attempts")) == (status, body, "1")
    assert got.values("x-should-retry") == []
    assert len(stage.upstream.seen) == 1


@pytest.mark.parametrize("status", PASSING_BY)
async def test_51_an_error_that_passes_by_itself_is_tried_three_times(stage: Stage, status: int) -> None:
    """The last of the answers, byte for byte, and `x-should-retry: false`, whatever the provider says of that."""
    scripts = [error(status, number, b"x-should-retry: true", b"retry-after-ms: 5") for number in range(3)]
    for answer, _ in scripts:
        stage.upstream.says(answer)
    got = await stage.chat("chat.tried")
    assert (got.status, got.body, got.code) == (status, scripts[2][1], None)
    assert got.raw.startswith(b"HTTP/1.1 %d Its Own Words\r\n" % status)
    assert (got.get("x-request-id"), got.get("x-sidecar-attempts")) == ("r2", "3")
    assert got.values("x-should-retry") == ["false"]
    assert len({seen.body for seen in stage.upstream.seen}) == 1
    assert len(stage.upstream.seen) == 3


@pytest.mark.parametrize("status", [429, 503])
async def test_51_it_is_over_the_second_time(stage: Stage, status: int) -> None:
    """Without a word of the provider's, the first wait is 100 to 200 ms."""
    stage.upstream.says(error(status)[0])
    began = time.monotonic()
    got = await stage.chat("chat.tried")
    assert (got.status, got.body, got.get("x-sidecar-attempts")) == (200, JSON, "2")
    assert 0.1 <= time.monotonic() - began < 2
    event = await stage.running.event()
    assert [(a["cause"], a["outcome"]) for a in event["attempts"]] == [("first", "failed"), ("retry", "ok")]


async def test_51_a_provider_that_asks_not_to_be_tried_again_is_not(stage: Stage) -> None:
    answer, body = error(503, 0, b"x-should-retry: false")
    stage.upstream.says(answer)
    got = await stage.chat("chat.tried")
    assert (got.status, got.body, got.get("x-sidecar-attempts")) == (503, body, "1")
    assert got.values("x-should-retry") == ["false"], "its own"


TOMORROW = formatdate(time.time() + 86_400, usegmt=True).encode()
AFTERS = [b"7", b"86400", b"Wed, 21 Oct 2099 07:28:00 GMT", b"soon", b"-1", b""]


@pytest.mark.parametrize("after", AFTERS)
async def test_52_retry_after_is_kept(stage: Stage, after: bytes) -> None:
    stage.upstream.says(framed(b"429 Slow", b"{}", b"retry-after: " + after, b"retry-after-ms: 12"))
    answer = await stage.chat()
    assert (answer.status, answer.get("retry-after"), answer.get("retry-after-ms")) == (429, after.decode(), "12")


@pytest.mark.parametrize("after", [b"9", b"86400", TOMORROW], ids=["9 s", "a day", "tomorrow"])
async def test_52_a_long_retry_after_is_not_slept(stage: Stage, after: bytes) -> None:
    """Longer than our longest wait (8 s), or than the caller's time: passed on at once, for the app to decide."""
    stage.upstream.says(framed(b"429 Slow", b"{}", b"retry-after: " + after))
    began = time.monotonic()
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.get("retry-after"), answer.get("x-sidecar-attempts")) == (429, after.decode(), "1")
    assert answer.values("x-should-retry") == []
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("after", [b"soon", b"-1", b"", b"Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_52_a_retry_after_of_nonsense_is_none(stage: Stage, after: bytes) -> None:
    stage.upstream.says(framed(b"429 Slow", b"{}", b"retry-after: " + after))
    began = time.monotonic()
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.get("x-sidecar-attempts")) == (200, "2")
    assert time.monotonic() - began < 3


async def test_52_a_short_retry_after_is_waited_for_and_no_less(stage: Stage) -> None:
    stage.upstream.says(framed(b"429 Slow", b"{}", b"retry-after-ms: 600"))
    began = time.monotonic()
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.get("x-sidecar-attempts")) == (200, "2")
    assert 0.6 <= time.monotonic() - began < 3


async def test_47_hop_by_hop_headers_end_here(stage: Stage) -> None:
    lines = [
        APP,
        b"connection: keep-alive, X-Internal",
        b"connection: x-too",
        b"x-internal: 1",
        b"x-too: 1",
        b"keep-alive: timeout=5",
        b"proxy-authenticate: Basic",
        b"upgrade: h2",
        b"trailer: x",
        b"x-kept: 1",
        b"x-sidecar-model: forged",
    ]
    stage.upstream.says(framed(b"200 OK", JSON, *lines))
    answer = await stage.chat()
    names = {name.lower() for name, _ in answer.headers if not name.startswith("x-sidecar")}
    assert names == {"content-type", "content-length", "x-kept"}
    assert answer.values("x-sidecar-model") == ["gpt-5.4-2025-11-02"]


USAGES = [
    '{"prompt_tokens":1e30,"completion_tokens":-5}',
    '{"prompt_tokens":"many"}',
    "null",
    "7",
    "[]",
    "{}",
    '{"prompt_tokens":' + "9" * 5000 + "}",
    '{"prompt_tokens":true,"completion_tokens":1.5}',
]


@pytest.mark.parametrize("usage", USAGES)
async def test_55_nonsense_usage_counts_as_nothing(stage: Stage, usage: str) -> None:
    body = b'{"model":"gpt-5.4-2025-11-02","choices":[],"usage":' + usage.encode() + b"}"
    stage.upstream.says(framed(b"200 OK", body, APP))
    assert (await stage.chat()).body == body
    event = await stage.running.event()
    for field in ("tokens_prompt", "tokens_completion"):
        assert event[field] is None or 0 <= event[field] <= 1


async def test_58_gzip_is_metered_from_a_copy(stage: Stage) -> None:
    for data, coding in ((gzip.compress(JSON), b"gzip"), (zlib.compress(JSON), b"deflate")):
        stage.upstream.says(framed(b"200 OK", data, APP, b"content-encoding: " + coding))
        answer = await stage.chat("chat.core", b"accept-encoding: gzip, deflate, br, zstd")
        assert (answer.body, answer.get("content-encoding")) == (data, coding.decode())
    assert stage.upstream.seen[0].values("accept-encoding") == ["gzip, deflate"]
    event = await stage.running.event(count=2)
    assert (event["tokens_prompt"], event["tokens_completion"]) == (3, 1)


async def test_58_a_gzip_bomb_is_passed_and_not_inflated(stage: Stage) -> None:
    bomb = gzip.compress(b"\0" * (256 << 20), 1)
    stage.upstream.says(framed(b"200 OK", bomb, APP, b"content-encoding: gzip"))
    before = _memory()
    answer = await stage.chat("chat.core", b"accept-encoding: gzip")
    assert answer.body == bomb
    assert _memory() - before < 100 << 20, "the notes allow 150 MiB for more than twice as much"


def _memory() -> int:
    """The most that this process ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("kind", [APP, b"content-type: text/plain"])
async def test_58_an_endless_body_is_bounded(stage: Stage, kind: bytes) -> None:
    """It streams on as far as the client reads, and ends when the client leaves."""
    stage.upstream.says(
        OK + kind + b"\r\ntransfer-encoding: chunked\r\n\r\n", chunked(b"x" * 65536, last=False), Step.ENDLESS
    )
    shared = stage.running.lifecycle.shared
    async with wire.connected(stage.port, receive_buffer=65536) as client:
        await client.send(post(wire.chat()))
        for _ in range(200):
            assert await client.reader.read(65536)
            assert shared.buffers.used <= 9 << 20
    async with asyncio.timeout(1):
        await stage.upstream.seen[0].gone.wait()


@pytest.mark.parametrize("end", [(), (0.05, Step.FIN)])
@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/v1/anything"])
async def test_61_an_early_413_reaches_the_client(stage: Stage, target: bytes, end: Script) -> None:
    """Not EPIPE, not 502: the provider has said what is wrong."""
    stage.upstream.early = True
    stage.upstream.says(framed(b"413 Too Large", b'{"error":{"message":"too large"}}', APP), *end)
    async with wire.connected(stage.port) as client:
        sending = asyncio.create_task(client.send(post(wire.chat(user="x" * 3_000_000), target=target)))
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b'{"error":{"message":"too large"}}')
        await asyncio.gather(sending, return_exceptions=True)


async def test_56_an_answer_of_another_media_type_breaks_off(stage: Stage) -> None:
    stage.upstream.says(OK + b"content-type: text/csv\r\ncontent-length: 9\r\n\r\na,b", 0.05, Step.FIN)
    answer = await stage.ask(request(b"GET", b"/v1/files/f1/content"))
    assert (answer.status, answer.body, answer.complete) == (200, b"a,b", False)
    event = await stage.running.event()
    assert event["error"] == "sidecar_stream_interrupted"


async def test_40_a_hung_connect_is_a_504(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full swallows our SYN."""
    monkeypatch.setenv("SOME_KEY", "k")
    pins = PINS.replace("pins:\n", "  gpt-5.5-2026-01-15: {provider: second}\npins:\n").replace(
        "  assistant:", "  chat.far: {stable: gpt-5.5-2026-01-15, timeouts: {connect: 300ms}}\n  assistant:"
    )
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        plugs = [asyncio.create_task(asyncio.open_connection(*address)) for _ in range(4)]
        await asyncio.sleep(0.1)
        far = {"second": {"base_url": f"http://127.0.0.1:{address[1]}/v1", "api_key_env": "SOME_KEY"}}
        async with staged(tmp_path, far, pins) as stage:
            answer = await stage.chat("chat.far")
            assert (answer.status, answer.code) == (504, TIMEOUT)
            assert stage.upstream.seen == []
        for plug in plugs:
            plug.cancel()
        for made in await asyncio.gather(*plugs, return_exceptions=True):
            if isinstance(made, tuple):
                made[1].close()
