"""Google's Gemini API (generativelanguage, not Vertex): endpoints, stream meter, refusals, usage, the list of models.

Decided here: the model stands in the path, and for some methods in the body as well, there with `models/` before it;
that prefix is no part of a name. `tunedModels/…` and `models/…/operations/…` are the provider's own and stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import orjson
from msgspec import Struct

from sidecar.core.facts import Usage
from sidecar.dialects.base import ERROR, PLAIN, USEFUL, Endpoint, Kind, Listed, Place, Reading
from sidecar.dialects.finished import GEMINI, ended
from sidecar.dialects.meters import (
    BaseMeter,
    Counts,
    first_of,
    first_text,
    last_object,
    loads,
    reading_of_ends,
    text_of,
)
from sidecar.dialects.partial_json import reader
from sidecar.dialects.sse import data
from sidecar.errors import Refusal, bad_request

NAME = "gemini"
CREDENTIAL_HEADER = "x-goog-api-key"

_PREFIX = "models/"


def normal_usage(table: Any) -> Usage | None:
    """Usage in one meaning for all dialects: thoughts and tool prompts stand beside Gemini's main counts.

    Zero counts are left out on the wire (proto3), so only a table without any count is odd.
    """
    if table is None:
        return None
    if not isinstance(table, dict):
        return Usage(odd=True)
    counts = Counts()
    thoughts = counts.of(table.get("thoughtsTokenCount"))
    usage = Usage(
        counts.of(table.get("promptTokenCount")) + counts.of(table.get("toolUsePromptTokenCount")),
        counts.of(first_of(table, "candidatesTokenCount", "responseTokenCount")) + thoughts,
        counts.of(table.get("cachedContentTokenCount")),
        0,
        thoughts,
    )
    counted = "promptTokenCount" in table or any(key.endswith("TokenCount") for key in table)
    usage.odd = counts.odd or not counted
    return usage


class _Chunk(Struct, gc=False):
    candidates: Any = None
    usageMetadata: Any = None  # noqa: N815 - Google's names
    modelVersion: Any = None  # noqa: N815
    promptFeedback: Any = None  # noqa: N815
    error: Any = None


_read = reader(_Chunk)


class GeminiMeter(BaseMeter):
    """Meters streamGenerateContent with `alt=sse`: each event is a whole answer so far uncounted."""

    __slots__ = ("_finished", "_seen")

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    @property
    def normal(self) -> bool:
        return bool(self._seen) and self._seen <= self._finished and not self._odd_end

    def _whole(self, event: bytes) -> Kind:
        chunk = _read(data(event))
        if chunk is None:
            return PLAIN
        if chunk.error:
            self.done = self._odd_end = True
            return ERROR
        self.served = text_of(chunk.modelVersion) or self.served
        self.usage = normal_usage(chunk.usageMetadata) or self.usage
        useful = False
        if isinstance(chunk.candidates, list):
            for candidate in chunk.candidates:
                if isinstance(candidate, dict) and self._candidate(candidate):
                    useful = True
        feedback = chunk.promptFeedback
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self.done = self._odd_end = True
            return USEFUL
        if self._seen:
            self.done = self._seen <= self._finished
        return USEFUL if useful else PLAIN

    def _candidate(self, candidate: dict[str, Any]) -> bool:
        index = candidate.get("index")
        index = index if isinstance(index, int) else 0
        self._seen.add(index)
        useful = False
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                text = text_of(part.get("text"))
                if text or part.keys() - {"text", "thought"}:
                    self._count(text or "")
                    useful = True
        if candidate.get("finishReason"):
            self._finished.add(index)
            self._odd_end = self._odd_end or not ended(candidate["finishReason"], GEMINI)
            useful = True
        return useful

    def _huge(self, head: bytes, last: bytes) -> None:
        self.served = first_text(last, "modelVersion") or first_text(head, "modelVersion") or self.served
        self.usage = normal_usage(last_object(last, "usageMetadata")) or self.usage
        self._odd_end = True  # the end of one of several candidates may stand in what wasn't read
        if first_text(last, "finishReason") or first_text(head, "finishReason"):
            self._finished |= self._seen or {0}
            self.done = True


def _method(name: str, operation: str, *holders: tuple[str, ...], streams: bool = False) -> Endpoint:
    meter = GeminiMeter if streams else None
    key = f"models:{name}"
    return Endpoint(key, operation, Place.PATH, True, meter, holders=holders, prefix=_PREFIX, streams=streams)


_METHODS = {
    "generateContent": _method("generateContent", "generate_content", ()),
    "streamGenerateContent": _method("streamGenerateContent", "generate_content", (), streams=True),
    "countTokens": _method("countTokens", "other", (), ("generateContentRequest",)),
    "embedContent": _method("embedContent", "embeddings", ()),
    "batchEmbedContents": _method("batchEmbedContents", "embeddings", (), ("requests", "*")),
}
_GET_MODEL = Endpoint("models/get", place=Place.PATH, required=True)
_LIST = Endpoint("models", place=Place.LIST)
_CACHE = Endpoint("cachedContents", place=Place.JSON, required=True, prefix=_PREFIX)
_OTHER = Endpoint("gemini/other")
_VERSIONED = re.compile(r"/(?:upload/)?(v1beta|v1alpha|v1)/(.*)", re.DOTALL)


def route(method: str, path: str) -> tuple[Endpoint, str | None] | None:
    match = _VERSIONED.fullmatch(path)
    if match is None:
        return None
    method = "GET" if method == "HEAD" else method
    found = _route(method, match[2])
    if found is not None or match[1] == "v1":
        return found
    return _OTHER, None  # nobody else has these versions


def _route(method: str, bare: str) -> tuple[Endpoint, str | None] | None:
    if bare == "models" and method == "GET":
        return _LIST, None
    if bare == "cachedContents" and method == "POST":
        return _CACHE, None
    segment = bare.removeprefix(_PREFIX)
    if segment == bare or "/" in segment:
        return None
    name, colon, action = segment.rpartition(":")
    if method == "POST" and colon:
        return _METHODS.get(action) or _method(action, "other"), unquote(name)
    return (_GET_MODEL, unquote(segment)) if method == "GET" else None


def credential(secret: str) -> tuple[str, str]:
    return CREDENTIAL_HEADER, secret


_STATUS = {
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def refuse(refusal: Refusal, request_id: str) -> bytes:
    """google.rpc.Status in JSON (AIP-193). `error` stays the first key: google-genai looks for `{"error":`."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": refusal.code.value,
        "domain": "model-sidecar",
        "metadata": {"request_id": request_id},
    }
    status = _STATUS.get(refusal.status, "INVALID_ARGUMENT" if refusal.status < 500 else "INTERNAL")
    error = {"code": refusal.status, "message": refusal.message, "status": status, "details": [info]}
    return orjson.dumps({"error": error})


