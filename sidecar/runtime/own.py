"""The two things on the proxy port that are ours: the list of models, and feedback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import orjson

from sidecar.compose import Snapshot, resolve
from sidecar.core.facts import Ask, Exchange
from sidecar.dialects.base import Listed
from sidecar.errors import bad_request
from sidecar.runtime.body import read_whole
from sidecar.runtime.reply import Reply, json_reply
from sidecar.settings.pins import Model

if TYPE_CHECKING:
    from sidecar.runtime.call import Call
    from sidecar.runtime.shared import Shared

PREFIX = "/sidecar/"
FEEDBACK_PATH = f"{PREFIX}feedback"
_FEEDBACK_BYTES = 16 * 1024
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FEEDBACK_KEYS = frozenset({"request_id", "success", "quality_score", "task"})


def models(call: Call, shared: Shared) -> Reply:
    """`GET /v1/models`: the names that this caller may use, in its dialect and paging."""
    snapshot, route = call.snapshot, call.route
    assert snapshot is not None
    assert route is not None
    listed = names(snapshot, route.dialect, route.provider, int(shared.pinned.loaded_at or 0))
    page = call.dialect.models_page(listed, dict(parse_qsl(route.query)))
    call.status = 200
    return json_reply(200, page, call.says())


def names(snapshot: Snapshot, dialect: str, provider: str | None, created: int) -> list[Listed]:
    """Pins, aliases and catalogued ids of a dialect (and provider), in file order, each name once."""
    pins = snapshot.pins

    def fits(model: Model) -> bool:
        return model.dialect == dialect and (provider is None or model.provider == provider)

    found: dict[str, Listed] = {}
    for pin in pins.pins.values():
        model = pin.stable if pin.stable is not None else by_policy(snapshot, pin.name, dialect, provider)
        if model is not None and fits(model):
            found[pin.name] = Listed(pin.name, model.id, model.provider, created)
    for name, model in (*pins.aliases.items(), *((m.id, m) for m in pins.models.values())):
        if fits(model):
            found.setdefault(name, Listed(name, model.id, model.provider, created))
    return list(found.values())


def by_policy(snapshot: Snapshot, name: str, dialect: str, provider: str | None = None) -> Model | None:
    """The model that a policy pin means at this moment for requests in a dialect; None where nothing fits."""
    x = Exchange("models", Ask(dialect=dialect, name=name, provider=provider, required=True), 0.0)
    if resolve(snapshot, x) is not None:
        return None
    return snapshot.pins.models.get(x.targets[0].model or "")


async def feedback(call: Call, shared: Shared) -> Reply:
    """`POST /sidecar/feedback`: joins an outcome to a call. Answers 202 with whether the call is known."""
    request = call.request
    if request.method != "POST":
        return Reply(405, [("Allow", "POST"), *call.says()], body=b"")
    limits = shared.settings.limits
    body = await read_whole(request, call.held, limit=_FEEDBACK_BYTES, idle_s=limits.body_idle)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_request("The feedback is not valid JSON.") from None
    request_id, success, score, task = _checked(said)
    known = shared.state.recent.find(request_id, shared.now())
    shared.events.feedback(request_id=request_id, success=success, quality_score=score, task=task)
    shared.metrics.feedback(success)
    call.status = 202
    return json_reply(202, orjson.dumps({"request_id": request_id, "known": known is not None}), call.says())


def _checked(said: object) -> tuple[str, bool | None, float | None, str | None]:
    if not isinstance(said, dict) or not said.keys() <= _FEEDBACK_KEYS:
        raise bad_request(f"Feedback is an object with {', '.join(sorted(_FEEDBACK_KEYS))}.")
    request_id, success = said.get("request_id"), said.get("success")
    score, task = said.get("quality_score"), said.get("task")
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        raise bad_request("`request_id` must be the x-sidecar-request-id of a call.")
    if success is not None and not isinstance(success, bool):
        raise bad_request("`success` must be true, false or null.")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise bad_request("`quality_score` must be a number or null.")
    if task is not None and (not isinstance(task, str) or len(task) > 128):
        raise bad_request("`task` must be a text of at most 128 characters or null.")
    if success is None and score is None:
        raise bad_request("Feedback needs `success` or `quality_score`.")
    return request_id, success, score, task
