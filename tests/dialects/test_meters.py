"""Streams: kinds, usage in one meaning, the end; nonsense never raises; any chunking gives the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.facts import Usage
from sidecar.dialects.anthropic import MessagesMeter
from sidecar.dialects.base import Kind
from sidecar.dialects.gemini import GeminiMeter
from sidecar.dialects.meters import BaseMeter
from sidecar.dialects.openai_chat import ChatMeter
from sidecar.dialects.openai_responses import TypedMeter
from sidecar.dialects.sse import Splitter
from tests.dialects import streams

P, U, G, E = Kind.PLAIN, Kind.USEFUL, Kind.USAGE, Kind.ERROR
Make = Callable[[], BaseMeter]
FULL = Usage(input=9, output=12, cached_input=4, cache_write=1, reasoning=7)
RECORDED = [
    (ChatMeter, streams.CHAT, [P, U, U, U, G, P], FULL, "gpt-5.4-2025-11-02", 2, 6),
    (TypedMeter, streams.RESPONSES, [P, P, P, U, U, P, U], FULL, "gpt-5.4-2025-11-02", 2, 4),
    (MessagesMeter, streams.ANTHROPIC, [P, P, P, U, P, U, P, U, U, U, P], FULL, "claude-sonnet-5-20260112", 2, 4),
    (GeminiMeter, streams.GEMINI, [U, U, U], Usage(9, 12, 4, 0, 7), "gemini-3-pro-002", 2, 3),
]


def metered(make: Make, chunks: list[bytes]) -> tuple[list[Kind], BaseMeter]:
    meter, splitter = make(), Splitter()
    return [meter.see(event) for chunk in chunks for event in splitter.feed(chunk)], meter


def facts(meter: BaseMeter) -> tuple[Any, ...]:
    return meter.usage, meter.served, meter.done, meter.text_bytes, meter.deltas


@pytest.mark.parametrize(("make", "stream", "kinds", "usage", "served", "deltas", "text"), RECORDED)
def test_recorded_streams(
    make: Make, stream: bytes, kinds: list[Kind], usage: Usage, served: str, deltas: int, text: int
) -> None:
    for feed in (stream, stream.replace(b"\r\n", b"\n"), stream.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")):
        seen, meter = metered(make, [feed])
        assert seen == kinds
        assert facts(meter) == (usage, served, True, text, deltas)
        for cut in range(len(feed) + 1):
            again, other = metered(make, [feed[:cut], feed[cut:]])
            assert (again, facts(other)) == (seen, facts(meter))


@pytest.mark.parametrize(("make", "stream"), [(r[0], r[1]) for r in RECORDED])
def test_a_cut_stream_is_not_done(make: Make, stream: bytes) -> None:
    events = Splitter().feed(stream)
    until = {ChatMeter: -3, TypedMeter: -1, MessagesMeter: -1, GeminiMeter: -1}[make]  # type: ignore[index]
    _, meter = metered(make, events[:until])
    assert not meter.done


def chat(*chunks: Any) -> tuple[list[Kind], BaseMeter]:
    return metered(ChatMeter, [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks])


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        (delta(role="assistant", content=""), P),
        (delta(), P),
        (delta(content="x"), U),
        (delta(reasoning_content="x"), U),
        (delta(reasoning="x"), U),
        (delta(refusal="x"), U),
        (delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]), U),
        (delta(tool_calls=[]), P),
        (delta(function_call={"name": "f"}), U),
        (delta(audio={"id": "a"}), U),
        ({"choices": [{"index": 0, "text": "x"}]}, U),
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, U),
        ({"choices": [], "prompt_filter_results": []}, P),
        ({"choices": [], "usage": {"prompt_tokens": 1}}, G),
        ({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"prompt_tokens": 1}}, U),
        ({"error": {"message": "x"}}, E),
        ({"error": None, "choices": []}, P),
        ([], P),
        (None, P),
        ({"choices": {}}, P),
        ({"choices": [1, {"delta": 7}]}, P),
    ],
)
def test_kinds_of_chat_chunks(chunk: Any, kind: Kind) -> None:
    assert chat(chunk)[0] == [kind]


def finish(index: int) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}


def test_a_chat_is_done_when_every_choice_is() -> None:
    two = {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]}
    assert not chat(two, finish(0))[1].done
    assert chat(two, finish(0), finish(1))[1].done
    assert not chat(finish(0), {"choices": [{"index": 1, "delta": {"content": "b"}}]})[1].done
    assert metered(ChatMeter, [b"data: [DONE]\n\n"])[1].done


def test_the_last_usage_counts() -> None:
    first, last = {"prompt_tokens": 1, "completion_tokens": 1}, {"prompt_tokens": 2, "completion_tokens": 5}
    meter = chat({"choices": [], "usage": first}, finish(0) | {"usage": last}, {"choices": [], "usage": None})[1]
    assert meter.usage == Usage(2, 5)


@pytest.mark.parametrize("value", ["7", -5, 10**30, 10**8 + 1, 1.5, True, [], {}, float("nan")])
def test_nonsense_counts_as_nothing(value: Any) -> None:
    usage = chat({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": value}})[1].usage
    if value != value:  # NaN is no JSON: the event can't be read
        assert usage is None
    else:
        assert usage == Usage(3, 0, odd=True)
    start = {"type": "message_start", "message": {"usage": {"input_tokens": value, "output_tokens": 2}}}
    if value == value:
        event = b"event: message_start\ndata: " + json.dumps(start).encode() + b"\n\n"
        assert metered(MessagesMeter, [event])[1].usage == Usage(0, 2, odd=True)
        chunk = {"usageMetadata": {"promptTokenCount": value, "candidatesTokenCount": 2}}
        gemini = metered(GeminiMeter, [b"data: " + json.dumps(chunk).encode() + b"\n\n"])[1]
        assert gemini.usage == Usage(0, 2, odd=True)


def test_what_a_total_holds_beyond_both_was_thought() -> None:
    """Gemini's OpenAI-compatible endpoint: total != prompt + completion."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 20}
    assert chat({"choices": [], "usage": usage})[1].usage == Usage(3, 17, reasoning=13)
    assert chat({"choices": [], "usage": usage | {"total_tokens": "20"}})[1].usage == Usage(3, 4, odd=True)


