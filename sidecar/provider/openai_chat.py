"""OpenAI chat completions and legacy completions, whole and streamed.

Decides their JSON and their chunks. Chunks state usage as OpenAI does: not at
all unless `stream_options.include_usage`, and then as null but for an extra last
chunk without choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from sidecar.provider import refusal, text
from sidecar.provider.call import Answer, Call, Frame, Json, Refused, Stream, json_answer
from sidecar.provider.state import State
from sidecar.provider.text import Reply

SSE_COMMENT: Final = b": ping\n\n"
DONE: Final = Frame(b"data: [DONE]\n\n")

_FINISH: Final = {"stop": "stop", "length": "length", "tool": "tool_calls"}


def chat_completions(call: Call, _state: State) -> Answer:
    """`POST /v1/chat/completions`."""
    require_model(call)
    messages = call.json.get("messages")
    if not isinstance(messages, list):
        raise Refused(
            400, "Missing required parameter: 'messages'.", code="missing_required_parameter", param="messages"
        )
    reply = _reply(call, messages)
    choices = text.cap_of(call.json.get("n")) or 1
    if call.stream:
        return Stream(_chunks(call, reply, choices), SSE_COMMENT, error_frame(call), call.prompt_tokens)
    tokens = reply.tokens * choices
    body = _head(call, "chat.completion")
    body["choices"] = [
        {"index": index, "message": _message(call, reply, index), "logprobs": None, "finish_reason": _finish(reply)}
        for index in range(choices)
    ]
    if call.fault.usage != "none":
        body["usage"] = usage(call, tokens)
    return json_answer(body, call, tokens)


def completions(call: Call, _state: State) -> Answer:
    """`POST /v1/completions`."""
    require_model(call)
    reply = text.say(
        call.model,
        text.plain(call.json.get("prompt")),
        pieces=call.wanted_pieces,
        cap=text.cap_of(call.json.get("max_tokens")),
    )
    if call.stream:
        return Stream(_text_chunks(call, reply), SSE_COMMENT, error_frame(call), call.prompt_tokens)
    body = _head(call, "text_completion")
    body["choices"] = [{"index": 0, "text": reply.text, "logprobs": None, "finish_reason": _finish(reply)}]
    if call.fault.usage != "none":
        body["usage"] = usage(call, reply.tokens)
    return json_answer(body, call, reply.tokens)


def require_model(call: Call) -> None:
    """Refuses a request that names no model, in OpenAI's words."""
    if not call.model:
        raise Refused(400, "you must provide a model parameter", param="model")


def usage(call: Call, completion_tokens: int) -> Json:
    """The `usage` object of a chat or text completion."""
    counts = text.usage(call.prompt_tokens, completion_tokens, call.fault.usage)
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.total,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def sse(value: Any) -> bytes:
    """One `data:` event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def error_frame(call: Call) -> Any:
    """The builder of the error event inside a stream."""
    return lambda _sent: sse(refusal.stream_error("openai", call.fault.code))


def _reply(call: Call, messages: list[Any]) -> Reply:
    body = call.json
    cap = text.cap_of(body.get("max_completion_tokens"), body.get("max_tokens"))
    answered = bool(messages) and isinstance(messages[-1], dict) and messages[-1].get("role") == "tool"
    tool = chosen_tool([entry.get("function") for entry in body.get("tools") or () if isinstance(entry, dict)], body)
    if tool is not None and not answered:
        return text.call_tool(tool["name"], tool.get("parameters"))
    wanted = body.get("response_format") or {}
    if wanted.get("type") in ("json_schema", "json_object"):
        return text.say_json((wanted.get("json_schema") or {}).get("schema"), cap=cap)
    heard = next((m for m in reversed(messages) if isinstance(m, dict) and m.get("role") == "user"), {})
    return text.say(call.model, text.plain(heard.get("content")), pieces=call.wanted_pieces, cap=cap)


def chosen_tool(functions: list[Any], body: Json) -> Json | None:
    """The function that `tool_choice` names, else the first one; None for `none` or without functions."""
    choice = body.get("tool_choice")
    named = [function for function in functions if isinstance(function, dict) and isinstance(function.get("name"), str)]
    if choice == "none" or not named:
        return None
    if isinstance(choice, dict):
        wanted = (choice.get("function") or choice).get("name")
        return next((function for function in named if function["name"] == wanted), named[0])
    return named[0]


def _head(call: Call, kind: str) -> Json:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {
        "id": f"{prefix}-fake{call.number}",
        "object": kind,
        "created": call.created_s,
        "model": call.claimed_model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def _message(call: Call, reply: Reply, index: int) -> Json:
    message: Json = {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []}
    if reply.tool is not None:
        message["content"] = None
        function = {"name": reply.tool.name, "arguments": reply.tool.arguments_text}
        message["tool_calls"] = [{"id": _tool_id(call, index), "type": "function", "function": function}]
    return message


def _tool_id(call: Call, index: int) -> str:
    return f"call_fake{call.number}_{index}"


def _finish(reply: Reply) -> str:
    return _FINISH[text.finish(reply)]


def _chunks(call: Call, reply: Reply, choices: int) -> Iterator[Frame]:
    head = _chunk_head(call, "chat.completion.chunk")

    def chunk(index: int, delta: Json, finish: str | None = None, tokens: int = 0) -> Frame:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return Frame(sse({**head, "choices": [choice]}), tokens)

    for index in range(choices):
        yield chunk(index, {"role": "assistant", "content": None if reply.tool else "", "refusal": None})
    if reply.tool is not None:
        for index in range(choices):
            function = {"name": reply.tool.name, "arguments": ""}
            start = {"index": 0, "id": _tool_id(call, index), "type": "function", "function": function}
            yield chunk(index, {"tool_calls": [start]}, tokens=1)
    for piece in reply.pieces:
        delta: Json = {"content": piece}
        if reply.tool is not None:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        for index in range(choices):
            yield chunk(index, delta, tokens=1)
    for index in range(choices):
        yield chunk(index, {}, _finish(reply))
    yield from _usage_chunks(call, head, reply.tokens * choices)
    yield DONE


def _text_chunks(call: Call, reply: Reply) -> Iterator[Frame]:
    head = _chunk_head(call, "text_completion")
    for piece in reply.pieces:
        choice: Json = {"index": 0, "text": piece, "logprobs": None, "finish_reason": None}
        yield Frame(sse({**head, "choices": [choice]}), 1)
    last = {"index": 0, "text": "", "logprobs": None, "finish_reason": _finish(reply)}
    yield Frame(sse({**head, "choices": [last]}))
    yield from _usage_chunks(call, head, reply.tokens)
    yield DONE


def _chunk_head(call: Call, kind: str) -> Json:
    head = _head(call, kind)
    if _includes_usage(call) and call.fault.usage != "none":
        head["usage"] = None
    return head


def _includes_usage(call: Call) -> bool:
    return (call.json.get("stream_options") or {}).get("include_usage") is True


def _usage_chunks(call: Call, head: Json, completion_tokens: int) -> Iterator[Frame]:
    if not _includes_usage(call) or call.fault.usage == "none":
        return
    last = Frame(sse({**head, "choices": [], "usage": usage(call, completion_tokens)}))
    yield last
    if call.fault.usage == "twice":
        yield last
