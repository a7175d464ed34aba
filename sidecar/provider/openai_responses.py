"""OpenAI Responses: create (whole, stream, background), retrieve, cancel, delete.

Decides the response object and the order of its events, which HTTP streams and
WebSockets share. A background response is in progress until it is next retrieved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from sidecar.provider import refusal, text
from sidecar.provider.call import Answer, Call, Frame, Json, Refused, Stream, json_answer
from sidecar.provider.openai_chat import SSE_COMMENT, chosen_tool, require_model
from sidecar.provider.state import KeptResponse, State
from sidecar.provider.text import Reply

Event = tuple[Json, int]
"""An event of a response stream and the tokens that it carries."""

_DEFAULTS: Final[Json] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def create(call: Call, state: State) -> Answer:
    """`POST /v1/responses`."""
    if call.stream:
        frames = (Frame(_sse(event), tokens) for event, tokens in events(call, state))
        return Stream(frames, SSE_COMMENT, lambda sent: error_events(call, sent), call.prompt_tokens)
    reply = reply_to(call, state)
    done = _response(call, reply, _status(reply))
    kept = KeptResponse(done, _input_items(call))
    if call.json.get("background") is True:
        kept = KeptResponse(_response(call, None, "in_progress"), kept.input_items, done, reply.tokens)
        state.responses.put(done["id"], kept)
        return json_answer(kept.response, call)
    state.responses.put(done["id"], kept)
    return json_answer(done, call, reply.tokens)


def retrieve(call: Call, state: State) -> Answer:
    """`GET /v1/responses/{id}`; completes a background response and bills its tokens."""
    kept = _kept(call, state)
    due, kept.due_tokens = kept.due_tokens, 0
    if kept.completed is not None:
        kept.response, kept.completed = kept.completed, None
    call.model = kept.response["model"]
    answer = json_answer(kept.response)
    answer.completion_tokens = due
    return answer


def cancel(call: Call, state: State) -> Answer:
    """`POST /v1/responses/{id}/cancel`."""
    kept = _kept(call, state)
    if kept.response["status"] != "in_progress":
        raise Refused(400, "Cannot cancel a synchronous response.", code="invalid_request")
    kept.completed, kept.due_tokens = None, 0
    kept.response = {**kept.response, "status": "cancelled"}
    return json_answer(kept.response)


def delete(call: Call, state: State) -> Answer:
    """`DELETE /v1/responses/{id}`."""
    _kept(call, state)
    state.responses.pop(call.arguments[0])
    return json_answer({"id": call.arguments[0], "object": "response", "deleted": True})


def input_items(call: Call, state: State) -> Answer:
    """`GET /v1/responses/{id}/input_items`."""
    items = _kept(call, state).input_items
    ids = [item["id"] for item in items]
    return json_answer(
        {
            "object": "list",
            "data": items,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": False,
        }
    )


def input_tokens(call: Call, _state: State) -> Answer:
    """`POST /v1/responses/input_tokens`."""
    return json_answer({"object": "response.input_tokens", "input_tokens": call.prompt_tokens})


def reply_to(call: Call, state: State) -> Reply:
    """What the model says to a `response.create`. Raises Refused."""
    require_model(call)
    body = call.json
    previous = body.get("previous_response_id")
    if previous is not None and state.responses.get(previous) is None:
        raise Refused(
            400,
            f"Previous response with id '{previous}' not found.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    items = body.get("input")
    items = items if isinstance(items, list) else [{"role": "user", "content": items}]
    functions = [tool for tool in body.get("tools") or () if isinstance(tool, dict) and tool.get("type") == "function"]
    tool = chosen_tool(functions, body)
    answered = bool(items) and isinstance(items[-1], dict) and items[-1].get("type") == "function_call_output"
    if tool is not None and not answered:
        return text.call_tool(tool["name"], tool.get("parameters"))
    cap = text.cap_of(body.get("max_output_tokens"))
    wanted = (body.get("text") or {}).get("format") or {}
    if wanted.get("type") in ("json_schema", "json_object"):
        return text.say_json(wanted.get("schema"), cap=cap)
    heard = next((item for item in reversed(items) if isinstance(item, dict) and item.get("role") == "user"), {})
    return text.say(call.model, text.plain(heard.get("content")), pieces=call.wanted_pieces, cap=cap)


def events(call: Call, state: State) -> Iterator[Event]:
    """The events of one streamed response, in OpenAI's order. Refuses before the first event."""
    return _numbered(_events(call, state, reply_to(call, state)))


