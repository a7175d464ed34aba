"""Models inside the frames of OpenAI's WebSockets: realtime, and Responses over a socket.

Decided here: which client frames name a model (`response.create`: at the top or in `response`; `session.update`: in
`session`), and which server frames tell usage. Frames of any other type pass as they are, unparsed where possible.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.core.facts import Usage
from sidecar.dialects.base import Reading
from sidecar.dialects.drafts import Edit, splice
from sidecar.dialects.json_model import model_edits, only, parse
from sidecar.dialects.json_scan import members, skip_blank
from sidecar.dialects.meters import loads, openai_usage, text_of

# Type of a client frame → the objects in it that may hold a model.
_HOLDERS: dict[str, tuple[str, ...]] = {"response.create": ("", "response"), "session.update": ("session",)}
_ENDS = frozenset({"response.completed", "response.done", "response.incomplete", "response.failed"})

Resolve = Callable[[str], str]


def rewrite_frame(frame: str | bytes, resolve: Resolve) -> str | bytes:
    """A client's frame with each model replaced by what `resolve` says. Raises RefusedError for a broken one.

    `resolve` is asked once for each name, in order, and may raise RefusedError.
    """
    body = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
    if b"response.create" not in body and b"session.update" not in body and b"\\u" not in body:
        return frame
    edits = _edits(body)
    if not edits:
        return frame
    models = {name: resolve(name) for name in dict.fromkeys(edit.name for edit in edits) if name is not None}
    new = splice(body, edits, models)
    return new.decode("utf-8", "surrogatepass") if isinstance(frame, str) else new


def _edits(body: bytes) -> list[Edit]:
    parsed = parse(body)
    if not isinstance(parsed, dict):
        return []
    at = skip_blank(body)
    only(members(body, at, ("type",)), "type")  # of two, the provider might obey the other one
    kind = parsed.get("type")
    holders = _HOLDERS.get(kind, ()) if isinstance(kind, str) else ()
    edits: list[Edit] = []
    for key in holders:
        start = at
        if key:
            member = only(members(body, at, (key,)), key)
            if member is None or body[member.start] != ord("{"):
                continue
            start = member.start
        edits += model_edits(body, start, header=None, required=False, where=f"{key}." if key else "").edits
    return edits


def frame_reading(frame: str | bytes) -> Reading | None:
    """Usage and served model of a server's frame that ends a response, None for any other frame."""
    raw = frame.encode("utf-8", "replace") if isinstance(frame, str) else frame
    if not any(end.encode() in raw[:4096] or end.encode() in raw[-4096:] for end in _ENDS):
        return None
    parsed = loads(raw)
    if not isinstance(parsed, dict) or parsed.get("type") not in _ENDS:
        return None
    response = parsed.get("response")
    if not isinstance(response, dict):
        return Reading(None, None)
    usage: Usage | None = openai_usage(response.get("usage"))
    return Reading(usage, text_of(response.get("model")))
