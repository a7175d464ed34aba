"""OpenAI's API and the many servers that speak it: endpoints, refusals, usage of whole answers, the list of models.

Decided here: where the model stands in each operation. Not decided here: what its streams mean (`openai_chat`,
`openai_responses`), what a whole body says (`reading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from sidecar.dialects.base import FETCH, Endpoint, Listed, Place, Reading
from sidecar.dialects.meters import openai_usage, read_answer, reading_of_ends, text_of
from sidecar.dialects.openai_chat import ChatMeter
from sidecar.dialects.openai_responses import TypedMeter, failure
from sidecar.dialects.paths import lookup
from sidecar.errors import Code, Refusal

NAME = "openai"
CREDENTIAL_HEADER = "authorization"

_RESPONSES = Endpoint("responses", "chat", Place.JSON, meter=TypedMeter)  # a stored prompt can name the model

# Paths without a leading /v1. "*" is one segment.
_ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "chat/completions"): Endpoint("chat/completions", "chat", Place.JSON, True, ChatMeter),
    ("POST", "completions"): Endpoint("completions", "text_completion", Place.JSON, True, ChatMeter),
    ("POST", "responses"): _RESPONSES,
    ("GET", "responses"): Endpoint("responses/socket", "chat", Place.FRAMES),
    ("POST", "responses/input_tokens"): Endpoint("responses/input_tokens", place=Place.JSON),
    ("POST", "responses/compact"): Endpoint("responses/compact", "chat", Place.JSON),
    ("GET", "responses/*"): Endpoint("responses/get", FETCH, meter=TypedMeter),
    ("DELETE", "responses/*"): Endpoint("responses/delete", FETCH),
    ("POST", "responses/*/cancel"): Endpoint("responses/cancel", FETCH),
    ("GET", "responses/*/input_items"): Endpoint("responses/input_items", FETCH),
    ("POST", "embeddings"): Endpoint("embeddings", "embeddings", Place.JSON, True),
    ("POST", "moderations"): Endpoint("moderations", "moderation", Place.JSON),
    ("POST", "images/generations"): Endpoint("images/generations", "image_generation", Place.JSON, meter=TypedMeter),
    ("POST", "images/edits"): Endpoint("images/edits", "image_generation", Place.FORM, meter=TypedMeter),
    ("POST", "images/variations"): Endpoint("images/variations", "image_generation", Place.FORM),
    ("POST", "audio/transcriptions"): Endpoint("audio/transcriptions", "transcription", Place.FORM, True, TypedMeter),
    ("POST", "audio/translations"): Endpoint("audio/translations", "transcription", Place.FORM, True),
    ("POST", "audio/speech"): Endpoint("audio/speech", "speech", Place.JSON, True, TypedMeter),
    ("GET", "models"): Endpoint("models", place=Place.LIST),
    ("GET", "models/*"): Endpoint("models/get", place=Place.PATH, required=True),
    ("DELETE", "models/*"): Endpoint("models/delete"),
    ("POST", "files"): Endpoint("files/upload", place=Place.UPLOAD),
    ("GET", "realtime"): Endpoint("realtime", "chat", Place.QUERY),
    ("POST", "realtime/sessions"): Endpoint("realtime/sessions", place=Place.JSON),
    ("POST", "realtime/client_secrets"): Endpoint(
        "realtime/client_secrets", place=Place.NESTED, holders=(("session",),)
    ),
    # Not rewritten, but known to be OpenAI's where another dialect has the same path.
    ("GET", "files"): Endpoint("files"),
    ("GET", "files/*"): Endpoint("files"),
    ("DELETE", "files/*"): Endpoint("files"),
    ("GET", "files/*/content"): Endpoint("files"),
}


def route(method: str, path: str) -> tuple[Endpoint, str | None] | None:
    return lookup(_ENDPOINTS, method, path.removeprefix("/").removeprefix("v1/"))


def credential(secret: str) -> tuple[str, str]:
    return CREDENTIAL_HEADER, f"Bearer {secret}"


def _error(refusal: Refusal) -> dict[str, object]:
    status = refusal.status
    kind = {403: "permission_error", 429: "rate_limit_error"}.get(status)
    if kind is None:
        kind = "invalid_request_error" if status < 500 else "server_error"
    param = "model" if refusal.code is Code.UNKNOWN_MODEL else None
    return {"message": refusal.message, "type": kind, "param": param, "code": refusal.code.value}


def refuse(refusal: Refusal, request_id: str) -> bytes:  # noqa: ARG001 - its id stands in a header only
    return orjson.dumps({"error": _error(refusal)})


def refuse_in_stream(refusal: Refusal, request_id: str, endpoint: Endpoint) -> bytes:
    if endpoint.key.startswith("responses"):
        return failure(refusal, request_id, _error(refusal))
    return b"data: " + refuse(refusal, request_id) + b"\n\n"


def reading(endpoint: Endpoint, body: bytes) -> Reading:  # noqa: ARG001 - all alike
    answer = read_answer(body) if b'"model"' in body or b'"usage"' in body else None
    if answer is None:
        return Reading(None, None)
    return Reading(openai_usage(answer.usage), text_of(answer.model))


def reading_ends(endpoint: Endpoint, head: bytes, last: bytes) -> Reading:  # noqa: ARG001 - all alike
    return reading_of_ends(head, last, openai_usage)


def models_page(models: Sequence[Listed], query: Mapping[str, str]) -> bytes:  # noqa: ARG001 - OpenAI doesn't page
    entries = [
        {
            "id": model.name,
            "object": "model",
            "created": model.created,
            "owned_by": model.provider,
            "resolves_to": model.resolves_to,
        }
        for model in models
    ]
    return orjson.dumps({"object": "list", "data": entries})
