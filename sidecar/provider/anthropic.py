"""Anthropic: messages (whole and streamed), count_tokens, message batches, models.

Decides their JSON and events. Every endpoint needs the `anthropic-version` header.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from sidecar.provider import refusal, text
from sidecar.provider.call import Answer, Call, Frame, Json, Refused, Stream, json_answer
from sidecar.provider.state import State
from sidecar.provider.text import Reply

_STOP: Final = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}
_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


def messages(call: Call, _state: State) -> Answer:
    """`POST /v1/messages`."""
    _require_version(call)
    for name in ("model", "max_tokens", "messages"):
        if not call.json.get(name):
            raise Refused(400, f"{name}: Field required")
    reply = _reply(call)
    if call.stream:
        return Stream(_events(call, reply), _PING, lambda _sent: _error(call), call.prompt_tokens)
    return json_answer(_message(call, reply), call, reply.tokens)


def count_tokens(call: Call, _state: State) -> Answer:
    """`POST /v1/messages/count_tokens`; free of charge."""
    _require_version(call)
    if not call.model:
        raise Refused(400, "model: Field required")
    return json_answer({"input_tokens": call.prompt_tokens})


def create_batch(call: Call, state: State) -> Answer:
    """`POST /v1/messages/batches`. `fake_models` lists the models that its requests name."""
    _require_version(call)
    requests = call.json.get("requests")
    if not isinstance(requests, list) or not requests:
        raise Refused(400, "requests: Field required")
    models = sorted({str((entry.get("params") or {}).get("model")) for entry in requests if isinstance(entry, dict)})
    call.model = ",".join(models)
    made_at = datetime.fromtimestamp(call.created_s, UTC)
    batch: Json = {
        "id": f"msgbatch_fake{call.number}",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {"processing": len(requests), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": _rfc3339(made_at),
        "expires_at": _rfc3339(made_at + timedelta(days=1)),
        "ended_at": None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
        "fake_models": models,
    }
    state.message_batches.put(batch["id"], batch)
    return json_answer(batch)


def retrieve_batch(call: Call, state: State) -> Answer:
    """`GET /v1/messages/batches/{id}`."""
    return json_answer(_batch(call, state))


def cancel_batch(call: Call, state: State) -> Answer:
    """`POST /v1/messages/batches/{id}/cancel`."""
    batch = _batch(call, state)
    batch["processing_status"] = "canceling"
    batch["cancel_initiated_at"] = _rfc3339(datetime.fromtimestamp(call.created_s, UTC))
    return json_answer(batch)


def list_batches(call: Call, state: State) -> Answer:
    """`GET /v1/messages/batches`."""
    _require_version(call)
    return json_answer(_page(list(state.message_batches)[::-1]))


def list_models(call: Call, state: State) -> Answer:
    """`GET /v1/models` with Anthropic's headers."""
    _require_version(call)
    return json_answer(_page([_model(model) for model in state.anthropic_models]))


def retrieve_model(call: Call, _state: State) -> Answer:
    """`GET /v1/models/{id}` with Anthropic's headers."""
    _require_version(call)
    return json_answer(_model(call.claimed_model))


def _require_version(call: Call) -> None:
    if not call.headers.get("anthropic-version"):
        raise Refused(400, "anthropic-version: header is required")


def _reply(call: Call) -> Reply:
    body = call.json
    turns = [turn for turn in body["messages"] if isinstance(turn, dict)] if isinstance(body["messages"], list) else []
    heard = next((turn.get("content") for turn in reversed(turns) if turn.get("role") == "user"), "")
    answered = isinstance(heard, list) and any(_kind(part) == "tool_result" for part in heard)
    tool = _chosen_tool(body)
    if tool is not None and not answered:
        return text.call_tool(tool["name"], tool.get("input_schema"))
    cap = text.cap_of(body.get("max_tokens"))
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    if wanted.get("type") == "json_schema":
        return text.say_json(wanted.get("schema"), cap=cap)
    return text.say(call.model, text.plain(heard), pieces=call.wanted_pieces, cap=cap)


def _kind(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else None


def _chosen_tool(body: Json) -> Json | None:
    choice = body.get("tool_choice") or {}
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, dict) and "input_schema" in tool]
    if choice.get("type") == "none" or not tools:
        return None
    return next((tool for tool in tools if tool.get("name") == choice.get("name")), tools[0])


def _message(call: Call, reply: Reply | None) -> Json:
    message: Json = {
        "id": f"msg_fake{call.number}",
        "type": "message",
        "role": "assistant",
        "model": call.claimed_model,
        "content": [] if reply is None else [_block(call, reply)],
        "stop_reason": None if reply is None else _STOP[text.finish(reply)],
        "stop_sequence": None,
    }
    if call.fault.usage != "none":
        message["usage"] = _usage(call, 0 if reply is None else reply.tokens)
    return message


def _block(call: Call, reply: Reply) -> Json:
    if reply.tool is None:
        return {"type": "text", "text": reply.text}
    return {
        "type": "tool_use",
        "id": f"toolu_fake{call.number}",
        "name": reply.tool.name,
        "input": reply.tool.arguments,
    }


def _usage(call: Call, output_tokens: int) -> Json:
    counts = text.usage(call.prompt_tokens, output_tokens, call.fault.usage)
    return {
        "input_tokens": counts.prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": counts.completion,
        "service_tier": "standard",
    }


def _events(call: Call, reply: Reply) -> Iterator[Frame]:
    yield _event({"type": "message_start", "message": _message(call, None)})
    yield Frame(_PING)
    empty: Json = {"type": "text", "text": ""}
    if reply.tool is not None:
        empty = {**_block(call, reply), "input": {}}
    started = {"type": "content_block_start", "index": 0, "content_block": empty}
    yield _event(started, tokens=0 if reply.tool is None else 1)
    for piece in reply.pieces:
        delta = {"type": "text_delta", "text": piece}
        if reply.tool is not None:
            delta = {"type": "input_json_delta", "partial_json": piece}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta}, tokens=1)
    yield _event({"type": "content_block_stop", "index": 0})
    stopped: Json = {
        "type": "message_delta",
        "delta": {"stop_reason": _STOP[text.finish(reply)], "stop_sequence": None},
    }
    if call.fault.usage != "none":
        stopped["usage"] = _usage(call, reply.tokens)
        del stopped["usage"]["service_tier"]
    yield _event(stopped)
    if call.fault.usage == "twice":
        yield _event(stopped)
    yield _event({"type": "message_stop"})


def _event(value: Json, *, tokens: int = 0) -> Frame:
    return Frame(b"event: " + value["type"].encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n", tokens)


def _error(call: Call) -> bytes:
    return _event(refusal.stream_error("anthropic", call.fault.code)).data


def _batch(call: Call, state: State) -> Json:
    _require_version(call)
    batch = state.message_batches.get(call.arguments[0])
    if batch is None:
        raise Refused(404, f"message batch {call.arguments[0]} not found")
    return batch


def _page(entries: list[Json]) -> Json:
    return {
        "data": entries,
        "has_more": False,
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
    }


def _model(model: str) -> Json:
    return {
        "type": "model",
        "id": model,
        "display_name": model,
        "created_at": "2026-01-12T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