def refuse_in_stream(refusal: Refusal, request_id: str, endpoint: Endpoint) -> bytes:  # noqa: ARG001 - all alike
    return b"data: " + refuse(refusal, request_id) + b"\n\n"


def reading(endpoint: Endpoint, body: bytes) -> Reading:  # noqa: ARG001 - all alike
    """Without `alt=sse` a streamed answer is one array of chunks: the last usage counts."""
    usage, served = None, None
    if b'"modelVersion"' not in body and b'"usageMetadata"' not in body:
        return Reading(None, None)
    answer = None if body.startswith(b"[") else _read(body)
    if answer is not None:
        return Reading(normal_usage(answer.usageMetadata), text_of(answer.modelVersion))
    chunks = loads(body)
    for chunk in chunks if isinstance(chunks, list) else ():
        if isinstance(chunk, dict):
            usage = normal_usage(chunk.get("usageMetadata")) or usage
            served = text_of(chunk.get("modelVersion")) or served
    return Reading(usage, served)


def reading_ends(endpoint: Endpoint, head: bytes, last: bytes) -> Reading:  # noqa: ARG001 - all alike
    return reading_of_ends(head, last, normal_usage, usage="usageMetadata", served="modelVersion")


def models_page(models: Sequence[Listed], query: Mapping[str, str]) -> bytes:
    """`pageSize` (50, at most 1000 are given), `pageToken`: an offset. Raises RefusedError for others."""
    size, token = query.get("pageSize") or "50", query.get("pageToken") or "0"
    for value, key in ((size, "pageSize"), (token, "pageToken")):
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise bad_request(f"`{key}` is not valid")
    start, stop = int(token), int(token) + (min(int(size), 1000) or 50)
    entries = [
        {
            "name": f"models/{model.name}",
            "displayName": model.name,
            "version": "pinned",
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens", "embedContent"],
            "resolves_to": model.resolves_to,
        }
        for model in models[start:stop]
    ]
    page: dict[str, object] = {"models": entries}
    if stop < len(models):
        page["nextPageToken"] = str(stop)
    return orjson.dumps(page)
