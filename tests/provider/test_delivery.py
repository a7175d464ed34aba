"""Every fault as it looks on the wire."""

import gzip
import time

import openai
import orjson
import pytest

PATH = "/v1/chat/completions"
ENVELOPE_STATUSES = [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529]
DIALECTS = {
    "openai": (PATH, {"model": "m", "messages": []}, {}),
    "anthropic": (
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": [{}]},
        {"anthropic-version": "2023-06-01"},
    ),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": [{}]}, {}),
}


def _fault(text: str) -> str:
    return f"x-fake-fault: {text}"


def _deltas(received: bytes) -> int:
    return received.count(b'"delta":{"content":"') - received.count(b'"delta":{"content":"",')


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", ENVELOPE_STATUSES)
async def test_status(http, dialect, status):
    path, body, headers = DIALECTS[dialect]
    headers = {**headers, "x-fake-fault": f"status={status}; retry-after=2; retry-after-ms=7"}
    async with http.post(path, json=body, headers=headers) as answer:
        assert answer.status == status
        assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("2", "7")
        error = (await answer.json())["error"]
    assert error["message"]
    assert (
        set(error)
        >= {"openai": {"type", "param", "code"}, "anthropic": {"type"}, "gemini": {"code", "status"}}[dialect]
    )


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_invalid_key(http, dialect):
    path, body, headers = DIALECTS[dialect]
    name = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}[dialect]
    value = "Bearer invalid-key" if dialect == "openai" else "invalid-key"
    async with http.post(path, json=body, headers={**headers, name: value}) as answer:
        assert answer.status == 401
    async with http.post(path, json=body, headers=headers, params={"key": "invalid-key"}) as answer:
        assert answer.status == 401


async def test_code_and_retired(openai_sdk, chat):
    with pytest.raises(openai.RateLimitError) as limited:
        await openai_sdk.chat.completions.create(
            **chat, extra_headers={"x-fake-fault": "status=429; code=insufficient_quota"}
        )
    assert (limited.value.code, limited.value.type) == ("insufficient_quota", "insufficient_quota")
    with pytest.raises(openai.NotFoundError) as gone:
        await openai_sdk.chat.completions.create(**chat, extra_headers={"x-fake-fault": "retired"})
    assert gone.value.code == "model_not_found"


async def test_reject_stream_options(openai_sdk, chat):
    headers = {"x-fake-fault": "reject-stream-options"}
    with pytest.raises(openai.BadRequestError, match="stream_options"):
        await openai_sdk.chat.completions.create(
            **chat, stream=True, stream_options={"include_usage": True}, extra_headers=headers
        )
    assert await openai_sdk.chat.completions.create(**chat, extra_headers=headers)


async def test_unknown_fault_is_refused(http, chat):
    async with http.post(PATH, json=chat, headers={"x-fake-fault": "boom"}) as answer:
        assert answer.status == 400
        assert "unknown fault item 'boom'" in (await answer.json())["error"]["message"]


async def test_delay_first_and_gap(http, chat):
    headers = {"x-fake-fault": "delay=60ms; first=60ms; gap=20ms", "x-fake-tokens": "4"}
    started = time.monotonic()
    async with http.post(PATH, json={**chat, "stream": True}, headers=headers) as answer:
        headers_after_s = time.monotonic() - started
        role = await answer.content.readuntil(b"\n\n")
        role_after_s = time.monotonic() - started
        await answer.content.readuntil(b"\n\n")
        token_after_s = time.monotonic() - started
        await answer.read()
        end_after_s = time.monotonic() - started
    assert b'"role":"assistant"' in role
    assert headers_after_s >= 0.06
    assert role_after_s < 0.12 <= token_after_s
    assert end_after_s >= 0.18


async def test_first_of_anthropic_comes_after_message_start_with_pings(http):
    path, body, headers = DIALECTS["anthropic"]
    headers = {**headers, "x-fake-fault": "first=120ms; ping"}
    async with http.post(path, json={**body, "stream": True}, headers=headers) as answer:
        received = await answer.read()
    before = received.partition(b"content_block_delta")[0]
    assert before.startswith(b"event: message_start")
    assert before.count(b"event: ping") == 4


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_cut_stream(raw_post, chat, after):
    received, was_reset = await raw_post(PATH, {**chat, "stream": True}, _fault(f"cut={after}"))
    assert was_reset
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert _deltas(received) == after
    assert bool(received.partition(b"\r\n\r\n")[2]) == bool(after)


async def test_cut_before_headers(raw_post, chat, provider):
    assert await raw_post(PATH, chat, _fault("cut=headers")) == (b"", True)
    assert provider.ledger.totals == {}


async def test_clean_end_of_an_unfinished_stream(raw_post, chat):
    received, was_reset = await raw_post(PATH, {**chat, "stream": True}, _fault("eof=2"))
    assert not was_reset
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert _deltas(received) == 2
    assert b"[DONE]" not in received


