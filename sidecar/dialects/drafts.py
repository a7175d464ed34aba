"""A request that was read, and the few places in its bytes where a model may be put.

Decided here: how an edit is written, and that a name which stays the same keeps its bytes. Not decided here: where
the places are (`json_model`, `multipart`, `jsonl`, the dialects' paths).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from sidecar.core.facts import Ask
from sidecar.errors import bad_request


class Form(Enum):
    """How a model's id is written at its place."""

    JSON = auto()  # as a JSON string
    RAW = auto()  # as it is: the value of a form field
    QUOTED = auto()  # percent-encoded: a segment of a path, a value in a query


_JSON = Form.JSON


class Edit(NamedTuple):
    """The bytes from `start` to `end` become `before` + the id that `name` stands for + `after`.

    Without a `name` they become `before`. `keep` tells that they may stay as they are if the name isn't changed.
    """

    start: int
    end: int
    name: str | None = None
    before: bytes = b""
    after: bytes = b""
    form: Form = _JSON
    prefix: str = ""  # Gemini's `models/`, kept where the original has it
    keep: bool = True

    def moved(self, offset: int) -> Edit:
        """The same edit, of a text that begins at `offset` of the whole."""
        return self._replace(start=self.start + offset, end=self.end + offset)


def written(edit: Edit, model: str) -> bytes:
    """The bytes that stand for `model` at the place of `edit`. Raises RefusedError for an id that can't stand there."""
    if edit.form is _JSON:
        return _json_string(edit.prefix + model)
    if edit.form is Form.RAW:
        if any(ord(c) < 0x20 or c == "\x7f" for c in model):
            raise bad_request("the model's id has control characters and can't be put into a form field")
        return (edit.prefix + model).encode()
    return quoted(model).encode()


_MOST_IDS = 1024
"""Ids whose spelling is kept: more than most catalogues have."""


@lru_cache(_MOST_IDS)
def _json_string(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


@lru_cache(_MOST_IDS)
def quoted(model: str) -> str:
    """An id for one segment of a path (RFC 3986 §3.3), percent-encoded so that it stays one.

    A part that is `.` or `..` is refused rather than encoded: many servers resolve dots after decoding.
    """
    parts = model.replace("\\", "/").split("/")
    if not model or any(part in (".", "..") for part in parts) or any(ord(c) < 0x20 or c == "\x7f" for c in model):
        raise bad_request("the model's id can't be put into a path: it has dot segments or control characters")
    return quote(model, safe="@!$'()*,:")


def splice(original: bytes, edits: Sequence[Edit], models: Mapping[str, str]) -> bytes:
    """`original` with every edit applied; all other bytes as they came. A name that `models` lacks stays."""
    parts = []
    at = 0
    for edit in edits if len(edits) < 2 else sorted(edits, key=lambda e: (e.start, e.end)):
        if edit.name is not None:
            model = models.get(edit.name, edit.name)
            if edit.keep and model == edit.name:
                continue
            new = edit.before + written(edit, model) + edit.after
        else:
            new = edit.before
        parts.append(original[at : edit.start])
        parts.append(new)
        at = edit.end
    if not parts:
        return original
    parts.append(original[at:])
    return b"".join(parts)


@dataclass(slots=True, repr=False)  # it holds the prompt
class SplicedDraft:
    """The one kind of draft (`base.Draft`): original bytes plus edits, for the body and for the path."""

    ask: Ask
    names: Sequence[str]
    raw_path: str  # path and query as they came, without /{provider}
    raw_body: bytes
    path_edits: Sequence[Edit] = ()
    body_edits: Sequence[Edit] = ()
    usage_edit: Edit | None = None

    def path(self, models: Mapping[str, str]) -> str:
        if not self.path_edits:
            return self.raw_path
        return splice(self.raw_path.encode("ascii"), self.path_edits, models).decode("ascii")  # checked before

    def body(self, models: Mapping[str, str], *, add_usage: bool = False) -> bytes:
        edits = self.body_edits
        if add_usage and self.usage_edit is not None:
            edits = [*edits, self.usage_edit]
        return splice(self.raw_body, edits, models) if edits else self.raw_body
