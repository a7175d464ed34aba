"""Reading a JSON body, and finding the model in it.

Decided here: which bodies are refused (`sidecar_bad_request`, in words that never repeat the body), what counts as the
name that a body asks for, and which bytes change for it (DESIGN §2.1, §3.8):

* `model` alone: its value. `capability` beside `model`: the model's value, and the capability member goes with one
  comma and the white space before it. `capability` alone: its key and its value, where they stand. Neither, but the
  header `x-model-capability`: a member is put in first. The header beats `capability`, which beats `model`.
* `stream_options.include_usage`: put in where it says nothing; an explicit value stays.

Two members of one name are refused where the name decides something of ours: parsers disagree which of them counts
(RFC 8259 §4), so a provider might obey the one that we didn't pin. All other duplicates pass as they came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from sidecar.dialects.drafts import Edit
from sidecar.dialects.json_scan import MAX_DEPTH, Member, TooDeepError, check_depth, members, skip_blank
from sidecar.errors import bad_request

MAX_NAME = 256  # characters; no pin, alias or model id is as long

_NAMING = ("model", "capability")
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"


class _NotANumberError(ValueError):
    pass


def parse(body: bytes) -> Any:
    """The value of a JSON text, for reading only: numbers may have lost precision. Raises RefusedError.

    orjson refuses some texts that RFC 8259 allows (numbers beyond a double, lone surrogate escapes), and a provider
    may take them; so where it refuses, the standard library has the last word.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_slowly(body)
    refuse_depth(body)
    return value


def refuse_depth(body: bytes) -> None:
    """Raises RefusedError if brackets nest too deep."""
    try:
        check_depth(body)
    except TooDeepError:
        raise bad_request(f"the body is nested deeper than {MAX_DEPTH} levels") from None


def _parse_slowly(body: bytes) -> Any:
    if not body.strip(b" \t\r\n"):
        raise bad_request("the body is empty; a JSON object is expected")
    if body.startswith(_BOM):
        raise bad_request("the body begins with a byte order mark, which JSON doesn't allow (RFC 8259 §8.1)")
    refuse_depth(body)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise bad_request("the body is not valid UTF-8") from None
    try:
        # Python refuses integers of more than 4300 digits; as a float they can only become infinite.
        return json.loads(text, parse_int=_number, parse_constant=_constant)
    except _NotANumberError:
        raise bad_request("the body holds NaN or Infinity, which are not JSON") from None
    except json.JSONDecodeError as error:
        trailing = error.msg == "Extra data"
        raise bad_request(
            f"the body goes on after its JSON value, at character {error.pos}"
            if trailing
            else f"the body is not valid JSON, at character {error.pos}"
        ) from None
    except RecursionError:  # the interpreter's own limit, with a caller deep in its stack
        raise bad_request("the body is nested too deeply") from None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def _constant(_: str) -> Any:
    raise _NotANumberError


def check_name(value: Any, what: str = "model") -> str:
    """A name that a request asks for, or RefusedError: it goes into paths, headers and events."""
    if not isinstance(value, str):
        raise bad_request(f"`{what}` is not a string")
    if not value:
        raise bad_request(f"`{what}` is empty")
    if len(value) > MAX_NAME:
        raise bad_request(f"`{what}` is longer than {MAX_NAME} characters")
    if not value.isprintable() and _UNSPEAKABLE.search(value):
        raise bad_request(f"`{what}` has control characters or lone surrogates")
    return value


def only(found: Sequence[Member], key: str, where: str = "") -> Member | None:
    """The one member of that name, or None. Two of them are refused."""
    hits = [member for member in found if member.key == key]
    if len(hits) > 1:
        raise bad_request(f"the body has `{where}{key}` twice")
    return hits[0] if hits else None


def value_of(body: bytes, member: Member) -> Any:
    """The value of a member."""
    return parse_part(body[member.start : member.end])


