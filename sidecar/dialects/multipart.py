"""A multipart/form-data body held whole as bytes (RFC 7578), and the model in it.

Decided here: where the parts of a form stand, and which bytes change for the model; wherever its field stands, before
or after a file. Not decided here: which endpoints take a form. Every other byte stays: boundaries, headers, files.

Refused (`sidecar_bad_request`): no boundary, a form that doesn't end, two fields of one name that decides something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidecar.dialects.drafts import Edit, Form
from sidecar.dialects.json_model import Asked, check_name
from sidecar.errors import RefusedError, bad_request

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_HEAD = re.compile(rb"(?:[^\r\n]++\r?\n)*+\r?\n")  # header lines and the empty line
_DISPOSITION = re.compile(rb"(?:^|\r?\n)content-disposition[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)", re.IGNORECASE)
_NAME = re.compile(rb';[ \t\r\n]*name[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_FILE = re.compile(rb";[ \t\r\n]*filename\*?[ \t]*=", re.IGNORECASE)


class Part(NamedTuple):
    """One field: offsets of its whole part (from its boundary's line to the next) and of its content."""

    name: str
    file: bool
    part_start: int
    start: int
    end: int


def boundary(content_type: str) -> bytes:
    """The boundary that a content type names, quoted or not; RefusedError if there is none."""
    match = _BOUNDARY.search(content_type)
    value = (re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else match[2]) if match else ""
    if not 0 < len(value) <= 200 or not value.isascii():  # RFC 2046 §5.1.1 says 70; be generous
        raise bad_request("the multipart body's content type names no usable boundary")
    return value.encode()


def parts(body: bytes, content_type: str) -> list[Part]:
    """The form's parts, in order. Raises RefusedError if the form isn't whole."""
    return list(_each(body, content_type))


def peek(head: bytes, content_type: str, name: str) -> str | None:
    """The value of a plain field that is whole within the first bytes of a form, None if it isn't there yet."""
    try:
        for part in _each(head, content_type):
            if part.name == name:
                return text(head, part)
    except RefusedError:
        pass  # not whole: that is what a head is
    return None


def _each(body: bytes, content_type: str) -> Iterator[Part]:
    dash = b"--" + boundary(content_type)
    at = 0 if body.startswith(dash) else _line_with(body, dash, 0)[1]
    if at < 0:
        raise bad_request("the multipart body doesn't hold the boundary that its content type names")
    while True:
        line_end = body.find(b"\n", at)
        line = body[at + len(dash) : line_end if line_end >= 0 else len(body)].strip()
        if line == b"--":
            return
        if line or line_end < 0:
            raise bad_request("the multipart body has a broken boundary line")
        content_end, following = _line_with(body, dash, line_end)
        if following < 0:
            raise bad_request("the multipart body ends before its closing boundary")
        yield _part(body, at, line_end + 1, content_end)
        at = following


def _line_with(body: bytes, dash: bytes, at: int) -> tuple[int, int]:
    """The next line from `at` (a LF) that is a boundary: the end of what stands before it, and its own start."""
    hit = body.find(b"\n" + dash, at)
    while hit >= 0:
        after = body[hit + 1 + len(dash) : hit + 3 + len(dash)]
        if not after or after[:1] in b" \t\r\n" or after == b"--":
            return (hit - 1 if hit > at and body[hit - 1] == ord("\r") else hit), hit + 1
        hit = body.find(b"\n" + dash, hit + 1)  # a longer boundary's line: content
    return -1, -1


def _part(body: bytes, part_start: int, head_start: int, end: int) -> Part:
    head = _HEAD.match(body, head_start)
    if head is None or head.end() > end:
        raise bad_request("the multipart body has a part whose headers don't end")
    disposition = _DISPOSITION.search(head[0])
    name = _NAME.search(disposition[1]) if disposition else None
    text = (name[1] if name[1] is not None else name[2]).decode("utf-8", "replace") if name else ""
    is_file = bool(disposition and _FILE.search(disposition[1]))
    return Part(re.sub(r"\\(.)", r"\1", text), is_file, part_start, head.end(), end)


def only(found: Sequence[Part], name: str) -> Part | None:
    """The one part of that name, or None. Two of them are refused: servers disagree which counts."""
    hits = [part for part in found if part.name == name]
    if len(hits) > 1:
        raise bad_request(f"the form has two `{name}` fields")
    return hits[0] if hits else None


def first(found: Sequence[Part], name: str) -> Part | None:
    """The first part of that name."""
    return next((part for part in found if part.name == name), None)


def text(body: bytes, part: Part | None) -> str | None:
    """The value of a plain field as text, None for a file or no field."""
    if part is None or part.file:
        return None
    return body[part.start : part.end].decode("utf-8", "replace")


def model_edits(body: bytes, content_type: str, found: Sequence[Part], *, header: str | None, required: bool) -> Asked:
    """The name that the form asks for, and the edits that put its model in; like `json_model.model_edits`."""
    model, capability = only(found, "model"), only(found, "capability")
    name = None
    for part, what in ((model, "model"), (capability, "capability")):
        if part is not None:
            name = check_name(_utf8(body, part, what), what)
    changed = header is not None or capability is not None
    name = header if header is not None else name
    if name is None:
        if required:
            raise bad_request("you must provide a `model` field")
        return Asked(None, [])
    if model is not None:
        edits = [Edit(model.start, model.end, name, form=Form.RAW, keep=not changed)]
        if capability is not None:
            edits.append(Edit(capability.part_start, _next_start(body, capability, content_type)))
        return Asked(name, edits, changed)
    if capability is not None:
        head = b'content-disposition: form-data; name="model"\r\n\r\n'
        line_end = body.find(b"\n", capability.part_start) + 1
        edits = [
            Edit(line_end, capability.start, before=head),
            Edit(capability.start, capability.end, name, form=Form.RAW, keep=False),
        ]
        return Asked(name, edits, changed)
    dash = b"--" + boundary(content_type)
    first = 0 if body.startswith(dash) else _line_with(body, dash, 0)[1]
    head = dash + b'\r\ncontent-disposition: form-data; name="model"\r\n\r\n'
    return Asked(name, [Edit(first, first, name, head, b"\r\n", Form.RAW, keep=False)], changed)


def _next_start(body: bytes, part: Part, content_type: str) -> int:
    return _line_with(body, b"--" + boundary(content_type), part.end)[1]


def _utf8(body: bytes, part: Part, what: str) -> str:
    if part.file:
        raise bad_request(f"the form's `{what}` is a file")
    try:
        return body[part.start : part.end].decode("utf-8")
    except UnicodeDecodeError:
        raise bad_request(f"the form's `{what}` is not valid UTF-8") from None
