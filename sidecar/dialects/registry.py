"""Where a request's path leads: the provider it names, its dialect, its endpoint. And where it goes upstream.

Decided here: how a dialect is told (DESIGN §3.2). A provider that the path names decides; else the path, where only
one dialect has such a path; else the headers; else it is OpenAI. Not decided here: which provider serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
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
    check_path(raw_path)
    check_query(raw_query)
    provider, raw = _provider(raw_path, providers)
    path = decoded_path(raw)
    if provider is not None:
        name = providers[provider]
        found = DIALECTS[name].route(method, path)
    else:
        name, found = _told(method, path, raw_query, headers)
    endpoint, model = found if found is not None else (UNKNOWN, None)
    check_slashes(path)
    if endpoint.place is Place.QUERY:
        model = next(iter(query_values(raw_query, "model")), None)
    return Route(name, endpoint, provider, raw, raw_query, model)


def _provider(raw_path: str, providers: Mapping[str, str]) -> tuple[str | None, str]:
    first, slash, rest = raw_path[1:].partition("/")
    name = unquote(first)
    return (name, slash + rest or "/") if name in providers else (None, raw_path)


def _told(
    method: str, path: str, raw_query: str, headers: Mapping[str, str]
) -> tuple[str, tuple[Endpoint, str | None] | None]:
    found = {name: hit for name, dialect in DIALECTS.items() if (hit := dialect.route(method, path)) is not None}
    if len(found) == 1:
        return next(iter(found.items()))
    name = _name_by_headers(headers)
    if name is None:
        name = "gemini" if query_values(raw_query, "key") else "openai"
    if found and name not in found:
        name = next(iter(found))  # the path fits others only
    return name, found.get(name)


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
