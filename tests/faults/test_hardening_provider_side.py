"""Where aiohttp's client is wrong for a proxy (reliability notes §0 and §3), each with a test of its name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.runtime import upstream
from sidecar.runtime.connector import Dial
from sidecar.runtime.upstream import Shipment
from tests.faults import wire
from tests.faults.stage import Stage, staged
from tests.faults.upstream import HEALTHY, JSON, Step
from tests.faults.wire import chunked, framed
from tests.harness import until

APP = b"content-type: application/json"
POISON = framed(b"200 OK", b'{"poison":true}', APP)
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'


@pytest.mark.parametrize("pause_s", [0.0, 0.0005, 0.02])
async def test_bytes_on_an_idle_pooled_connection_never_answer_the_next_request(stage: Stage, pause_s: float) -> None:
    """aio-libs/aiohttp#13656: without the guard half of the next requests get the injected answer."""
    async with wire.connected(stage.port) as client:
        for _ in range(20):
            await client.send(wire.post(wire.chat()))
            assert (await client.answer()).body == JSON
            stage.upstream.inject(POISON)
            if pause_s:
                await asyncio.sleep(pause_s)
            await client.send(wire.post(wire.chat()))
            assert (await client.answer()).body == JSON


async def test_bytes_that_were_not_read_yet_are_noticed_at_reuse(stage: Stage) -> None:
    """Between their arrival and the next request the loop had no turn: only asking the socket can tell."""
    await stage.chat()
    stage.upstream.inject_unseen(POISON)
    empty: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
    shipment = Shipment(method="GET", path="/v1/x", headers=empty, body=None, content_length=None, encoding=None)
    dial = Dial(fresh=False)
    response = await stage.running.lifecycle.shared.upstream.send("openai", shipment, dial, connect_s=5)
    assert await response.content.read() == JSON
    assert not dial.reused


async def test_a_poisoned_connection_is_dropped_and_counted(stage: Stage) -> None:
    await stage.chat()
    stage.upstream.inject(b"x")
    await until(lambda: stage.upstream.open == 0)
    metrics = stage.running.lifecycle.shared.metrics
    assert metrics.registry.get_sample_value("sidecar_poisoned_connections_total") == 1


@pytest.mark.parametrize("extra", [POISON, b"H", b"HTTP/1.1 200 OK\r\ncontent-le", b"\x00", b"garbage\r\n\r\n"])
@pytest.mark.parametrize("apart", [False, True])
async def test_extra_bytes_after_an_answer_end_its_connection(stage: Stage, extra: bytes, apart: bool) -> None:
    """What is no HTTP at all may break the answer that it came with, if it came in one piece with it."""
    stage.upstream.says(HEALTHY, extra) if apart else stage.upstream.says(HEALTHY + extra)
    first_answer = await stage.chat()
    assert first_answer.body == JSON or (extra[:1] != b"H" and first_answer.status == 502)
    assert (await stage.chat()).body == JSON
    first, second = stage.upstream.seen
    assert first.connection != second.connection


@pytest.mark.parametrize("how", [Step.FIN, Step.RST])
async def test_a_dead_reused_connection_does_not_fail_a_post(stage: Stage, how: Step) -> None:
    """The provider keeps the connection and ends it when the next request comes: sent once more, on a fresh one."""
    await stage.chat()
    stage.upstream.says(how)
    answer = await stage.chat("chat.tried")
    assert (answer.status, answer.get("x-sidecar-attempts")) == (200, "2")
    assert [seen.connection for seen in stage.upstream.seen] == [1, 1, 2]
    event = await stage.running.event(count=2)
    assert [(a["cause"], a["fault"]) for a in event["attempts"]] == [("first", "stale"), ("resend", None)]


