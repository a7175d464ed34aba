"""Raw paths: which are safe to pass on, how they are compared, where a model stands in them.

Decided here (reliability notes 26 and 27): a path begins with exactly one "/", has no empty segment, no `.` or `..`,
no backslash, no control character, whether plain or percent-encoded; an encoded slash may stand only inside a model.
So what a provider's server makes of a path can't differ from what we made of it.

Endpoints are told by the *decoded* path, or `/v1/%63hat/completions` would slip past the pins; the raw path is what
is passed on, except for a replaced model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from sidecar.dialects.base import Endpoint, Place
from sidecar.dialects.drafts import Edit, Form
from sidecar.errors import bad_request

_UNSAFE = re.compile(r"[^\x21-\x7e]|[\\#]")  # RFC 3986 §2: a URI is printable ASCII; a fragment is never sent
_UNSAFE_ENCODED = re.compile(r"%(?:[01][0-9a-f]|7f|5c)", re.IGNORECASE)
_UNSAFE_QUERY = re.compile(r"[^\x21-\x7e]|#")
_LINE_ENDS = re.compile(r"%0[0ad]", re.IGNORECASE)
_BROKEN_ENCODING = re.compile(r"%(?![0-9a-fA-F]{2})")
_KEPT = re.compile(r"%(2f|25)", re.IGNORECASE)
_COLON = re.compile(r"(?s)(.*)(:|%3[aA])")


def check_path(raw: str) -> None:
    """Raises RefusedError for a path that different servers may read differently."""
    if not raw.startswith("/"):
        raise bad_request("the request's target must be a path that begins with one slash")
    if _UNSAFE.search(raw) or _UNSAFE_ENCODED.search(raw) or _BROKEN_ENCODING.search(raw):
        raise bad_request("the path has control characters, backslashes, non-ASCII or broken percent-encoding")
    segments = raw[1:].split("/")
    if "" in segments[:-1]:
        raise bad_request("the path has an empty segment (`//`)")
    for segment in segments:
        decoded = unquote(segment)
        parts = decoded.split("/")
        if "." in parts or ".." in parts:
            raise bad_request("the path has a dot segment (`.` or `..`)")
        if _UNSAFE_ENCODED.search(decoded) or "%2e" in decoded.lower() or "%2f" in decoded.lower():
            raise bad_request("the path is percent-encoded twice")


def check_query(raw: str) -> None:
    """Raises RefusedError for a query that isn't plain ASCII (RFC 3986 §3.4)."""
    if _UNSAFE_QUERY.search(raw) or _LINE_ENDS.search(raw):
        raise bad_request("the query has control characters or non-ASCII")


def decoded_path(raw: str) -> str:
    """The path for comparison: percent-decoded but for encoded slashes and percents, without one trailing slash."""
    kept = _KEPT.sub(lambda m: "%25" + m[1], raw)
    path = unquote(kept)
    return path[:-1] if path.endswith("/") and len(path) > 1 else path


def check_slashes(decoded: str) -> None:
    """An encoded slash may stand only in the segment that names a model. Takes what `decoded_path` gives."""
    segments = decoded.split("/")
    for before, segment in zip(["", *segments], segments, strict=False):
        if "%2f" in segment.lower() and before != "models":
            raise bad_request("the path has an encoded slash outside of a model's name")


def lookup(table: Mapping[tuple[str, str], Endpoint], method: str, bare: str) -> tuple[Endpoint, str | None] | None:
    """The endpoint for a path without its version; "*" in the table stands for one segment, the second."""
    method = "GET" if method == "HEAD" else method
    endpoint = table.get((method, bare))
    if endpoint is not None:
        return endpoint, None
    first, _, rest = bare.partition("/")
    name, slash, rest = rest.partition("/")
    endpoint = table.get((method, f"{first}/*{slash}{rest}")) if name else None
    if endpoint is None:
        return None
    return endpoint, unquote(name) if endpoint.place is Place.PATH else None


def segment_edit(raw: str, name: str, *, method_follows: bool, keep: bool) -> Edit:
    """The edit of the segment behind `models/` in a raw path; with Gemini's `:method` behind the name."""
    path = raw.removesuffix("/")
    start = path.rfind("/") + 1
    end = len(path)
    if method_follows:
        match = _COLON.match(path, start)
        end = match.end(1) if match else end
    return Edit(start, end, name, form=Form.QUOTED, keep=keep)


def query_edit(raw: str, offset: int, key: str, name: str, *, keep: bool) -> Edit:
    """The edit of a value in a raw query that begins at `offset` of the whole; the key is put in if it's absent."""
    at = offset
    for item in raw.split("&") if raw else []:
        found, equals, _ = item.partition("=")
        if unquote(found.replace("+", " ")) == key:
            if not equals:
                return Edit(at + len(item), at + len(item), name, b"=", form=Form.QUOTED, keep=False)
            return Edit(at + len(found) + 1, at + len(item), name, form=Form.QUOTED, keep=keep)
        at += len(item) + 1
    end = offset + len(raw)
    before = b"&" if raw else b"?"
    return Edit(end, end, name, before + key.encode() + b"=", form=Form.QUOTED, keep=False)


def query_values(raw: str, key: str) -> list[str]:
    """The decoded values of a key in a raw query."""
    values = []
    for item in raw.split("&") if raw else []:
        found, _, value = item.partition("=")
        if unquote(found.replace("+", " ")) == key:
            values.append(unquote(value.replace("+", " ")))
    return values
