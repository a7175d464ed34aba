"""Gemini: generateContent (whole, SSE, JSON array), countTokens, embeddings, models.

Decides their JSON and chunks. The model stands in the path; every chunk states
cumulative usage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from sidecar.provider import refusal, text, vectors
from sidecar.provider.call import Answer, Call, Frame, Json, Refused, Stream, json_answer
from sidecar.provider.state import State
from sidecar.provider.text import Reply

_FINISH: Final = {"stop": "STOP", "length": "MAX_TOKENS", "tool": "STOP"}


def generate_content(call: Call, _state: State) -> Answer:
    """`POST /v1beta/models/{model}:generateContent`."""
    reply = _reply(call)
    body = _head(call)
    body["candidates"] = [_candidate([_part(reply)], _FINISH[text.finish(reply)])]
    if call.fault.usage != "none":
        body["usageMetadata"] = _usage(call, reply.tokens)
    return json_answer(body, call, reply.tokens)


def stream_generate_content(call: Call, _state: State) -> Answer:
    """`POST /v1beta/models/{model}:streamGenerateContent`: SSE with `alt=sse`, else one JSON array."""
    chunks = _chunks(call, _reply(call))
    error = refusal.stream_error("gemini", call.fault.code)
    if call.params.get("alt") == "sse":
        frames = (Frame(_sse(chunk), tokens) for chunk, tokens in chunks)
        return Stream(frames, b"\r\n", lambda _sent: _sse(error), call.prompt_tokens)
    return Stream(
        _array(chunks),
        b"\r\n",
        lambda sent: (b",\r\n" if sent else b"[") + orjson.dumps(error) + b"]",
        call.prompt_tokens,
        content_type="application/json; charset=UTF-8",
    )


def count_tokens(call: Call, _state: State) -> Answer:
    """`POST /v1beta/models/{model}:countTokens`; free of charge."""
    total = call.prompt_tokens
    return json_answer({"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]})


def embed_content(call: Call, _state: State) -> Answer:
    """`POST /v1beta/models/{model}:embedContent`."""
    return json_answer({"embedding": _embedding(call.json)}, call)


def batch_embed_contents(call: Call, _state: State) -> Answer:
    """`POST /v1beta/models/{model}:batchEmbedContents`."""
    requests = call.json.get("requests")
    if not isinstance(requests, list):
        raise Refused(400, "requests is required")
    return json_answer({"embeddings": [_embedding(request) for request in requests if isinstance(request, dict)]}, call)


def list_models(_call: Call, state: State) -> Answer:
    """`GET /v1beta/models`."""
    return json_answer({"models": [_model(model) for model in state.gemini_models]})


def retrieve_model(call: Call, _state: State) -> Answer:
    """`GET /v1beta/models/{model}`."""
    return json_answer(_model(call.claimed_model))


def _reply(call: Call) -> Reply:
    body = call.json
    contents = body.get("contents")
    if not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified")
    turns = [turn for turn in contents if isinstance(turn, dict)] if isinstance(contents, list) else [contents]
    heard = next((turn.get("parts") for turn in reversed(turns) if turn.get("role", "user") == "user"), None) or []
    answered = any(isinstance(part, dict) and "functionResponse" in part for part in heard)
    tool = _chosen_tool(body)
    if tool is not None and not answered:
        return text.call_tool(tool["name"], tool.get("parametersJsonSchema") or tool.get("parameters"))
    config = body.get("generationConfig") or {}
    cap = text.cap_of(config.get("maxOutputTokens"))
    if config.get("responseMimeType") == "application/json":
        return text.say_json(config.get("responseJsonSchema") or config.get("responseSchema"), cap=cap)
    return text.say(call.model, text.plain(heard), pieces=call.wanted_pieces, cap=cap)


def _chosen_tool(body: Json) -> Json | None:
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if config.get("mode") == "NONE":
        return None
    declared = [
        function
        for tool in body.get("tools") or ()
        if isinstance(tool, dict)
        for function in tool.get("functionDeclarations") or ()
        if isinstance(function, dict) and isinstance(function.get("name"), str)
    ]
    allowed = config.get("allowedFunctionNames") or [function["name"] for function in declared]
    return next((function for function in declared if function["name"] in allowed), None)


def _head(call: Call) -> Json:
    return {"modelVersion": call.claimed_model, "responseId": f"fake{call.number}"}


def _candidate(parts: list[Json], finish: str | None) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return candidate


def _part(reply: Reply) -> Json:
    if reply.tool is None:
        return {"text": reply.text}
    return {"functionCall": {"name": reply.tool.name, "args": reply.tool.arguments}}


def _usage(call: Call, candidates_tokens: int) -> Json:
    counts = text.usage(call.prompt_tokens, candidates_tokens, call.fault.usage)
    return {
        "promptTokenCount": counts.prompt,
        "candidatesTokenCount": counts.completion,
        "totalTokenCount": counts.total,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": counts.prompt}],
    }


def _chunks(call: Call, reply: Reply) -> Iterator[tuple[Json, int]]:
    head = _head(call)
    sent = 0

    def chunk(part: Json, finish: str | None) -> Json:
        value = {"candidates": [_candidate([part], finish)], **head}
        if call.fault.usage != "none":
            value["usageMetadata"] = _usage(call, sent)
        return value

    if reply.tool is not None:
        sent = reply.tokens
        yield chunk(_part(reply), None), sent
    else:
        for piece in reply.pieces:
            sent += 1
            yield chunk({"text": piece}, None), 1
    last = chunk({"text": ""}, _FINISH[text.finish(reply)])
    yield last, 0
    if call.fault.usage == "twice":
        yield last, 0


def _sse(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\r\n\r\n"


def _array(chunks: Iterator[tuple[Json, int]]) -> Iterator[Frame]:
    opening = b"["
    for chunk, tokens in chunks:
        yield Frame(opening + orjson.dumps(chunk), tokens)
        opening = b",\r\n"
    yield Frame(b"]")


def _embedding(request: Json) -> Json:
    content = request.get("content") or {}
    said = text.plain(content.get("parts") if isinstance(content, dict) else content)
    size = text.cap_of(request.get("outputDimensionality")) or vectors.USUAL_SIZE
    return {"values": vectors.vector(said, size)}


def _model(model: str) -> Json:
    return {
        "name": f"models/{model}",
        "version": "001",
        "displayName": model,
        "inputTokenLimit": 1_000_000,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
    }