async def test_a_reused_connection_that_dies_over_a_call_was_not_dead_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that had read the request may bill it: a retry like any other, and nothing is given back."""
    monkeypatch.setattr(upstream, "STALE_S", 0.05)
    await stage.chat()
    stage.upstream.says(0.1, Step.RST)
    assert (await stage.chat("chat.tried")).status == 200
    first, second = (await stage.running.event(count=2))["attempts"]
    assert (first["fault"], second["cause"]) == ("broken", "retry")
    assert first["tokens"]["prompt"] > 0


async def test_a_connection_that_died_while_idle_is_not_used(stage: Stage) -> None:
    for reset in (False, True):
        await stage.chat()
        stage.upstream.hang_up(reset=reset)
        answer = await stage.chat()
        assert (answer.status, answer.body) == (200, JSON)


async def test_a_body_that_streamed_through_is_not_sent_twice(stage: Stage) -> None:
    await stage.chat()
    stage.upstream.says(Step.FIN)
    answer = await stage.ask(wire.post(b"once", target=b"/v1/anything"))
    assert (answer.status, answer.code) == (502, "sidecar_upstream_unreachable")
    assert [seen.body for seen in stage.upstream.seen[1:]] == [b"once"]


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
async def test_redirects_are_passed_on_and_never_followed(stage: Stage, status: bytes) -> None:
    location = b"location: http://169.254.169.254/latest/meta-data"
    stage.upstream.says(framed(status, b"there", location))
    answer = await stage.chat()
    assert (answer.status, answer.body) == (int(status[:3]), b"there")
    assert answer.get("location") == "http://169.254.169.254/latest/meta-data"
    assert len(stage.upstream.seen) == 1


async def test_cookies_are_not_shared_between_callers(stage: Stage) -> None:
    stage.upstream.says(framed(b"200 OK", JSON, APP, b"set-cookie: a=1", b"Set-Cookie: b=2"))
    assert (await stage.chat()).values("set-cookie") == ["a=1", "b=2"]
    await stage.chat()
    assert stage.upstream.seen[1].values("cookie") == []


async def test_no_limit_of_a_hundred_connections(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        for _ in range(150):
            stage.upstream.says(1.0, HEALTHY)
        answers = asyncio.gather(*(stage.chat() for _ in range(150)))
        await until(lambda: len(stage.upstream.seen) == 150)
        assert [a.status for a in await answers] == [200] * 150
        assert stage.upstream.connections == 150


async def test_no_total_timeout_of_the_session_applies(stage: Stage) -> None:
    """aiohttp's five minutes, made short here: a request must not know them."""
    stage.running.lifecycle.shared.upstream._session._timeout = aiohttp.ClientTimeout(total=0.05, sock_read=0.05)
    stage.upstream.says(0.3, HEALTHY[:-10], 0.3, HEALTHY[-10:])
    assert (await stage.chat()).body == JSON


async def test_nothing_is_added_to_a_request(stage: Stage) -> None:
    """No User-Agent, Accept, Accept-Encoding or Content-Type of aiohttp's."""
    await stage.ask(wire.request(b"GET", b"/v1/anything"))
    assert [name.lower() for name, _ in stage.upstream.seen[0].headers] == ["host"]


