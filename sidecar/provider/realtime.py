"""The Realtime API's objects and events, in text modality.

Decides what a turn sends; `sockets.py` keeps the connection. A prompt is billed
by all bytes that the client has sent on the connection so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidecar.provider import text
from sidecar.provider.call import Call, Json
from sidecar.provider.text import Reply


def session(call: Call) -> Json:
    """The session object of a new connection."""
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": f"sess_fake{call.number}",
        "model": call.model,
        "output_modalities": ["text"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
    }


def prompt_tokens(heard_bytes: int) -> int:
    """A quarter of the bytes that the client has sent, at least one."""
    return max(1, heard_bytes // 4)


def text_of(item: Json) -> str:
    """The text of a conversation item."""
    return text.plain(item.get("content"))


def events(call: Call, facts: Json, said: str, heard_bytes: int) -> Iterator[tuple[Json, int]]:
    """The events of one turn, with the tokens that each carries."""
    wanted = call.json.get("response") or {}
    items = wanted.get("input") or []
    heard = text.plain([text_of(item) for item in items if isinstance(item, dict)]) or said
    cap = text.cap_of(wanted.get("max_output_tokens"), facts.get("max_output_tokens"))
    reply = text.say(call.model, heard, pieces=call.wanted_pieces, cap=cap)
    item = _item(call, reply)
    at = {"response_id": f"resp_fake{call.number}", "output_index": 0}
    here = {**at, "item_id": item["id"], "content_index": 0}
    part = {"type": "text", "text": ""}
    yield {"type": "response.created", "response": response(call, "in_progress", None, heard_bytes)}, 0
    yield {"type": "response.output_item.added", **at, "item": {**item, "status": "in_progress", "content": []}}, 0
    yield {"type": "response.content_part.added", **here, "part": part}, 0
    for piece in reply.pieces:
        yield {"type": "response.output_text.delta", **here, "delta": piece}, 1
    yield {"type": "response.output_text.done", **here, "text": reply.text}, 0
    yield {"type": "response.content_part.done", **here, "part": {**part, "text": reply.text}}, 0
    yield {"type": "response.output_item.done", **at, "item": item}, 0
    status = "incomplete" if reply.truncated else "completed"
    yield {"type": "response.done", "response": response(call, status, reply, heard_bytes)}, 0


def response(call: Call, status: str, reply: Reply | None, heard_bytes: int) -> Json:
    """The response object; usage only with a reply."""
    shown: Json = {
        "object": "realtime.response",
        "id": f"resp_fake{call.number}",
        "status": status,
        "status_details": None,
        "output": [] if reply is None else [_item(call, reply)],
        "output_modalities": ["text"],
        "usage": None,
    }
    if reply is not None and call.fault.usage != "none":
        shown["usage"] = _usage(call, heard_bytes, reply.tokens)
    return shown


def _item(call: Call, reply: Reply) -> Json:
    return {
        "id": f"item_fake{call.number}",
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": reply.text}],
    }


def _usage(call: Call, heard_bytes: int, output_tokens: int) -> dict[str, Any]:
    counts = text.usage(prompt_tokens(heard_bytes), output_tokens, call.fault.usage)
    return {
        "total_tokens": counts.total,
        "input_tokens": counts.prompt,
        "output_tokens": counts.completion,
        "input_token_details": {"text_tokens": counts.prompt, "audio_tokens": 0, "cached_tokens": 0},
        "output_token_details": {"text_tokens": counts.completion, "audio_tokens": 0},
    }
