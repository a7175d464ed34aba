"""What tells one request from another: everything that can change the answer except the model, as canonical bytes.

Decided here: which parts of a request count, and how they are written so that equal requests give equal bytes and
different ones never do. A difference that means nothing (1 and 1.0) may cost a miss; a false hit never happens.
Not decided here: whether an answer may be kept at all (`policies/cache`), or which model it belongs to.

Canonical is: object keys sorted, white space and string escapes gone, integers and all other numbers by their digits as
sent. Whole text of the body but the model, `capability`, and the members of `IGNORED`. A body with two members of one
name has no identity: parsers disagree which of them counts (RFC 8259 §4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sidecar.dialects.base import Place, Route
from sidecar.dialects.drafts import SplicedDraft
from sidecar.dialects.paths import query_values

VERSION = 1
"""Of this format: an identity of another version is another identity, where a cache outlives the process."""

IGNORED: Mapping[str, str] = {
    "metadata": "labels for the provider's own lists (OpenAI), an opaque user id for abuse checks (Anthropic)",
    "safety_identifier": "names the user for abuse checks (OpenAI)",
    "prompt_cache_key": "routes to a warm prompt cache (OpenAI): makes it cheaper, not different",
    "prompt_cache_retention": "how long the provider keeps the prompt's cache (OpenAI)",
}
"""Top-level members that can't change an answer, except where it repeats them: the Responses API does
(openai/types/responses/response.py), so there nothing is ignored.

Looked at and left in: `user` (Anthropic-style proxies and older servers answer by it, and it is how apps keep tenants
apart), `service_tier`, `prompt_cache_options`, `cache_control`, `inference_geo`, `stream_options` (the answer or its
stream shows them), `logprobs`, `include`, `moderation`, `diagnostics` (they ask for more in the answer).
"""

HEADERS: Mapping[str, str] = {
    "accept": "RFC 9110 §12.5: negotiates the answer's form",
    "accept-charset": "the same",
    "accept-encoding": "the same: a kept answer may be compressed",
    "accept-language": "the same",
    "origin": "Google's answers vary by it (`vary: origin, x-origin, referer`)",
    "x-origin": "the same",
    "referer": "the same",
    "prefer": "RFC 7240: asks for another treatment",
    "x-http-method-override": "Google and others obey it",
}
"""Header names that count, each with its reason. Credentials count too, but as a fingerprint."""

HEADER_SPACES: Mapping[str, str] = {
    "anthropic-": "version, beta features, workspace, user profile",
    "openai-": "beta features, organization, project",
    "x-goog-": "user project, field mask, request parameters",
    "azureml-": "the deployment that serves",
    "x-ms-": "Azure's options",
    "x-amz": "Amazon's options",
    "cf-aig-": "a gateway's own cache, retries, provider",
    "helicone-": "the same",
    "x-portkey-": "the same",
    "x-litellm-": "the same",
}
"""Name spaces of providers and of gateways that may stand before them: every header in them counts but `QUIET`."""

QUIET: Mapping[str, str] = {
    "x-goog-api-client": "names the SDK and its versions",
    "anthropic-dangerous-direct-browser-access": "lets a browser ask; the answer is the same",
    "x-ms-client-request-id": "a new id for each request",
    "x-amzn-trace-id": "a new id for each request",
}

_NAMING = frozenset({"model", "capability"})
CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")


@lru_cache(1024)
def counts(name: str) -> bool:
    """Whether a header (by its name in lower case) is a part of the identity, as itself or as a credential."""
    return name in HEADERS or name in CREDENTIALS or (name.startswith(tuple(HEADER_SPACES)) and name not in QUIET)


def varies_beyond(vary: Iterable[str]) -> bool:
    """Whether an answer depends on more than we tell requests apart by (RFC 9110 §12.5.5). `vary`: its header lines."""
    names = {name.strip().lower() for line in vary for name in line.split(",")} - {""}
    return not all(counts(name) for name in names)


_PLACES = (Place.JSON, Place.PATH)


def has_identity(route: Route, names: Sequence[str]) -> bool:
    """Whether a request of this kind, with a JSON object as its body, can have an identity.

    Not with several names in it: an answer would belong to several models.
    """
    return len(names) == 1 and route.endpoint.place in _PLACES


MOST_BYTES = 1024 * 1024
MOST_OBJECTS = 5000
"""Text of that size takes some 5 ms, so many objects as much again."""


def identity(route: Route, headers: Mapping[str, str], draft: SplicedDraft) -> bytes | None:
    """A request's identity, which costs about as much as parsing its body once more.

    None where there is none: duplicate members, numbers too long to compare, text that is no Unicode, or so many bytes
    or objects (braces in texts count as such) that working it out would hold up everybody else.
    """
    if len(draft.raw_body) > MOST_BYTES or draft.raw_body.count(b"{") > MOST_OBJECTS:
        return None
    body = canonical_body(draft.raw_body, _ignored(route))
    if body is None:
        return None
    path, _, query = draft.path(dict.fromkeys(draft.names, "model")).partition("?")
    known = [(name.lower(), value) for name, value in headers.items()]
    head = [
        VERSION,
        route.dialect,
        route.endpoint.key,  # method and path both stand in it
        route.provider,
        path,
        [item for item in query.split("&") if query_values(item, "key") == []],
        _by_name((name, value) for name, value in known if counts(name) and name not in CREDENTIALS),
        fingerprint(known, query_values(query, "key")),
    ]
    return json.dumps(head).encode("ascii") + body


def _ignored(route: Route) -> frozenset[str]:
    return _NAMING if route.endpoint.key.startswith("responses") else _NAMING | IGNORED.keys()


def _by_name(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sorted by name; among those of one name order may mean something (RFC 9110 §5.3), so it stays."""
    return sorted(headers, key=itemgetter(0))