async def test_nothing_is_added_to_an_answer(stage: Stage) -> None:
    """No Server, Date or content type of aiohttp's."""
    stage.upstream.says(framed(b"200 OK", b"x"))
    passed = await stage.ask(wire.request(b"GET", b"/v1/anything"))
    refused = await stage.ask(wire.post(b"not json"))
    malformed = await stage.ask(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx y: z\r\n\r\n")
    for answer in (passed, refused, malformed):
        assert answer.values("server") == answer.values("date") == []
    assert passed.values("content-type") == []


async def test_duplicate_headers_survive_in_order(stage: Stage) -> None:
    stage.upstream.says(framed(b"200 OK", JSON, b"X-Two: 1", b"x-other: o", b"x-two: 2", APP))
    answer = await stage.chat("chat.core", b"X-Dup: a", b"x-between: b", b"x-dup: c")
    assert [(n, v) for n, v in answer.headers if n.lower().startswith("x-") and not n.startswith("x-sidecar")] == [
        ("X-Two", "1"), ("x-other", "o"), ("x-two", "2"),
    ]  # fmt: skip
    sent = stage.upstream.seen[0].headers
    assert [(n, v) for n, v in sent if n.lower().startswith("x-")] == [
        ("X-Dup", "a"),
        ("x-between", "b"),
        ("x-dup", "c"),
    ]


BROKEN = {
    "chunked, no last chunk": (b"transfer-encoding: chunked", chunked(b"par", b"tial", last=False), Step.FIN),
    "chunked, reset": (b"transfer-encoding: chunked", chunked(b"par", b"tial", last=False), Step.RST),
    "chunked, bad size": (b"transfer-encoding: chunked", chunked(b"par", last=False) + b"xyz\r\n", Step.HANG),
    "short of its length": (b"content-length: 100", b"partial", Step.FIN),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_answer_never_ends_with_a_clean_final_chunk(stage: Stage, case: str) -> None:
    framing, body, end = BROKEN[case]
    stage.upstream.says(
        b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n" + framing + b"\r\n\r\n", 0.02, body, 0.02, end
    )
    answer = await stage.chat()
    assert (answer.status, answer.complete) == (200, False)
    assert b"partial".startswith(answer.body)


@pytest.mark.parametrize("end", [Step.FIN, Step.RST])
async def test_a_broken_stream_ends_with_an_error_event(stage: Stage, end: Step) -> None:
    stage.upstream.says(EVENTS + chunked(DELTA, last=False), 0.02, end)
    answer = await stage.chat(stream=True)
    assert answer.body.startswith(DELTA)
    assert b'"code":"sidecar_stream_interrupted"' in answer.body.removeprefix(DELTA)
    assert b"[DONE]" not in answer.body
    event = await stage.running.event()
    assert event["error"] == "sidecar_stream_interrupted"


async def test_informational_answers_are_not_the_answer(stage: Stage) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    stage.upstream.says(b"HTTP/1.1 102 Processing\r\n\r\n" + hints, 0.02, hints + HEALTHY)
    answer = await stage.chat()
    assert (answer.status, answer.body) == (200, JSON)
    assert answer.get("link") is None


async def test_trailers_end_here(stage: Stage) -> None:
    body = chunked(b"body", last=False) + b"0\r\nauthorization: Bearer x\r\nx-trailer: 1\r\n\r\n"
    stage.upstream.says(b"HTTP/1.1 200 OK\r\ntrailer: x-trailer\r\ntransfer-encoding: chunked\r\n\r\n" + body)
    answer = await stage.ask(wire.request(b"GET", b"/v1/anything"))
    assert (answer.body, answer.values("trailer"), answer.complete) == (b"body", [], True)


async def test_response_fields_may_be_long_but_not_endless(stage: Stage) -> None:
    stage.upstream.says(framed(b"200 OK", JSON, APP, b"x-long: " + b"a" * 15_000))
    assert len((await stage.chat()).get("x-long") or "") == 15_000
    stage.upstream.says(framed(b"200 OK", JSON, b"x-long: " + b"a" * 200_000))
    answer = await stage.chat()
    assert (answer.status, answer.code) == (502, "sidecar_upstream_unreachable")


async def test_an_encoded_answer_is_passed_as_it_is(stage: Stage) -> None:
    """`auto_decompress` would leave the header over an inflated body."""
    stage.upstream.says(framed(b"200 OK", b"not gzip at all", b"content-encoding: gzip", APP))
    answer = await stage.chat("chat.core", b"accept-encoding: gzip, br")
    assert (answer.body, answer.get("content-encoding")) == (b"not gzip at all", "gzip")
    assert stage.upstream.seen[0].values("accept-encoding") == ["gzip"]