def test_absent_counts_are_odd_where_they_must_be_there() -> None:
    assert chat({"choices": [], "usage": {}})[1].usage == Usage(odd=True)
    assert chat({"choices": [], "usage": "many"})[1].usage == Usage(odd=True)
    assert chat({"choices": [], "usage": {"prompt_tokens": 3}})[1].usage == Usage(3)


@pytest.mark.parametrize("name", ["error", ""])
def test_errors_of_the_provider(name: str) -> None:
    head = f"event: {name}\n".encode() if name else b""
    for make, body in [
        (ChatMeter, b'{"error":{"message":"x"}}'),
        (TypedMeter, b'{"type":"error","code":"x","message":"y"}'),
        (TypedMeter, b'{"error":{"message":"y"}}'),
        (MessagesMeter, b'{"type":"error","error":{"type":"overloaded_error"}}'),
        (GeminiMeter, b'{"error":{"code":503}}'),
    ]:
        kinds, meter = metered(make, [head + b"data: " + body + b"\n\n"])
        assert (kinds, meter.done) == ([E], True), (make, body)


def test_other_typed_streams() -> None:
    partial = b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image"}\n\n'
    done = (
        b'event: image_generation.completed\ndata: {"type":"image_generation.completed","usage":{"input_tokens":5,'
        b'"output_tokens":6}}\n\n'
    )
    kinds, meter = metered(TypedMeter, [partial, done])
    assert (kinds, meter.usage, meter.done) == ([U, U], Usage(5, 6), True)
    text = (
        b'data: {"type":"transcript.text.delta","delta":"hi"}\n\ndata: {"type":"transcript.text.done","text":"hi"}\n\n'
    )
    kinds, meter = metered(TypedMeter, [text])
    assert (kinds, meter.usage, meter.done, meter.text_bytes) == ([U, U], None, True, 2)


@pytest.mark.parametrize("end", ["completed", "incomplete", "failed"])
def test_ends_of_a_response(end: str) -> None:
    event = f'data: {{"type":"response.{end}","response":{{"usage":null}}}}\n\n'.encode()
    kinds, meter = metered(TypedMeter, [event])
    assert (kinds, meter.done) == ([Kind.ERROR if end == "failed" else U], True)


def test_gemini_blocked_prompt_and_several_candidates() -> None:
    kinds, meter = metered(GeminiMeter, [b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n'])
    assert (kinds, meter.done) == ([U], True)
    first = (
        b'data: {"candidates":[{"index":0,"finishReason":"STOP"},{"index":1,"content":{"parts":[{"text":"x"}]}}]}\n\n'
    )
    kinds, meter = metered(GeminiMeter, [first])
    assert (kinds, meter.done) == ([U], False)


def test_huge_events_are_metered_by_their_ends() -> None:
    big = "x" * 300_000
    completed = json.dumps(
        {
            "type": "response.completed",
            "response": {"model": "m", "output": [big, '"usage":{"input_tokens":99}'], "usage": {"input_tokens": 3}},
        }
    )
    stream = f"event: response.completed\ndata: {completed}\n\n".encode()
    for size in (1000, 70_000, len(stream)):
        _, meter = metered(TypedMeter, [stream[at : at + size] for at in range(0, len(stream), size)])
        assert (meter.usage, meter.served, meter.done) == (Usage(3), "m", True)
        assert meter.text_bytes == 0
    created = stream.replace(b"completed", b"created")
    kinds, meter = metered(TypedMeter, [created[:200_000], created[200_000:]])
    assert (set(kinds), meter.done, meter.text_bytes) == ({P}, False, 0)
    image = {"candidates": [{"content": {"parts": [{"inlineData": big}]}, "finishReason": "STOP"}]}
    chunk = image | {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}}
    stream = b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n"
    kinds, meter = metered(GeminiMeter, [stream[:100_000], stream[100_000:]])
    assert (kinds, meter.usage, meter.done) == ([U, P], Usage(3, 4), True)
    assert meter.text_bytes > 300_000


@given(st.binary(max_size=60), st.sampled_from([ChatMeter, TypedMeter, MessagesMeter, GeminiMeter]))
def test_nonsense_never_raises(raw: bytes, make: Make) -> None:
    metered(make, [b"data: " + raw + b"\n\n"])
    metered(make, [b"event: response.completed\ndata: " + raw + b"\n\n", b"event: message_start\ndata: {}\n\n"])


KEYS = ["choices", "delta", "usage", "message", "response", "candidates", "content", "parts", "error", "type"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["choices", "usage", "message", "response", "candidates", "delta"]), values),
    st.sampled_from(["message_start", "message_delta", "content_block_delta", "response.completed", "x.delta"]),
)
def test_odd_shapes_never_raise(chunk: dict[str, Any], kind: str) -> None:
    for make in (ChatMeter, TypedMeter, MessagesMeter, GeminiMeter):
        metered(make, [b"data: " + json.dumps(chunk | {"type": kind}).encode() + b"\n\n"])