def error_event(call: Call, sent: int) -> Json:
    """The `error` event that ends a broken stream after `sent` events."""
    error = refusal.stream_error("openai", call.fault.code)["error"]
    return {"type": "error", "sequence_number": sent, "code": error["code"], "message": error["message"], "param": None}


def error_events(call: Call, sent: int) -> bytes:
    """How an HTTP stream breaks: an `error` event, then `response.failed`."""
    error = error_event(call, sent)
    failed = _response(call, None, "failed")
    failed["error"] = {"code": error["code"], "message": error["message"]}
    return _sse(error) + _sse({"type": "response.failed", "sequence_number": sent + 1, "response": failed})


def _sse(event: Json) -> bytes:
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"


def _numbered(events: Iterator[Event]) -> Iterator[Event]:
    for number, (event, tokens) in enumerate(events):
        event["sequence_number"] = number
        yield event, tokens


def _events(call: Call, state: State, reply: Reply) -> Iterator[Event]:
    begun = _response(call, None, "in_progress")
    kept = KeptResponse(begun, _input_items(call))
    state.responses.put(begun["id"], kept)
    yield {"type": "response.created", "response": begun}, 0
    yield {"type": "response.in_progress", "response": begun}, 0
    yield from _tool_events(call, reply) if reply.tool is not None else _text_events(call, reply)
    status = _status(reply)
    kept.response = _response(call, reply, status)
    yield {"type": f"response.{status}", "response": kept.response}, 0
    if call.fault.usage == "twice":
        yield {"type": f"response.{status}", "response": kept.response}, 0


def _text_events(call: Call, reply: Reply) -> Iterator[Event]:
    item = _item(call, reply)
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    started = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": started}, 0
    yield {"type": "response.content_part.added", **at, "part": part}, 0
    for piece in reply.pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}, 1
    yield {"type": "response.output_text.done", **at, "text": reply.text, "logprobs": []}, 0
    yield {"type": "response.content_part.done", **at, "part": {**part, "text": reply.text}}, 0
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}, 0


def _tool_events(call: Call, reply: Reply) -> Iterator[Event]:
    item = _item(call, reply)
    at = {"item_id": item["id"], "output_index": 0}
    started = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": 0, "item": started}, 1
    for piece in reply.pieces:
        yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}, 1
    done = {"type": "response.function_call_arguments.done", **at, "name": item["name"], "arguments": reply.text}
    yield done, 0
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}, 0


def _status(reply: Reply) -> str:
    return "incomplete" if reply.truncated else "completed"


def _item(call: Call, reply: Reply) -> Json:
    if reply.tool is not None:
        return {
            "id": f"fc_fake{call.number}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_fake{call.number}",
            "name": reply.tool.name,
            "arguments": reply.tool.arguments_text,
        }
    part = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_fake{call.number}",
        "type": "message",
        "role": "assistant",
        "status": _status(reply),
        "content": [part],
    }


def _response(call: Call, reply: Reply | None, status: str) -> Json:
    body = call.json
    response: Json = {
        "id": f"resp_fake{call.number}",
        "object": "response",
        "created_at": call.created_s,
        "status": status,
        "background": body.get("background") is True,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": call.claimed_model,
        "output": [] if reply is None else [_item(call, reply)],
        "usage": None,
    }
    for name, usual in _DEFAULTS.items():
        value = body.get(name)
        response[name] = usual if value is None else value
    if reply is not None and call.fault.usage != "none":
        response["usage"] = usage(call, reply.tokens)
    return response


def usage(call: Call, output_tokens: int) -> Json:
    """The `usage` object of a response."""
    counts = text.usage(call.prompt_tokens, output_tokens, call.fault.usage)
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts.total,
    }


def _input_items(call: Call) -> list[Json]:
    given = call.json.get("input")
    items: list[Any] = given if isinstance(given, list) else [{"role": "user", "content": given}]
    shown = []
    for index, item in enumerate(items):
        content = item.get("content") if isinstance(item, dict) else item
        if isinstance(content, str):
            content = [{"type": "input_text", "text": content}]
        usual = {"id": f"msg_fake{call.number}_{index}", "type": "message"}
        shown.append({**usual, **(item if isinstance(item, dict) else {}), "content": content or []})
    return shown


def _kept(call: Call, state: State) -> KeptResponse:
    kept = state.responses.get(call.arguments[0])
    if kept is None:
        raise Refused(404, f"Response with id '{call.arguments[0]}' not found.")
    return kept
