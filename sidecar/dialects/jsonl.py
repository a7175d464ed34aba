"""The lines of an uploaded batch file (OpenAI's `purpose=batch`): a request a line, its model in `body.model`.

Decided here: what changes in such a file. Line ends, blank lines and a missing last line end stay as they came.
Not decided here: which uploads are batches (the form's `purpose` field, in `reading`).
"""

from __future__ import annotations

import re

from sidecar.dialects.drafts import Edit
from sidecar.dialects.json_model import model_edits, only, parse
from sidecar.dialects.json_scan import members, skip_blank
from sidecar.errors import Refusal, RefusedError, bad_request

_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r)|[^\r\n]+")  # a JSON string holds no raw line ends (RFC 8259 §7)


def line_edits(body: bytes, start: int, end: int, *, header: str | None) -> list[tuple[str, Edit]]:
    """The edits of each line between `start` and `end`, with the name that its line asks for."""
    found: list[tuple[str, Edit]] = []
    for number, line in enumerate(_LINE.finditer(body, start, end), 1):
        if line[0].strip(b" \t\r\n"):
            found += _of_line(line[0], line.start(), number, header)
    return found


def _of_line(line: bytes, offset: int, number: int, header: str | None) -> list[tuple[str, Edit]]:
    where = f"line {number}: "
    try:
        parsed = parse(line)
        if not isinstance(parsed, dict) or not isinstance(parsed.get("body"), dict):
            raise bad_request("a batch line must be a JSON object with a `body` object")
        request = only(members(line, skip_blank(line), ("body",)), "body")
        if request is None:
            return []
        asked = model_edits(line, request.start, header=header, required=True, where="body.")
    except RefusedError as error:
        raise RefusedError(Refusal(error.refusal.code, where + error.refusal.message)) from None
    return [(asked.name or "", edit.moved(offset)) for edit in asked.edits]