def parse_part(raw: bytes) -> Any:
    """The value of a part of a body that was parsed as a whole before."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw, parse_int=_number)


class Asked(NamedTuple):
    """What an object asks for: the name, the edits that put its model in, whether header or capability decided."""

    name: str | None
    edits: list[Edit]
    by_capability: bool = False


def model_edits(
    body: bytes, at: int, *, header: str | None, required: bool, where: str = "", prefix: str = "", bare: bool = False
) -> Asked:
    """What the object at `at` asks for.

    `where` names the object in messages ("requests[3].params."). `prefix` (Gemini's `models/`) is no part of the name
    and stays where the body has it. `bare`: the model stands outside the body (in the path), so none is put in.
    """
    found = members(body, at, _NAMING)
    model = only(found, "model", where)
    capability = only(found, "capability", where)
    name, held = None, prefix
    if model is not None and (required or body[model.start : model.end] != b"null"):  # optional and null is absent
        name, held = _without_prefix(check_name(value_of(body, model), f"{where}model"), prefix)
    if capability is not None:
        name = check_name(value_of(body, capability), f"{where}capability")
    changed = header is not None or capability is not None
    name = header if header is not None else name
    if name is None:
        if required:
            raise bad_request(f"you must provide a `{where}model` parameter")
        return Asked(None, [])
    edits = []
    if model is not None:
        edits.append(Edit(model.start, model.end, name, prefix=held, keep=not changed))
    if capability is not None and (model is not None or bare):
        edits.append(removal(body, capability))
    elif capability is not None:
        edits.append(Edit(capability.key_start, capability.key_end, before=b'"model"'))
        edits.append(Edit(capability.start, capability.end, name, prefix=held, keep=False))
    elif model is None and not bare:
        edits.append(insertion(body, at, name, held))
    return Asked(name, edits, changed)


def _without_prefix(name: str, prefix: str) -> tuple[str, str]:
    if prefix and name.startswith(prefix) and len(name) > len(prefix):
        return name[len(prefix) :], prefix
    return name, ""


def insertion(body: bytes, at: int, name: str, prefix: str = "") -> Edit:
    """A `model` member, put first into the object at `at`."""
    return Edit(at + 1, at + 1, name, b'"model":', _comma(body, at), prefix=prefix, keep=False)


def _comma(body: bytes, at: int) -> bytes:
    """What separates a member put first into the object at `at` from what stands there."""
    end = skip_blank(body, at + 1)
    return b"" if body[end : end + 1] == b"}" else b","


def removal(body: bytes, member: Member) -> Edit:
    """Takes a member out with one comma and the white space before it."""
    start = member.key_start
    while body[start - 1] in b" \t\r\n":
        start -= 1
    if body[start - 1] == ord(","):
        return Edit(start - 1, member.end)
    end = skip_blank(body, member.end)  # it stands first: the comma, if there is one, is behind it
    return Edit(start, end + 1 if body[end] == ord(",") else member.end)


def usage_edit(body: bytes, at: int, *, said: bool) -> Edit | None:
    """What makes an OpenAI chat stream end with its usage, or None where the caller has said what it wants.

    `said`: the object at `at` has a member `stream_options`.
    """
    if not said:
        return Edit(at + 1, at + 1, before=b'"stream_options":{"include_usage":true}' + _comma(body, at))
    found = members(body, at, ("stream_options",))
    if len(found) > 1:
        return None  # which of them counts is the provider's secret
    options = found[0]
    if body[options.start : options.end] == b"null":
        return Edit(options.start, options.end, before=b'{"include_usage":true}')
    if body[options.start : options.start + 1] != b"{":
        return None
    usage = members(body, options.start, ("include_usage",))
    if not usage:
        before = b'"include_usage":true' + _comma(body, options.start)
        return Edit(options.start + 1, options.start + 1, before=before)
    if len(usage) == 1 and body[usage[0].start : usage[0].end] == b"null":
        return Edit(usage[0].start, usage[0].end, before=b"true")
    return None
