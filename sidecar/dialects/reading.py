"""The one entrance that reads a request: from a route, headers and a body to a draft (`base.Draft`).

Decided here: which reader a body gets (by the endpoint's place and the content type), which name wins (the header
`x-model-capability`, then the body's `capability`, then its `model`, then the path or the query), and what else is
learnt of a request (`facts.Ask`). Not decided here: what a name means, or whether the request may go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET

from sidecar.core.facts import Ask
from sidecar.dialects import jsonl, multipart, paths
from sidecar.dialects.base import FETCH, Endpoint, Place, Route
from sidecar.dialects.describe import choices, describe
from sidecar.dialects.drafts import Edit, SplicedDraft
from sidecar.dialects.identity import identity_of
from sidecar.dialects.json_model import check_name, model_edits, only, parse, usage_edit
from sidecar.dialects.json_scan import elements, members, skip_blank
from sidecar.dialects.prompts import prompt_of
from sidecar.dialects.top_level import hints, sole_model, top_level
from sidecar.errors import bad_request

CAPABILITY_HEADER = "x-model-capability"

_JSON = Place.JSON  # an enum's members are dear to look up
_CACHE = ("bypass", "refresh")
_BODY = ((),)
"""Of `Endpoint.holders`: the body itself holds the model."""


def is_form(content_type: str) -> bool:
    return content_type.lstrip()[:10].lower() == "multipart/"


def needs_body(route: Route, content_type: str) -> bool:
    """Whether the body must be read whole before the request can go on; otherwise it may stream through untouched."""
    place = route.endpoint.place
    if place is _JSON:
        return True
    match place:
        case Place.NESTED | Place.FORM:
            return True
        case Place.PATH:
            return route.endpoint.key.startswith("models:")
        case Place.UPLOAD:
            return is_form(content_type)
        case _:
            return False


def may_stream(route: Route, content_type: str, head: bytes) -> bool:
    """Whether an upload, of which `needs_body` said yes, turns out by its first bytes to be none of our business.

    SDKs send the `purpose` before the file (httpx writes plain fields first), so a large file for another purpose
    than `batch` needn't be held. False where the head doesn't tell yet.
    """
    if route.endpoint.place is not Place.UPLOAD:
        return False
    purpose = multipart.peek(head, content_type, "purpose")
    return purpose is not None and purpose != "batch"


def read(route: Route, headers: Mapping[str, str], body: bytes | None, *, content_type: str) -> SplicedDraft:
    """Reads a request. `body` is None where there is none, or where it needn't be read. Raises RefusedError."""
    endpoint = route.endpoint
    place = endpoint.place
    ask = _ask(route, headers, len(body or b""))
    draft = SplicedDraft(ask, (), f"{route.path}?{route.query}" if route.query else route.path, body or b"")
    header = headers.get(CAPABILITY_HEADER)
    if header is not None and place not in (Place.NONE, Place.LIST, Place.FRAMES):
        header = check_name(header, CAPABILITY_HEADER)
    form = is_form(content_type)
    if place is _JSON and not form:
        _read_json(draft, endpoint, header)
    else:
        _read_elsewhere(draft, route, content_type, header)
    if body and ask.generates and not form:
        ask.identity = identity_of(route, headers, draft)
        if route.dialect == "openai":
            ask.prompt = lambda: prompt_of(body)
    return draft


def _ask(route: Route, headers: Mapping[str, str], body_bytes: int) -> Ask:
    """What the route and the headers say."""
    endpoint = route.endpoint
    ask = Ask(route.dialect, endpoint.operation, provider=route.provider)
    ask.unit = headers.get("x-sidecar-unit") or headers.get("x-user-id") or None
    ask.stream = endpoint.streams
    ask.body_bytes = body_bytes
    ask.generates = endpoint.operation not in ("other", FETCH)
    ask.required = endpoint.required
    ask.task = headers.get("x-sidecar-task") or None
    if (said := headers.get("x-sidecar-fallback")) is not None:
        ask.no_fallback = _word(said) == "off"
    if (said := headers.get("x-sidecar-hedge")) is not None:
        ask.no_hedge = _word(said) == "off"
    if (said := headers.get("x-sidecar-cache")) is not None and _word(said) in _CACHE:
        ask.cache = _word(said)
    return ask


def _word(said: str) -> str:
    return said.strip().lower()


def _read_elsewhere(draft: SplicedDraft, route: Route, content_type: str, header: str | None) -> None:
    match route.endpoint.place:
        case Place.NONE | Place.LIST | Place.FRAMES:
            pass
        case Place.QUERY:
            _read_query(draft, route, header)
        case Place.PATH:
            _read_path(draft, route, header)
        case Place.UPLOAD:
            _read_upload(draft, content_type, header)
        case _ if is_form(content_type):
            _read_form(draft, route.endpoint, content_type, header)
        case _:
            _read_json(draft, route.endpoint, header)


def _read_query(draft: SplicedDraft, route: Route, header: str | None) -> None:
    values = paths.query_values(route.query, "model")
    if len(values) > 1:
        raise bad_request("the query has two `model` parameters")
    name = header if header is not None else (check_name(values[0]) if values else None)
    if name is None:
        return
    offset = len(route.path) + bool(route.query)
    draft.path_edits = [paths.query_edit(route.query, offset, "model", name, keep=header is None)]
    _named(draft, [name])