def fingerprint(headers: Iterable[tuple[str, str]], keys: Sequence[str]) -> str:
    """SHA-256, in hex, of a caller's credentials, whichever way they came. `keys`: the values of `?key=`."""
    held = _by_name((name, value) for name, value in headers if name in CREDENTIALS)
    return hashlib.sha256(json.dumps([held, list(keys)]).encode("ascii")).hexdigest()


class _NoIdentityError(ValueError):
    pass


class _Number:
    """A number as it was spelled."""

    __slots__ = ("digits",)

    def __init__(self, digits: str) -> None:
        self.digits = digits


def canonical_body(body: bytes, without: frozenset[str] = frozenset()) -> bytes | None:
    """A JSON object in canonical form, without those of its own members; None if it has none.

    Numbers other than plain integers are written as `[NaN,"their digits"]`: NaN is no JSON, so nothing else is ever
    written so.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
        if not isinstance(value, dict):
            return None
        kept = {key: item for key, item in value.items() if key not in without}
        # ASCII only: a lone surrogate is written as its escape.
        text = _ENCODER.encode(kept)
    except (ValueError, RecursionError):  # a _NoIdentityError and a UnicodeDecodeError are ValueErrors
        return None
    return text.encode("ascii")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _NoIdentityError
    return value


def _integer(digits: str) -> int | _Number:
    return int(digits) if len(digits) < 20 and digits != "-0" else _Number(digits)


def _no_number(_: str) -> Any:
    raise _NoIdentityError


def _written(value: Any) -> Any:
    assert isinstance(value, _Number)
    return [float("nan"), value.digits]


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_Number, parse_constant=_no_number
)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_written)


def identity_of(route: Route, headers: Mapping[str, str], draft: SplicedDraft) -> Callable[[], bytes | None] | None:
    """What `Ask.identity` is for this request: no object, so that nobody can print what it holds."""
    return (lambda: identity(route, headers, draft)) if has_identity(route, draft.names) else None
