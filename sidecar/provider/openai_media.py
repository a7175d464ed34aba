"""OpenAI's endpoints around the language model: embeddings, moderations, images, audio, models.

Decides their JSON. Pictures and sound are placeholders of a few bytes.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from sidecar.provider import text, vectors
from sidecar.provider.call import Answer, Call, Json, Refused, Whole, json_answer
from sidecar.provider.openai_chat import require_model
from sidecar.provider.state import State

_PNG_BASE64: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_MP3: Final = base64.b64decode("//uQZAAAAAAAAAAAAAAAAAAAAAAAWGluZwAAAA8AAAABAAABIA==")
_CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def embeddings(call: Call, _state: State) -> Answer:
    """`POST /v1/embeddings`, as floats or base64."""
    require_model(call)
    size = text.cap_of(call.json.get("dimensions")) or vectors.USUAL_SIZE
    given = call.json.get("input")
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    as_text = call.json.get("encoding_format") == "base64"
    data: list[Json] = []
    for index, entry in enumerate(texts):
        values = vectors.vector(entry if isinstance(entry, str) else repr(entry), size)
        shown: Any = vectors.as_base64(values) if as_text else values
        data.append({"object": "embedding", "index": index, "embedding": shown})
    body: Json = {"object": "list", "data": data, "model": call.claimed_model}
    if call.fault.usage != "none":
        counts = text.usage(call.prompt_tokens, 0, call.fault.usage)
        body["usage"] = {"prompt_tokens": counts.prompt, "total_tokens": counts.total}
    return json_answer(body, call)


def moderations(call: Call, _state: State) -> Answer:
    """`POST /v1/moderations`; the model is optional, nothing is flagged, nothing is billed."""
    given = call.json.get("input")
    count = len(given) if isinstance(given, list) and all(isinstance(entry, str) for entry in given) else 1
    result: Json = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0),
        "category_applied_input_types": {category: ["text"] for category in _CATEGORIES},
    }
    model = call.claimed_model or "omni-moderation-latest"
    return json_answer({"id": f"modr-fake{call.number}", "model": model, "results": [result] * count})


def images(call: Call, _state: State) -> Answer:
    """`POST /v1/images/generations` (JSON) and `/v1/images/edits` (multipart)."""
    wanted = call.json.get("n") or call.fields.get("n", b"1").decode("latin-1")
    count = int(wanted) if str(wanted).isdigit() else 1
    body: Json = {"created": call.created_s, "data": [{"b64_json": _PNG_BASE64}] * count, "output_format": "png"}
    if call.fault.usage != "none":
        counts = text.usage(call.prompt_tokens, count, call.fault.usage)
        body["usage"] = {
            "input_tokens": counts.prompt,
            "output_tokens": counts.completion,
            "total_tokens": counts.total,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": counts.prompt},
        }
    return json_answer(body, call, count)


def transcriptions(call: Call, _state: State) -> Answer:
    """`POST /v1/audio/transcriptions` and `/v1/audio/translations` (multipart)."""
    require_model(call)
    if "file" not in call.fields:
        raise Refused(400, "file is a required property", param="file")
    reply = text.say(call.model, f"{len(call.fields['file'])} bytes of sound", pieces=call.wanted_pieces)
    if call.fields.get("response_format") in (b"text", b"srt", b"vtt"):
        said = reply.text.encode() + b"\n"
        return Whole(
            said,
            content_type="text/plain; charset=utf-8",
            prompt_tokens=call.prompt_tokens,
            completion_tokens=reply.tokens,
        )
    body: Json = {"text": reply.text}
    if call.fault.usage != "none":
        counts = text.usage(call.prompt_tokens, reply.tokens, call.fault.usage)
        body["usage"] = {
            "type": "tokens",
            "input_tokens": counts.prompt,
            "output_tokens": counts.completion,
            "total_tokens": counts.total,
        }
    return json_answer(body, call, reply.tokens)


def speech(call: Call, _state: State) -> Answer:
    """`POST /v1/audio/speech`: a few bytes of MP3 header."""
    require_model(call)
    return Whole(_MP3, content_type="audio/mpeg", prompt_tokens=call.prompt_tokens)


def list_models(_call: Call, state: State) -> Answer:
    """`GET /v1/models`."""
    return json_answer({"object": "list", "data": [_model(model) for model in state.openai_models]})


def retrieve_model(call: Call, _state: State) -> Answer:
    """`GET /v1/models/{id}`; any id is known."""
    return json_answer(_model(call.claimed_model))


def delete_model(call: Call, _state: State) -> Answer:
    """`DELETE /v1/models/{id}`; nothing is really deleted."""
    return json_answer({"id": call.claimed_model, "object": "model", "deleted": True})


def _model(model: str) -> Json:
    return {"id": model, "object": "model", "created": 1_767_225_600, "owned_by": "fake"}
