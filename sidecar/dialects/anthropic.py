"""Anthropic's Messages API: endpoints, stream meter, refusals, usage, the list of models.

Decided here: Anthropic's usage in our one meaning (its `input_tokens` leaves out what was read from and written to the
cache, so the three are added up), and that usage in a stream is cumulative: the last value of a field counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from msgspec import Struct

from sidecar.core.facts import Usage
from sidecar.dialects.alike import Alike
from sidecar.dialects.base import ERROR, PLAIN, USEFUL, Endpoint, Kind, Listed, Place, Reading
from sidecar.dialects.finished import ANTHROPIC, ended
from sidecar.dialects.meters import (
    BaseMeter,
    Counts,
    first_of,
    first_text,
    last_object,
    read_answer,
    reading_of_ends,
    text_of,
)
from sidecar.dialects.partial_json import reader
from sidecar.dialects.paths import lookup
from sidecar.dialects.sse import event_name, name_and_data
from sidecar.errors import Refusal, bad_request

NAME = "anthropic"
CREDENTIAL_HEADER = "x-api-key"

# The kinds of content block that a tool's call begins with; their arguments may be empty, so the start is useful.
_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_TEXTS = ("text", "thinking", "partial_json")
_EMPTY = (b"ping", b"content_block_stop")


def normal_usage(table: Any) -> Usage | None:
    """Usage of a message, in one meaning for all dialects."""
    if table is None:
        return None
    if not isinstance(table, dict):
        return Usage(odd=True)
    counts = Counts()
    read = counts.of(table.get("cache_read_input_tokens"))
    write = counts.of(table.get("cache_creation_input_tokens"))
    details = table.get("output_tokens_details")
    details = details if isinstance(details, dict) else {}
    usage = Usage(
        counts.must(table.get("input_tokens")) + read + write,
        counts.of(table.get("output_tokens")),
        read,
        write,
        counts.of(first_of(details, "reasoning_tokens", "thinking_tokens")),
    )
    usage.odd = counts.odd
    return usage


class _Event(Struct, gc=False):
    type: Any = None
    delta: Any = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    # of text completions
    completion: Any = None
    model: Any = None
    stop_reason: Any = None


_read = reader(_Event)


class MessagesMeter(BaseMeter):
    """Meters messages and the older complete. Complete at `message_stop`."""

    __slots__ = ("_alike", "_stopped", "_table")

    def __init__(self) -> None:
        super().__init__()
        self._table: dict[str, Any] = {}
        self._stopped = False  # a stop reason was seen
        self._alike = Alike()

    @property
    def normal(self) -> bool:
        return self.done and self._stopped and not self._odd_end

    def _whole(self, event: bytes) -> Kind:
        text = self._alike.text(event)
        if text is not None:
            self.deltas += 1
            self.text_bytes += len(text)
            return USEFUL
        name, raw = name_and_data(event)
        if name in _EMPTY:
            return PLAIN
        parsed = _read(raw)
        kind = parsed.type if parsed is not None else None
        if kind == "error" or name == b"error":
            self.done = self._odd_end = True
            return ERROR
        if parsed is None:
            return PLAIN
        useful = False
        match kind:
            case "content_block_delta":
                useful = self._delta(parsed.delta, event)
            case "content_block_start":
                block = parsed.content_block
                useful = isinstance(block, dict) and block.get("type") in _CALLS
            case "message_start":
                self._start(parsed.message)
            case "message_delta":
                self._merge(parsed.usage)
                useful = isinstance(parsed.delta, dict) and bool(parsed.delta.get("stop_reason"))
                self._stop(parsed.delta)
            case "message_stop":
                self.done = True
            case "completion":
                useful = self._completion(parsed)
            case _:
                pass  # a newer kind of event: passed on, not understood
        return USEFUL if useful else PLAIN

    def _stop(self, delta: Any) -> None:
        if isinstance(delta, dict):
            self._stop_reason(delta.get("stop_reason"))

    def _stop_reason(self, reason: Any) -> None:
        if reason is not None:
            self._stopped = True
            self._odd_end = self._odd_end or not ended(reason, ANTHROPIC)

    def _start(self, message: Any) -> None:
        if isinstance(message, dict):
            self.served = text_of(message.get("model")) or self.served
            self._merge(message.get("usage"))

    def _merge(self, table: Any) -> None:
        if isinstance(table, dict):
            self._table |= {key: value for key, value in table.items() if value is not None}
            self.usage = normal_usage(self._table)
        elif table is not None:
            self.usage = self.usage or Usage()
            self.usage.odd = True

    def _delta(self, delta: Any, event: bytes) -> bool:
        if not isinstance(delta, dict):
            return False
        for key in _TEXTS:
            if text := text_of(delta.get(key)):
                self._count(text)
                if self._alike.may_learn:
                    self._alike.learn(event, key, text, None)
                return True
        if delta.get("signature") or delta.get("citation"):
            self._count("")
            return True
        return False  # the first input_json_delta is often empty

    def _completion(self, event: _Event) -> bool:
        """The text completions of old: one event type, ended by a stop reason."""
        self.served = text_of(event.model) or self.served
        if text := text_of(event.completion):
            self._count(text)
        self._stop_reason(event.stop_reason)
        self.done = self.done or event.stop_reason is not None
        return bool(event.completion or event.stop_reason)

    def _huge_is_content(self, head: bytes) -> bool:
        return event_name(head) != b"message_start"

    def _huge(self, head: bytes, last: bytes) -> None:
        if event_name(head) in (b"message_start", b"message_delta"):
            self.served = first_text(head, "model") or self.served
            self._merge(last_object(last, "usage"))
            self._odd_end = True  # its stop reason may stand in what wasn't read


_MESSAGES = Endpoint("messages", "chat", Place.JSON, True, MessagesMeter)
# Paths without a leading /v1.
_ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "messages"): _MESSAGES,
    ("POST", "messages/count_tokens"): Endpoint("messages/count_tokens", place=Place.JSON, required=True),
    ("POST", "messages/batches"): Endpoint(
        "messages/batches", place=Place.NESTED, required=True, holders=(("requests", "*", "params"),)
    ),
    ("POST", "complete"): Endpoint("complete", "text_completion", Place.JSON, True, MessagesMeter),
    ("GET", "models"): Endpoint("models", place=Place.LIST),
    ("GET", "models/*"): Endpoint("models/get", place=Place.PATH, required=True),
    # Not rewritten, but known to be Anthropic's where OpenAI has the same path.
    ("POST", "files"): Endpoint("files"),
    ("GET", "files"): Endpoint("files"),
    ("GET", "files/*"): Endpoint("files"),
    ("DELETE", "files/*"): Endpoint("files"),
    ("GET", "files/*/content"): Endpoint("files"),
}
_OTHER = Endpoint("messages/other")  # fetching, cancelling: nobody else has paths under messages/


def route(method: str, path: str) -> tuple[Endpoint, str | None] | None:
    bare = path.removeprefix("/").removeprefix("v1/")
    found = lookup(_ENDPOINTS, method, bare)
    return (_OTHER, None) if found is None and bare.startswith("messages/") else found


def credential(secret: str) -> tuple[str, str]:
    return CREDENTIAL_HEADER, secret


_TYPES = {
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def refuse(refusal: Refusal, request_id: str) -> bytes:
    kind = _TYPES.get(refusal.status) or ("invalid_request_error" if refusal.status < 500 else "api_error")
    error = {"type": kind, "message": refusal.message}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


def refuse_in_stream(refusal: Refusal, request_id: str, endpoint: Endpoint) -> bytes:  # noqa: ARG001 - all alike
    return b"event: error\ndata: " + refuse(refusal, request_id) + b"\n\n"


def reading(endpoint: Endpoint, body: bytes) -> Reading:  # noqa: ARG001 - all alike
    answer = read_answer(body)
    if answer is None:
        return Reading(None, None)
    return Reading(normal_usage(answer.usage), text_of(answer.model))


def reading_ends(endpoint: Endpoint, head: bytes, last: bytes) -> Reading:  # noqa: ARG001 - all alike
    return reading_of_ends(head, last, normal_usage)


def models_page(models: Sequence[Listed], query: Mapping[str, str]) -> bytes:
    """Anthropic's cursors: `after_id` or `before_id`, `limit` 1 to 1000 (20). Raises RefusedError for others."""
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= 1000):
        raise bad_request("`limit` must be a number from 1 to 1000")
    names = [model.name for model in models]
    start, stop = 0, len(names)
    for cursor in ("after_id", "before_id"):
        if cursor in query and query[cursor] not in names:
            raise bad_request(f"`{cursor}` is not the id of a model in this list")
    if "after_id" in query:
        start = names.index(query["after_id"]) + 1
    if "before_id" in query:
        stop = names.index(query["before_id"])
    backwards = "before_id" in query and "after_id" not in query
    page = list(models[start:stop])
    page, more = (page[-int(limit) :] if backwards else page[: int(limit)]), len(page) > int(limit)
    entries = [
        {
            "type": "model",
            "id": model.name,
            "display_name": model.name,
            "lifecycle": "active",  # whether it may be called: it stands in the pin file
            "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "resolves_to": model.resolves_to,
        }
        for model in page
    ]
    first, last = (entries[0]["id"], entries[-1]["id"]) if entries else (None, None)
    return orjson.dumps({"data": entries, "has_more": more, "first_id": first, "last_id": last})
