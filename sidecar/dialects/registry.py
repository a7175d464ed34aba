"""Where a request's path leads: the provider it names, its dialect, its endpoint. And where it goes upstream.

Decided here: how a dialect is told (DESIGN §3.2). A provider that the path names decides; else the path, where only
one dialect has such a path; else the headers; else it is OpenAI. Not decided here: which provider serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

from sidecar.dialects import anthropic, gemini, openai
from sidecar.dialects.base import Dialect, Endpoint, Place, Route
from sidecar.dialects.paths import check_path, check_query, check_slashes, decoded_path, query_values
from sidecar.dialects.reading import may_stream, needs_body, read

__all__ = ["DIALECTS", "UNKNOWN", "dialect_by_headers", "find", "may_stream", "needs_body", "read", "upstream_url"]

DIALECTS: Mapping[str, Dialect] = MappingProxyType({"openai": openai, "anthropic": anthropic, "gemini": gemini})
UNKNOWN = Endpoint("unknown")


def find(method: str, raw_path: str, raw_query: str, headers: Mapping[str, str], providers: Mapping[str, str]) -> Route:
    """The route of a request. `providers` are the names of the settings with their dialects. Raises RefusedError."""
    first = raw_path[1:].partition("/")[0]
    provider = unquote(first) if "%" in first else first
    look = _look if len(raw_path) <= _LONGEST_KNOWN else _look.__wrapped__
    found = look(method, raw_path, provider, providers[provider]) if provider in providers else look(method, raw_path)
    if raw_query:
        check_query(raw_query)
    name = found.dialect or _told(found.hits, raw_query, headers)
    endpoint, model = found.hits.get(name) or (UNKNOWN, None)
    if "%" in found.path:
        check_slashes(found.path)
    if endpoint.place is Place.QUERY:
        model = next(iter(query_values(raw_query, "model")), None)
    return Route(name, endpoint, found.provider, found.raw, raw_query, model)


class _Found(NamedTuple):
    """What a method and a path tell of themselves."""

    hits: Mapping[str, tuple[Endpoint, str | None]]  # dialect → its endpoint there, and the model in the path
    dialect: str | None  # where that is sure
    provider: str | None
    raw: str  # the path behind the provider
    path: str  # the same, decoded


_MOST_KNOWN = 1024
_LONGEST_KNOWN = 256  # characters


@lru_cache(_MOST_KNOWN)  # apps use a handful; queries are no part of it, since a key may stand in one
def _look(method: str, raw_path: str, provider: str | None = None, dialect: str | None = None) -> _Found:
    """`dialect` is that of `provider`, which the path begins with. Raises RefusedError."""
    check_path(raw_path)
    raw = raw_path
    if provider is not None:
        _, slash, rest = raw_path[1:].partition("/")
        raw = slash + rest or "/"
    path = decoded_path(raw)
    asked = DIALECTS if dialect is None else {dialect: DIALECTS[dialect]}
    hits = {name: hit for name, one in asked.items() if (hit := one.route(method, path)) is not None}
    return _Found(hits, dialect or (next(iter(hits)) if len(hits) == 1 else None), provider, raw, path)


def _told(hits: Mapping[str, tuple[Endpoint, str | None]], raw_query: str, headers: Mapping[str, str]) -> str:
    """The dialect where the path doesn't tell: by the headers, but one of those that have such a path."""
    name = _name_by_headers(headers)
    if name is None:
        name = "gemini" if query_values(raw_query, "key") else "openai"
    return next(iter(hits)) if hits and name not in hits else name


def dialect_by_headers(headers: Mapping[str, str]) -> Dialect:
    """The dialect that a refusal must speak where nothing but headers is known."""
    return DIALECTS[_name_by_headers(headers) or "openai"]


def _name_by_headers(headers: Mapping[str, str]) -> str | None:
    """Anthropic's SDKs always send their version; the key's header tells the others apart."""
    if "anthropic-version" in headers:
        return "anthropic"
    if "x-goog-api-key" in headers:
        return "gemini"
    if "x-api-key" in headers:
        return "anthropic"
    return None


def upstream_url(base_url: str, path: str) -> str:
    """The provider's base URL with a raw path (and query) appended; a second `/v1` is dropped (DESIGN §3.2)."""
    base = base_url.rstrip("/")
    if base.endswith("/v1"):
        first, slash, rest = path[1:].partition("/")
        if slash and unquote(first) == "v1":
            path = slash + rest
        elif unquote(first.partition("?")[0]) == "v1":
            path = first[len(first.partition("?")[0]) :]
    return base + path
