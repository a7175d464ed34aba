"""However a stream is cut into chunks, the same bytes come out, and the same usage is read."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.dialects.anthropic import MessagesMeter
from sidecar.dialects.gemini import GeminiMeter
from sidecar.dialects.openai_chat import ChatMeter
from sidecar.dialects.openai_responses import TypedMeter
from sidecar.provider import FakeProvider
from sidecar.runtime.stream import Stream

USAGE = {"stream_options": {"include_usage": True}}
TURNS = [{"role": "user", "content": "hello 😀"}]
ANTHROPIC = {"anthropic-version": "2023-06-01"}
GEMINI = {"contents": [{"parts": [{"text": "hello 😀"}]}]}

# meter, path, body, headers
RECORDED: dict[str, tuple[Any, str, dict[str, Any], dict[str, str]]] = {
    "chat": (ChatMeter, "/v1/chat/completions", {"model": "m", "messages": TURNS, "n": 2, **USAGE}, {}),
    "completions": (ChatMeter, "/v1/completions", {"model": "m", "prompt": "hello", **USAGE}, {}),
    "responses": (TypedMeter, "/v1/responses", {"model": "m", "input": "hello"}, {}),
    "messages": (MessagesMeter, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": TURNS}, ANTHROPIC),
    "generate": (GeminiMeter, "/v1beta/models/m:streamGenerateContent?alt=sse", GEMINI, {}),
    "chat-error": (ChatMeter, "/v1/chat/completions", {"model": "m", "messages": TURNS}, {"x-fake-fault": "error=2"}),
}
LINE_ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}


@cache
def recorded(name: str, line_end: str) -> bytes:
    """What the fake provider sends, with other line ends."""
    _, path, body, headers = RECORDED[name]

    async def record() -> bytes:
        asked = {"json": {**body, "stream": True}, "headers": {**headers, "x-fake-tokens": "3"}}
        async with (
            FakeProvider() as provider,
            aiohttp.ClientSession(provider.url) as http,
            http.post(path, **asked) as got,
        ):
            return await got.read()

    return asyncio.run(record()).replace(b"\r\n", b"\n").replace(b"\n", LINE_ENDS[line_end])


def told(name: str, chunks: list[bytes], *, hide: bool) -> tuple[bytes, dict[str, Any]]:
    """The bytes that come out, and all that was learnt on the way."""
    stream = Stream(RECORDED[name][0](), hide_usage=hide)
    out = b"".join([*map(stream.feed, chunks), stream.rest()])
    meter = stream.meter
    learnt = {key: getattr(meter, key) for key in ("usage", "served", "done", "text_bytes", "deltas")}
    return out, learnt | {"error": stream.error}


STREAMS = [(name, end, hide) for name in RECORDED for end in LINE_ENDS for hide in (False, True)]


@pytest.mark.parametrize(("name", "line_end", "hide"), STREAMS)
def test_whole(name: str, line_end: str, hide: bool) -> None:
    raw = recorded(name, line_end)
    out, learnt = told(name, [raw], hide=hide)
    assert learnt["done"]
    assert (learnt["error"] is not None) is (name == "chat-error")
    if name != "chat-error":
        assert (learnt["usage"].input > 0, learnt["usage"].output > 0, learnt["served"]) == (True, True, "m")
    blank = LINE_ENDS[line_end] * 2
    hidden = [e for e in raw.split(blank) if hide and b'"choices":[]' in e]
    assert len(hidden) == (hide and name in ("chat", "completions"))
    assert out == (raw.replace(hidden[0] + blank, b"") if hidden else raw)


@pytest.mark.parametrize(("name", "line_end"), [(name, end) for name in RECORDED for end in ("LF", "CRLF")])
def test_cut_in_two_at_every_byte(name: str, line_end: str) -> None:
    raw = recorded(name, line_end)
    expected = told(name, [raw], hide=True)
    for at in range(len(raw) + 1):
        assert told(name, [raw[:at], raw[at:]], hide=True) == expected, at


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_chunking(data: st.DataObject) -> None:
    name, line_end, hide = data.draw(st.sampled_from(STREAMS))
    raw = recorded(name, line_end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=60)))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert told(name, chunks, hide=hide) == told(name, [raw], hide=hide)


@pytest.mark.parametrize(("name", "line_end"), [(name, end) for name in RECORDED for end in LINE_ENDS])
def test_byte_by_byte(name: str, line_end: str) -> None:
    raw = recorded(name, line_end)
    assert told(name, [bytes([b]) for b in raw], hide=True) == told(name, [raw], hide=True)


@given(raw=st.binary(max_size=400), cut=st.integers(0, 400))
def test_nonsense_passes_as_it_is(raw: bytes, cut: int) -> None:
    assert told("chat", [raw[:cut], raw[cut:]], hide=True)[0] == raw