def _read_path(draft: SplicedDraft, route: Route, header: str | None) -> None:
    endpoint = route.endpoint
    name, changed = check_name(route.model), False
    names: list[str] = []
    body = draft.raw_body
    top = top_level(body) if body and endpoint.holders else None
    if top is not None:
        describe(draft.ask, endpoint, top, body, ordinary=not hints(body))
        if endpoint.holders != _BODY or top.model is not UNSET or top.capability is not UNSET:
            name, changed = _read_path_body(draft, endpoint, header, name, names)
    if header is not None:
        name, changed = header, True
    follows = endpoint.key.startswith("models:")
    draft.path_edits = [paths.segment_edit(route.path, name, method_follows=follows, keep=not changed)]
    _named(draft, [name, *names])


def _read_path_body(
    draft: SplicedDraft, endpoint: Endpoint, header: str | None, name: str, names: list[str]
) -> tuple[str, bool]:
    """The models that stand in the body as well: what it makes of the path's name, and whether that was changed."""
    changed = False
    edits: list[Edit] = []
    for at, where in _holders(draft.raw_body, skip_blank(draft.raw_body), endpoint.holders):
        asked = model_edits(
            draft.raw_body, at, header=header, required=False, where=where, prefix=endpoint.prefix, bare=True
        )
        edits += asked.edits
        if asked.by_capability and asked.name is not None and not where:
            name, changed = asked.name, True
        elif asked.name is not None:
            names.append(asked.name)
    draft.body_edits = edits
    return name, changed


def _read_upload(draft: SplicedDraft, content_type: str, header: str | None) -> None:
    """Lines of a batch are rewritten; files for any other purpose are nobody's business."""
    body = draft.raw_body
    if not body or not is_form(content_type):  # without a body: it streams through
        return
    found = multipart.parts(body, content_type)
    if multipart.text(body, multipart.only(found, "purpose")) != "batch":
        return
    file = multipart.only(found, "file")
    if file is None:
        return
    pairs = jsonl.line_edits(body, file.start, file.end, header=header)
    draft.body_edits = [edit for _, edit in pairs]
    _named(draft, [name for name, _ in pairs])


def _read_form(draft: SplicedDraft, endpoint: Endpoint, content_type: str, header: str | None) -> None:
    body = draft.raw_body
    found = multipart.parts(body, content_type)
    asked = multipart.model_edits(body, content_type, found, header=header, required=endpoint.required)
    draft.body_edits = asked.edits
    draft.ask.media_bytes = len(body)  # all but the file is a few words
    draft.ask.choices = choices(multipart.text(body, multipart.first(found, "n")))
    draft.ask.stream = multipart.text(body, multipart.first(found, "stream")) == "true"
    draft.ask.unit = draft.ask.unit or multipart.text(body, multipart.first(found, "user")) or None
    _named(draft, [asked.name])


def _read_json(draft: SplicedDraft, endpoint: Endpoint, header: str | None) -> None:
    body = draft.raw_body
    if not body and not endpoint.required and header is None:
        return
    top = top_level(body)
    if top is None:
        if endpoint.required or header is not None:
            kind = "an array" if isinstance(parse(body), list) else "no object"
            raise bad_request(f"the body is {kind}; a JSON object with a `model` is expected")
        return
    alone = None
    if isinstance(top.model, str) and top.capability is UNSET and endpoint.holders == _BODY and not endpoint.prefix:
        alone = sole_model(body)
    describe(draft.ask, endpoint, top, body, ordinary=alone is not None)
    if alone is not None:
        asked = check_name(top.model)
        name = draft.ask.name = asked if header is None else header
        draft.names = (name,)
        draft.body_edits = (Edit(*alone.span(1), name, keep=header is None),)
    else:
        _read_holders(draft, endpoint, header)
    if endpoint.key == "chat/completions" and draft.ask.stream:
        draft.usage_edit = usage_edit(body, skip_blank(body), said=top.stream_options is not UNSET)
        draft.ask.may_add_usage = draft.usage_edit is not None


def _read_holders(draft: SplicedDraft, endpoint: Endpoint, header: str | None) -> None:
    """Finds the models by walking the body's bytes: what stands anywhere, is spelled anyhow, and comes twice."""
    body = draft.raw_body
    names: list[str | None] = []
    edits: list[Edit] = []
    for holder, where in _holders(body, skip_blank(body), endpoint.holders):
        asked = model_edits(
            body, holder, header=header, required=endpoint.required, where=where, prefix=endpoint.prefix
        )
        edits += asked.edits
        names.append(asked.name)
    if endpoint.required and not names:
        raise bad_request(f"you must provide a `{'.'.join(endpoint.holders[0])}.model` parameter")
    draft.body_edits = edits
    _named(draft, names)


def _named(draft: SplicedDraft, names: Sequence[str | None]) -> None:
    draft.names = tuple(dict.fromkeys(name for name in names if name is not None))
    draft.ask.name = draft.names[0] if draft.names else None


def _holders(body: bytes, at: int, places: tuple[tuple[str, ...], ...]) -> Iterator[tuple[int, str]]:
    """The objects that may hold a `model`, and their names for messages."""
    for steps in places:
        yield from _walk(body, at, steps, "")


def _walk(body: bytes, at: int, steps: tuple[str, ...], where: str) -> Iterator[tuple[int, str]]:
    if not steps:
        if body[at] == ord("{"):
            yield at, where
    elif steps[0] == "*":
        if body[at] == ord("["):
            for index, (start, _) in enumerate(elements(body, at)):
                yield from _walk(body, start, steps[1:], f"{where[:-1]}[{index}].")
    elif body[at] == ord("{"):
        member = only(members(body, at, steps[:1]), steps[0], where)
        if member is not None:
            yield from _walk(body, member.start, steps[1:], f"{where}{steps[0]}.")
