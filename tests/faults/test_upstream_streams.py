"""Faults 63 to 67 of the reliability notes: event streams that break, stall, lie, or are merely unusual."""

from __future__ import annotations

import asyncio
import gzip
import json
import time

import pytest

from tests.faults import wire
from tests.faults.stage import Stage
from tests.faults.upstream import JSON, Script, Step
from tests.faults.wire import chunked, framed
from tests.harness import until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
EVENTS = HEAD + b"transfer-encoding: chunked\r\n\r\n"
INTERRUPTED = "sidecar_stream_interrupted"


def delta(text: str = "x", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"model": "gpt-5.4-2025-11-02", "choices": [choice]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
WHOLE = delta("Hel") + delta("lo") + delta("", "stop")
PING = b": ping\n\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
LINES = b'data: {"choices":[\ndata: {"index":0,"delta":{"content":"x"},\ndata: "finish_reason":"stop"}]}\n\n'
BESIDE = delta("", "stop").replace(b'"choices"', b'"usage":{"prompt_tokens":1},"choices"')


def stream(*pieces: bytes | float | Step, last: bool = True) -> Script:
    """A chunked event stream; each piece is a chunk."""
    steps = [chunked(piece, last=False) if isinstance(piece, bytes) else piece for piece in pieces]
    return (EVENTS, *steps, *([b"0\r\n\r\n"] if last else []))


BROKEN: dict[str, Script] = {
    "63 closed": stream(delta(), Step.FIN, last=False),
    "63 reset": stream(delta(), 0.05, Step.RST, last=False),
    "63 a clean end without a finish": stream(delta()),
    "63 a clean end in the middle of an event": stream(delta(), b'data: {"choices"'),
    "63 closed in the middle of an event": stream(delta(), b'data: {"choices"', Step.FIN, last=False),
    "63 a bad chunk": (EVENTS + chunked(delta(), last=False), 0.05, b"zz\r\n", Step.HANG),
    "63 shorter than its length": (HEAD + b"content-length: 9999\r\n\r\n" + delta(), Step.FIN),
    "63 ended by its close, without a finish": (HEAD + b"\r\n" + delta(), Step.FIN),
    "64 stalled": stream(delta(), Step.HANG),
    "64 stalled in the middle of an event": stream(delta(), b"data: {", Step.HANG),
    "64 comments and nothing else": stream(delta(), *[PING, 0.05] * 100, Step.HANG),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_stream_never_looks_complete(stage: Stage, name: str) -> None:
    stage.upstream.says(*BROKEN[name])
    began = time.monotonic()
    answer = await stage.chat("chat.hasty", stream=True)
    assert time.monotonic() - began < 9
    assert answer.status == 200
    assert answer.body.startswith(delta())
    rest = answer.body[len(delta()) :].replace(PING, b"")
    assert rest.startswith(b"data: {"), "nothing of a half event"
    error = json.loads(rest[6:])["error"]
    assert error["code"] == INTERRUPTED
    event = await stage.running.event()
    assert (event["error"], [a["outcome"] for a in event["attempts"]]) == (INTERRUPTED, ["failed"])


@pytest.mark.parametrize("script", [stream(Step.FIN, last=False), stream(), stream(0.02, Step.RST, last=False)])
async def test_63_a_stream_that_ends_before_it_began(stage: Stage, script: Script) -> None:
    """Nothing was committed yet, so it can still be an error of HTTP's."""
    stage.upstream.says(*script)
    answer = await stage.chat(stream=True)
    assert (answer.status, answer.code) == (502, "sidecar_upstream_unreachable")


@pytest.mark.parametrize("begun", [(), (ROLE, PING), (ROLE, b'data: {"choices"')])
async def test_63_a_stream_that_ends_before_it_said_anything_is_asked_for_again(
    stage: Stage, begun: tuple[bytes, ...]
) -> None:
    """What it had begun with was held back: nothing of it is seen."""
    stage.upstream.says(*stream(*begun, 0.02, Step.FIN, last=False))
    stage.upstream.says(*stream(WHOLE, DONE))
    answer = await stage.chat("chat.tried", stream=True)
    assert (answer.status, answer.body, answer.complete) == (200, WHOLE + DONE, True)
    assert answer.get("x-sidecar-attempts") == "2"


async def test_63_a_stream_that_said_something_is_never_asked_for_again(stage: Stage) -> None:
    stage.upstream.says(*BROKEN["63 closed"])
    answer = await stage.chat("chat.tried", stream=True)
    assert answer.body.startswith(delta())
    assert INTERRUPTED.encode() in answer.body
    assert (answer.get("x-sidecar-attempts"), len(stage.upstream.seen)) == ("1", 1)


@pytest.mark.parametrize("piece", [PING, ROLE, b"\n\n", b":" + b"x" * 99])
async def test_64_pings_are_no_first_event(stage: Stage, piece: bytes) -> None:
    stage.upstream.says(*stream(*[piece, 0.05] * 200, Step.HANG))
    began = time.monotonic()
    answer = await stage.chat("chat.hasty", stream=True)
    assert time.monotonic() - began < 6, "the limit is 0.3 s"
    assert answer.status in (200, 504)
    assert b"sidecar_" in answer.body


@pytest.mark.parametrize("piece", [PING, ROLE])
async def test_64_pings_keep_a_stream_alive(stage: Stage, piece: bytes) -> None:
    """The idle limit is 0.3 s, the content's 0.9 s: half a second of pings harms nothing."""
    pieces = (delta("Hel"), *[piece, 0.05] * 10, delta("", "stop"), DONE)
    stage.upstream.says(*stream(*pieces))
    answer = await stage.chat("chat.hasty", stream=True)
    assert (answer.complete, answer.body) == (True, b"".join(p for p in pieces if isinstance(p, bytes)))


OVERLOADED = b'data: {"error":{"message":"overloaded","type":"server_error","code":null}}\n\n'


async def test_63_an_error_first_in_a_200(stage: Stage) -> None:
    error = OVERLOADED
    stage.upstream.says(*stream(error))
    answer = await stage.chat(stream=True)
    assert (answer.status, answer.body, answer.complete) == (200, error, True)
    event = await stage.running.event()
    assert [a["outcome"] for a in event["attempts"]] == ["failed"]


async def test_63_an_error_first_in_a_200_is_a_failure_like_any_other(stage: Stage) -> None:
    stage.upstream.says(*stream(ROLE, OVERLOADED))
    stage.upstream.says(*stream(WHOLE, DONE))
    answer = await stage.chat("chat.tried", stream=True)
    assert (answer.status, answer.body, answer.get("x-sidecar-attempts")) == (200, WHOLE + DONE, "2")


async def test_63_once_another_answers_the_failed_one_is_hung_up_on(stage: Stage) -> None:
    """It was kept open until then, since it might have been shown."""
    stage.upstream.says(*stream(OVERLOADED, Step.HANG, last=False))
    stage.upstream.says(*stream(delta(), 3.0, delta("", "stop"), DONE))
    asking = asyncio.create_task(stage.chat("chat.tried", stream=True))
    await until(lambda: len(stage.upstream.seen) == 2)
    async with asyncio.timeout(2):
        await stage.upstream.seen[0].gone.wait()
    assert not asking.done()
    asking.cancel()


async def test_63_three_times_the_last_of_them_is_shown(stage: Stage) -> None:
    errors = [OVERLOADED.replace(b'"overloaded"', b'"overloaded %d"' % number) for number in range(3)]
    for error in errors:
        stage.upstream.says(*stream(ROLE, error))
    answer = await stage.chat("chat.tried", stream=True)
    assert (answer.status, answer.body, answer.complete) == (200, ROLE + errors[2], True)
    assert answer.get("x-sidecar-attempts") == "3"


SPLIT = delta("héllo 🎉").replace(b"\\u00e9", "é".encode()).replace(b"\\ud83c\\udf89", "🎉".encode())
BIG = delta("x" * (1 << 20))
UNUSUAL: dict[str, tuple[bytes, ...]] = {
    "65 an error in the middle": (delta(), b'data: {"error":{"message":"boom"}}\n\n'),
    "65 bad JSON": (delta(), b"data: {nope\n\n", delta("", "stop"), DONE),
    "65 CRLF": (WHOLE.replace(b"\n", b"\r\n") + DONE.replace(b"\n", b"\r\n"),),
    "65 CR": (WHOLE.replace(b"\n", b"\r"), DONE.replace(b"\n", b"\r")),
    "65 data of several lines": (LINES, DONE),
    "65 id, event, retry": (b"id: 1\nevent: x\nretry: 10\n" + delta(), delta("", "stop"), DONE),
    "65 comments in between": (PING, delta(), PING + PING, delta("", "stop"), PING, DONE, PING),
    "65 no space behind the colon": (WHOLE.replace(b"data: ", b"data:"), DONE.replace(b": ", b":")),
    "65 byte order mark": (b"\xef\xbb\xbf" + WHOLE, DONE),
    "65 a byte at a time": tuple(bytes([byte]) for byte in SPLIT + delta("", "stop") + DONE),
    "65 all in one chunk": (WHOLE + DONE,),
    "65 an event of a mebibyte": (BIG, delta("", "stop"), DONE),
    "65 an event of sixteen mebibytes": (delta("x" * (16 << 20)), delta("", "stop"), DONE),
    "65 no blank line at the end": (WHOLE, DONE.rstrip()),
    "65 no [DONE]": (WHOLE,),
    "65 NUL in an event": (delta(), b"data: \x00\n\n", delta("", "stop")),
    "65 usage unasked, beside choices": (delta(), BESIDE, DONE),
    "67 data after [DONE]": (WHOLE, DONE, delta("late")),
}


@pytest.mark.parametrize("name", UNUSUAL)
async def test_unusual_streams_pass_byte_for_byte(stage: Stage, name: str) -> None:
    stage.upstream.says(*stream(*UNUSUAL[name]))
    answer = await stage.chat(stream=True)
    assert (answer.status, answer.body, answer.complete) == (200, b"".join(UNUSUAL[name]), True)


@pytest.mark.parametrize("pieces", [(DONE,), (ROLE, DONE), (ROLE + DONE,)])
async def test_65_one_that_is_complete_without_a_word_is_no_failure(stage: Stage, pieces: tuple[bytes, ...]) -> None:
    stage.upstream.says(*stream(*pieces))
    answer = await stage.chat("chat.tried", stream=True)
    assert (answer.status, answer.body, answer.complete) == (200, b"".join(pieces), True)
    assert answer.get("x-sidecar-attempts") == "1"


async def test_65_our_usage_chunk_is_taken_out_and_nothing_else(stage: Stage) -> None:
    stage.upstream.says(*stream(WHOLE, USAGE, DONE))
    answer = await stage.chat(stream=True)
    assert answer.body == WHOLE + DONE
    assert json.loads(stage.upstream.seen[0].body)["stream_options"] == {"include_usage": True}
    event = await stage.running.event()
    assert (event["tokens_prompt"], event["tokens_completion"]) == (3, 2)


async def test_65_a_stream_with_a_length(stage: Stage) -> None:
    """Its length can't be kept, since an event of ours may be left out or put in."""
    stage.upstream.says(HEAD + b"content-length: %d\r\n\r\n" % len(WHOLE + DONE) + WHOLE + DONE)
    answer = await stage.chat(stream=True)
    assert (answer.body, answer.complete) == (WHOLE + DONE, True)


async def test_65_an_encoded_stream_passes_unmetered(stage: Stage) -> None:
    data = gzip.compress(WHOLE + DONE)
    stage.upstream.says(
        HEAD + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(data[:9], data[9:])
    )
    answer = await stage.chat("chat.core", b"accept-encoding: gzip", stream=True)
    assert (answer.body, answer.get("content-encoding")) == (data, "gzip")
    assert stage.upstream.seen[0].values("accept-encoding") == ["identity"]


async def test_66_the_content_type_decides(stage: Stage) -> None:
    stage.upstream.says(framed(b"200 OK", JSON, b"content-type: application/json"))
    whole = await stage.chat(stream=True)
    assert (whole.body, whole.get("content-type")) == (JSON, "application/json")
    stage.upstream.says(*stream(WHOLE, DONE))
    streamed = await stage.chat()
    assert (streamed.body, streamed.get("content-type")) == (WHOLE + DONE, "text/event-stream")


@pytest.mark.parametrize("end", [DONE, b""])
async def test_67_a_connection_held_open_after_the_end_is_not_waited_for(stage: Stage, end: bytes) -> None:
    stage.upstream.says(*stream(WHOLE + end, Step.HANG, last=False))
    began = time.monotonic()
    answer = await stage.chat("chat.hasty", stream=True)
    assert (answer.body, answer.complete) == (WHOLE + end, True)
    assert time.monotonic() - began < 10
    event = await stage.running.event()
    assert (event["error"], [a["outcome"] for a in event["attempts"]]) == (None, ["ok"])


async def test_a_stream_is_relayed_as_it_arrives(stage: Stage) -> None:
    stage.upstream.says(*stream(delta("a"), Step.HANG, last=False))
    async with wire.connected(stage.port) as client:
        await client.send(wire.post(wire.chat(stream=True)))
        assert (await client.reader.readuntil(delta("a"))).endswith(delta("a"))
    await until(stage.upstream.seen[0].gone.is_set, 1)
