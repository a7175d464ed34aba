"""Streams of typed events: OpenAI's Responses API, and its image, transcription and speech streams.

Decided here: which event types carry something that a user waits for and which one ends a stream, and how a stream of
ours breaks off so that the SDKs notice. Types are listed in openai-python's `ResponseStreamEvent`.

The event's name is the `type` of its data, so most events are told without parsing them.
"""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct

from sidecar.dialects.base import ERROR, PLAIN, USEFUL, Kind
from sidecar.dialects.finished import response_is_normal
from sidecar.dialects.meters import BaseMeter, first_text, last_object, loads, openai_usage, text_of
from sidecar.dialects.partial_json import reader
from sidecar.dialects.sse import event_name, name_and_data
from sidecar.errors import Refusal

_ENDS = frozenset({b"response.completed", b"response.incomplete", b"response.failed", b"response.cancelled"})
# Streams outside the Responses API: usage stands at the top of their last event.
_OTHER_ENDS = frozenset(
    {b"image_generation.completed", b"image_edit.completed", b"transcript.text.done", b"speech.audio.done"}
)
_NORMAL_ENDS = _OTHER_ENDS | {b"response.completed"}
# Something was produced, though it isn't called a delta.
_PRODUCED = (b".partial_image", b"response.output_item.done", b"_call_arguments.done")
_ECHOES = (b"response.created", b"response.in_progress", b"response.queued")  # they repeat the request


class _Delta(Struct, gc=False):
    delta: Any = None


_read_delta = reader(_Delta)


class TypedMeter(BaseMeter):
    """Meters the Responses API and OpenAI's other typed streams."""

    __slots__ = ()

    def _whole(self, event: bytes) -> Kind:
        kind, raw = name_and_data(event)
        if not kind:
            kind = _type(raw)
        if kind.endswith(b".delta"):
            if kind == b"response.refusal.delta":
                self._odd_end = True
            return self._delta(raw)
        if kind in _ENDS or kind in _OTHER_ENDS:
            return self._end(raw, kind)
        if kind == b"error":
            self.done = self._odd_end = True
            return ERROR
        if kind in _ECHOES:
            if self.served is None:
                self._served(raw)
            return PLAIN
        if kind.endswith(_PRODUCED):
            return USEFUL
        if b'"error"' in raw and not kind.startswith(b"response."):
            return self._maybe_error(raw)
        return PLAIN

    def _delta(self, raw: bytes) -> Kind:
        event = _read_delta(raw)
        if event is None or not event.delta:
            return PLAIN
        self._count(event.delta if isinstance(event.delta, str) else "")
        return USEFUL

    def _end(self, raw: bytes, kind: bytes) -> Kind:
        event = loads(raw)
        if not isinstance(event, dict):
            return PLAIN
        self.done = True
        response = event.get("response")
        whole = isinstance(response, dict) and response_is_normal(response)
        if kind not in _NORMAL_ENDS or (kind in _ENDS and not whole):
            self._odd_end = True
        if isinstance(response, dict):
            self.served = text_of(response.get("model")) or self.served
            event = response
        self.usage = openai_usage(event.get("usage")) or self.usage
        return ERROR if kind == b"response.failed" else USEFUL

    def _served(self, raw: bytes) -> None:
        event = loads(raw)
        response = event.get("response") if isinstance(event, dict) else None
        if isinstance(response, dict):
            self.served = text_of(response.get("model"))

    def _maybe_error(self, raw: bytes) -> Kind:
        event = loads(raw)
        if isinstance(event, dict) and event.get("error"):
            self.done = self._odd_end = True
            return ERROR
        return PLAIN

    def _huge_is_content(self, head: bytes) -> bool:
        kind = _head_type(head)
        return kind not in _ECHOES and kind not in _ENDS

    def _huge(self, head: bytes, last: bytes) -> None:
        kind = _head_type(head)
        if kind in _ENDS or kind in _OTHER_ENDS:
            self.done = True
            self._odd_end = self._odd_end or kind not in _NORMAL_ENDS  # a refusal was seen before, as deltas
            self.usage = openai_usage(last_object(last, "usage")) or self.usage
        if kind in _ECHOES or kind in _ENDS:
            self.served = self.served or first_text(head, "model") or first_text(last, "model")


def _type(raw: bytes) -> bytes:
    event = loads(raw) if b'"type"' in raw or b'"error"' in raw else None
    if not isinstance(event, dict):
        return b""
    if event.get("error") and not text_of(event.get("type")):
        return b"error"
    return (text_of(event.get("type")) or "").encode("utf-8", "replace")


def _head_type(head: bytes) -> bytes:
    return event_name(head) or (first_text(head, "type") or "").encode()


def failure(refusal: Refusal, request_id: str, error: dict[str, object]) -> bytes:
    """Two events that end a Responses stream of ours.

    First `error`, in both shapes that are about: flat as the reference has it, and with a nested `error`, on which
    alone openai-python (`_streaming.py`) and openai-node raise instead of handing out one more event. Then
    `response.failed`, for clients that wait for an end. Its sequence numbers can't be known here; 0 is valid.
    """
    message = {
        "type": "error",
        "code": refusal.code.value,
        "message": refusal.message,
        "param": None,
        "sequence_number": 0,
        "error": error,
    }
    failed = {
        "type": "response.failed",
        "sequence_number": 0,
        "response": {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": 0,
            "status": "failed",
            "error": {"code": "server_error", "message": refusal.message},
            "incomplete_details": None,
            "model": "",
            "output": [],
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": [],
            "usage": None,
        },
    }
    return (
        b"event: error\ndata: " + orjson.dumps(message) + b"\n\n"
        b"event: response.failed\ndata: " + orjson.dumps(failed) + b"\n\n"
    )