@pytest.mark.parametrize("stream", [True, False])
async def test_malformed_chunk(raw_post, chat, stream):
    # By a bare socket: aiohttp's client waits for ever on a bad chunk size that follows a good chunk.
    received, _ = await raw_post(PATH, {**chat, "stream": stream}, _fault("malformed=2"))
    assert b"transfer-encoding: chunked" in received.lower()
    assert received.endswith(b"}\n\n\r\nthis is not a chunk size\r\n" if stream else b"this is not a chunk size\r\n")
    assert _deltas(received) == (2 if stream else 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_stall(raw_post, chat, provider, eventually, stream):
    received, _ = await raw_post(
        PATH, {**chat, "stream": stream}, _fault("stall=2"), until=b"from " if stream else b"chatcmpl"
    )
    assert b"[DONE]" not in received
    await eventually(lambda: provider.ledger.open == 0)
    assert provider.ledger.requests[-1].outcome == "client_gone"


async def test_error_in_stream(openai_sdk, chat):
    stream = await openai_sdk.chat.completions.create(
        **chat, stream=True, extra_headers={"x-fake-fault": "error=2; code=odd"}
    )
    with pytest.raises(openai.APIError) as caught:
        async for _chunk in stream:
            pass
    assert caught.value.code == "odd"


async def test_error_in_response_stream(openai_sdk):
    stream = await openai_sdk.responses.create(
        model="m", input="x", stream=True, extra_headers={"x-fake-fault": "error=1"}
    )
    events = [event async for event in stream]
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize("form", ["?alt=sse", ""])
async def test_error_in_gemini_stream(http, form):
    path = f"/v1beta/models/m:streamGenerateContent{form}"
    async with http.post(path, json={"contents": [{}]}, headers={"x-fake-fault": "error=1"}) as answer:
        received = await answer.read()
    chunks = [line[6:] for line in received.split(b"\r\n") if line] if form else orjson.loads(received)
    last = orjson.loads(chunks[-1]) if form else chunks[-1]
    assert (len(chunks), last["error"]["status"]) == (2, "UNAVAILABLE")


async def test_cut_whole(raw_post, chat):
    received, was_reset = await raw_post(PATH, chat, _fault("cut=body"))
    assert was_reset
    body = received.partition(b"\r\n\r\n")[2]
    assert body.startswith(b'{"id"')
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(body)
    received, was_reset = await raw_post(PATH, chat, _fault("cut=0"))
    assert was_reset
    assert received.endswith(b"\r\n\r\n")


async def test_other_breaks_of_a_whole_answer(http, chat):
    async with http.post(PATH, json=chat, headers={"x-fake-fault": "eof=1"}) as answer:
        half = await answer.read()
    assert half.startswith(b'{"id"')
    assert not half.endswith(b"}")
    async with http.post(PATH, json=chat, headers={"x-fake-fault": "error=1"}) as answer:
        assert answer.status == 200
        assert (await answer.json())["error"]["type"] == "server_error"


async def test_slow_body(http, chat):
    async with http.post(PATH, json=chat, headers={"x-fake-fault": "slow-body=50ms"}) as answer:
        started = time.monotonic()
        assert await answer.json()
    assert time.monotonic() - started >= 0.04


async def test_claimed_model(openai_sdk, chat):
    answer = await openai_sdk.chat.completions.create(**chat, extra_headers={"x-fake-fault": "model=other-9"})
    assert answer.model == "other-9"


@pytest.mark.parametrize(
    ("fault", "usage"),
    [("nousage", None), ("usage=string", "5"), ("usage=negative", -5), ("usage=huge", 2**62), ("usage=twice", 5)],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_usage(http, chat, fault, usage, stream):
    body = {**chat, "messages": [{"role": "user", "content": "a b"}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with http.post(PATH, json=body, headers={"x-fake-fault": fault}) as answer:
        received = await answer.read()
    if not stream:
        stated = [orjson.loads(received)]
    else:
        chunks = [orjson.loads(line[6:]) for line in received.split(b"\n\n") if line.startswith(b"data: {")]
        stated = [chunk for chunk in chunks if chunk["choices"] == []]
    counts = [entry["usage"]["completion_tokens"] for entry in stated if "usage" in entry]
    assert counts == ([] if usage is None else [usage] * (2 if stream and fault == "usage=twice" else 1))


async def test_large_and_gzip(http, chat):
    headers = {"x-fake-fault": "large=100000; encoding=gzip", "accept-encoding": "gzip"}
    async with http.post(PATH, json=chat, headers=headers) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        body = gzip.decompress(await answer.read())
    assert len(body) >= 100_000
    assert orjson.loads(body)["choices"]
    async with http.post(PATH, json=chat, headers={**headers, "accept-encoding": "identity"}) as answer:
        assert "content-encoding" not in answer.headers


async def test_echo_shows_the_request_as_it_came(raw_post):
    received, _ = await raw_post("/any/p%61th?q=%20", {"a": 1}, "X-Twice: 1", "x-TWICE: 2")
    shown = orjson.loads(received.partition(b"\r\n\r\n")[2])
    assert (shown["path"], shown["query"], shown["method"], shown["body_size"]) == ("/any/p%61th", "q=%20", "POST", 8)
    assert shown["headers"][-2:] == [["X-Twice", "1"], ["x-TWICE", "2"]]


async def test_expect_continue(raw_post, chat):
    received, _ = await raw_post(PATH, chat, "expect: 100-continue")
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
