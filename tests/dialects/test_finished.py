"""What finished normally may be given again; whatever was cut off, filtered or refused may not. Whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import registry
from sidecar.dialects.base import Endpoint
from sidecar.dialects.finished import array_finished_normally, finished_normally
from sidecar.dialects.sse import Splitter
from tests.dialects import streams

PATHS = {
    "chat": ("openai", "/v1/chat/completions"),
    "text": ("openai", "/v1/completions"),
    "responses": ("openai", "/v1/responses"),
    "embeddings": ("openai", "/v1/embeddings"),
    "images": ("openai", "/v1/images/generations"),
    "messages": ("anthropic", "/v1/messages"),
    "complete": ("anthropic", "/v1/complete"),
    "gemini": ("gemini", "/v1beta/models/x:generateContent"),
    "gemini stream": ("gemini", "/v1beta/models/x:streamGenerateContent"),
    "embed": ("gemini", "/v1beta/models/x:embedContent"),
}


def endpoint(kind: str) -> tuple[str, Endpoint]:
    dialect, path = PATHS[kind]
    found = registry.DIALECTS[dialect].route("POST", path)
    assert found is not None
    return dialect, found[0]


def chat(*reasons: Any, **message: Any) -> dict[str, Any]:
    choices = [{"index": i, "message": {"content": "x"} | message, "finish_reason": r} for i, r in enumerate(reasons)]
    return {"choices": choices}


def response(**fields: Any) -> dict[str, Any]:
    text = {"type": "message", "status": "completed", "content": [{"type": "output_text", "text": "x"}]}
    return {"status": "completed", "error": None, "incomplete_details": None, "output": [text]} | fields


def gemini(*reasons: Any, **fields: Any) -> dict[str, Any]:
    return {"candidates": [{"index": i, "finishReason": r} for i, r in enumerate(reasons)]} | fields


REFUSAL = {"type": "message", "status": "completed", "content": [{"type": "refusal", "refusal": "no"}]}
CUT = {"type": "function_call", "status": "incomplete"}
NORMAL = [
    ("chat", chat("stop")),
    ("chat", chat("stop", "tool_calls")),
    ("chat", chat("function_call", refusal=None)),
    ("text", {"choices": [{"text": "x", "finish_reason": "stop"}]}),
    ("responses", response()),
    ("responses", response(output=[{"type": "reasoning"}, {"type": "function_call", "status": "completed"}])),
    ("embeddings", {"data": [{"embedding": [0.1]}]}),
    ("embeddings", {"data": [{"embedding": "AAAA"}], "error": None}),
    ("images", {"data": [{"b64_json": "x"}]}),
    ("messages", {"stop_reason": "end_turn"}),
    ("messages", {"stop_reason": "stop_sequence"}),
    ("messages", {"stop_reason": "tool_use"}),
    ("complete", {"completion": "x", "stop_reason": "stop_sequence"}),
    ("gemini", gemini("STOP")),
    ("gemini", gemini("STOP", "STOP", promptFeedback={"safetyRatings": []})),
    ("embed", {"embedding": {"values": [0.1]}}),
]
SPOILT = [
    *(("chat", chat(reason)) for reason in ("length", "content_filter", None, "", "odd", 7, ["stop"])),
    ("chat", chat("stop", "length")),
    ("chat", chat("stop", refusal="no")),
    ("chat", chat()),
    ("chat", {"error": {"message": "x"}} | chat("stop")),
    ("chat", []),
    ("chat", {"choices": [1]}),
    ("text", {"choices": [{"text": "x", "finish_reason": "length"}]}),
    *(("responses", response(status=status)) for status in ("incomplete", "failed", "cancelled", "queued", None)),
    ("responses", response(error={"code": "x"})),
    ("responses", response(incomplete_details={"reason": "max_output_tokens"})),
    ("responses", response(output=[REFUSAL])),
    ("responses", response(output=[CUT])),
    ("responses", response(output=None)),
    ("embeddings", {"data": []}),
    ("embeddings", {}),
    ("images", {"data": None}),
    *(
        ("messages", {"stop_reason": reason})
        for reason in ("max_tokens", "refusal", "pause_turn", "model_context_window_exceeded", None, {})
    ),
    ("messages", {"type": "error", "error": {"type": "overloaded_error"}}),
    ("complete", {"completion": "x", "stop_reason": "max_tokens"}),
    *(("gemini", gemini(reason)) for reason in ("MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", None, "stop")),
    ("gemini", gemini("STOP", "SAFETY")),
    ("gemini", gemini("STOP", promptFeedback={"blockReason": "SAFETY"})),
    ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}),
    ("gemini", [gemini("STOP")]),
    ("embed", {"embeddings": []}),
]


@pytest.mark.parametrize(("kind", "answer", "normal"), [(*c, True) for c in NORMAL] + [(*c, False) for c in SPOILT])
def test_whole_answers(kind: str, answer: Any, normal: bool) -> None:
    assert finished_normally(*endpoint(kind), json.dumps(answer).encode()) is normal


@pytest.mark.parametrize("kind", PATHS)
@given(raw=st.binary(max_size=20))
def test_nonsense_is_not_normal(kind: str, raw: bytes) -> None:
    for body in (raw, b'{"choices":' + raw, b"[]", b"{}", b"null"):
        assert not finished_normally(*endpoint(kind), body)


def normal(kind: str, *events: Any, sizes: tuple[int, ...] = (7, 10**6)) -> bool:
    """Whether a stream of these events is normal, whatever its chunks. `sizes`: of the chunks, in bytes."""
    made = []
    for event in events:
        kinds = event.get("type") if isinstance(event, dict) else ""
        head = f"event: {kinds}\n".encode() if kinds else b""
        made.append(head + b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n")
    stream = b"".join(made)
    found = set()
    for size in sizes:
        make = endpoint(kind)[1].meter
        assert make is not None
        meter, splitter = make(), Splitter()
        for at in range(0, len(stream), size):
            for event in splitter.feed(stream[at : at + size]):
                meter.see(event)
        found.add(meter.normal)
    assert len(found) == 1
    return found.pop()


def delta(index: int, **fields: Any) -> dict[str, Any]:
    finish = fields.pop("finish", None)
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def test_chat_streams() -> None:
    text, stop = delta(0, content="x"), delta(0, finish="stop")
    usage = {"choices": [], "usage": {"prompt_tokens": 1}}
    assert normal("chat", text, stop, usage, b"[DONE]")
    assert normal("chat", text, stop)
    assert normal("chat", text, delta(1, content="y"), stop, delta(1, finish="tool_calls"), b"[DONE]")
    assert not normal("chat", text, delta(0, finish="length"), b"[DONE]")
    assert not normal("chat", text, delta(1, content="y"), stop, b"[DONE]"), "one choice never finished"
    assert not normal("chat", text, delta(1), stop, delta(1, finish="content_filter"), b"[DONE]")
    assert not normal("chat", delta(0, refusal="no"), stop, b"[DONE]")
    assert not normal("chat", text, b"[DONE]"), "an end without a reason"
    assert not normal("chat", text)
    assert not normal("chat", text, stop, {"error": {"message": "x"}})
    assert normal("text", {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}, b"[DONE]")


def test_a_stream_that_was_not_read_whole_is_not_normal() -> None:
    big = "x" * 200_000
    assert not normal("chat", delta(0, content=big), delta(0, finish="stop"), b"[DONE]", sizes=(1000,))
    candidate = {"content": {"parts": [{"text": big}]}, "finishReason": "STOP"}
    assert not normal("gemini stream", {"candidates": [candidate]}, sizes=(1000,))


def test_responses_streams() -> None:
    text = {"type": "response.output_text.delta", "delta": "x"}
    done = {"type": "response.completed", "response": response()}
    assert normal("responses", text, done)
    assert not normal("responses", text)
    assert not normal("responses", text, {"type": "response.incomplete", "response": response(status="incomplete")})
    assert not normal("responses", text, {"type": "response.failed", "response": response(status="failed")})
    assert not normal("responses", {"type": "response.refusal.delta", "delta": "no"}, done)
    assert not normal("responses", text, done | {"response": response(output=[REFUSAL])})
    assert not normal("responses", text, done | {"response": None})
    assert not normal("responses", {"type": "error", "code": "x"})
    big = response(output=[], instructions="x" * 200_000)
    assert normal("responses", text, done | {"response": big}), "what was refused would have been seen as deltas"
    assert not normal("responses", text, {"type": "response.incomplete", "response": big})


def test_anthropic_streams() -> None:
    def ends(reason: Any) -> list[dict[str, Any]]:
        return [{"type": "message_delta", "delta": {"stop_reason": reason}}, {"type": "message_stop"}]

    start = {"type": "message_start", "message": {"model": "m"}}
    assert all(normal("messages", start, *ends(reason)) for reason in ("end_turn", "stop_sequence", "tool_use"))
    assert not any(normal("messages", start, *ends(r)) for r in ("max_tokens", "refusal", "pause_turn", None, "x"))
    assert not normal("messages", start, ends("end_turn")[0]), "cut off before its end"
    assert not normal("messages", start, {"type": "message_stop"})
    assert not normal("messages", start, {"type": "error", "error": {"type": "overloaded_error"}})
    assert normal("complete", {"type": "completion", "completion": "x", "stop_reason": "stop_sequence"})
    assert not normal("complete", {"type": "completion", "completion": "x", "stop_reason": "max_tokens"})


def test_gemini_streams() -> None:
    assert normal("gemini stream", gemini(None), gemini("STOP"))
    assert not normal("gemini stream", gemini(None, None), gemini("STOP"))
    assert not normal("gemini stream", gemini("STOP", "MAX_TOKENS"))
    assert not normal("gemini stream", gemini("SAFETY"))
    assert not normal("gemini stream", {"promptFeedback": {"blockReason": "OTHER"}})
    assert not normal("gemini stream", gemini("STOP"), {"error": {"code": 503}})


def test_gemini_streams_that_came_as_an_array() -> None:
    _, found = endpoint("gemini stream")
    for chunks, good in (
        ([gemini(None), gemini("STOP")], True),
        ([gemini(None, None), gemini("STOP")], False),
        ([gemini("STOP"), {"error": {"code": 503}}], False),
        ([], False),
        (gemini("STOP"), False),
    ):
        assert array_finished_normally(found, json.dumps(chunks).encode()) is good
    assert not array_finished_normally(found, json.dumps([gemini("STOP")]).encode()[:-1]), "cut off"
    assert not array_finished_normally(endpoint("gemini")[1], b"[]"), "it never streams"


@pytest.mark.parametrize(
    ("kind", "stream"), [("chat", streams.CHAT), ("messages", streams.ANTHROPIC), ("gemini stream", streams.GEMINI)]
)
def test_recorded_streams_are_normal_at_their_end_only(kind: str, stream: bytes) -> None:
    events = Splitter().feed(stream)
    make = endpoint(kind)[1].meter
    assert make is not None
    meter = make()
    for event in events[:-3]:
        meter.see(event)
        assert not meter.normal
    for event in events[-3:]:
        meter.see(event)
    assert meter.normal
