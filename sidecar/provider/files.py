"""OpenAI files and batches.

Keeps uploads in memory and reads, when a batch is made, which models its lines
name. Batches never run: they stay in progress until cancelled.
"""

from __future__ import annotations

from typing import Any

import orjson

from sidecar.provider.call import Answer, Call, Json, Refused, Whole, json_answer
from sidecar.provider.state import KeptFile, State


def upload(call: Call, state: State) -> Answer:
    """`POST /v1/files` (multipart)."""
    content = call.fields.get("file")
    if content is None:
        raise Refused(400, "'file' is a required property", param="file")
    info: Json = {
        "id": f"file-fake{call.number}",
        "object": "file",
        "bytes": len(content),
        "created_at": call.created_s,
        "filename": call.filenames.get("file", "upload"),
        "purpose": call.fields.get("purpose", b"user_data").decode("utf-8", "replace"),
        "status": "processed",
    }
    state.files.put(info["id"], KeptFile(info, content))
    return json_answer(info)


def list_files(_call: Call, state: State) -> Answer:
    """`GET /v1/files`."""
    return json_answer(_page([kept.info for kept in state.files]))


def retrieve_file(call: Call, state: State) -> Answer:
    """`GET /v1/files/{id}`."""
    return json_answer(_file(call.arguments[0], state).info)


def file_content(call: Call, state: State) -> Answer:
    """`GET /v1/files/{id}/content`: the bytes as uploaded."""
    return Whole(_file(call.arguments[0], state).content, content_type="application/octet-stream")


def delete_file(call: Call, state: State) -> Answer:
    """`DELETE /v1/files/{id}`."""
    _file(call.arguments[0], state)
    state.files.pop(call.arguments[0])
    return json_answer({"id": call.arguments[0], "object": "file", "deleted": True})


def create_batch(call: Call, state: State) -> Answer:
    """`POST /v1/batches`. `fake_models` lists the models that its input file names."""
    file_id = call.json.get("input_file_id")
    if not isinstance(file_id, str):
        raise Refused(400, "Missing required parameter: 'input_file_id'.", param="input_file_id")
    lines = [line for line in _file(file_id, state).content.splitlines() if line.strip()]
    models = sorted({_model_of(line) for line in lines})
    call.model = ",".join(models)
    batch: Json = {
        "id": f"batch_fake{call.number}",
        "object": "batch",
        "endpoint": call.json.get("endpoint"),
        "errors": None,
        "input_file_id": file_id,
        "completion_window": call.json.get("completion_window", "24h"),
        "status": "in_progress",
        "created_at": call.created_s,
        "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        "metadata": call.json.get("metadata"),
        "fake_models": models,
    }
    state.batches.put(batch["id"], batch)
    return json_answer(batch)


def retrieve_batch(call: Call, state: State) -> Answer:
    """`GET /v1/batches/{id}`."""
    return json_answer(_batch(call, state))


def cancel_batch(call: Call, state: State) -> Answer:
    """`POST /v1/batches/{id}/cancel`."""
    batch = _batch(call, state)
    batch["status"], batch["cancelling_at"] = "cancelling", call.created_s
    return json_answer(batch)


def list_batches(_call: Call, state: State) -> Answer:
    """`GET /v1/batches`."""
    return json_answer(_page(list(state.batches)))


def _file(file_id: str, state: State) -> KeptFile:
    kept = state.files.get(file_id)
    if kept is None:
        raise Refused(404, f"No such File object: {file_id}", param="id")
    return kept


def _batch(call: Call, state: State) -> Json:
    batch = state.batches.get(call.arguments[0])
    if batch is None:
        raise Refused(404, f"No batch found with id '{call.arguments[0]}'.")
    return batch


def _model_of(line: bytes) -> str:
    try:
        request: Any = orjson.loads(line)
        return str(request["body"]["model"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Refused(400, "The input file has a line that names no model.", code="invalid_json_line") from error


def _page(entries: list[Json]) -> Json:
    entries.reverse()
    return {
        "object": "list",
        "data": entries,
        "has_more": False,
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
    }
