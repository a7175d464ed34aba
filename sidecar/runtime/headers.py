"""Which headers cross the proxy. Order, duplicates and the case of names are kept.

Hop-by-hop fields end here (RFC 9110 section 7.6.1), those that `Connection` names included; ours never reach a
provider, and a provider can't speak in our name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from multidict import CIMultiDict, CIMultiDictProxy

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_FRAMING = frozenset({"content-length", "expect", "host"})
_OURS = "x-sidecar-"
_CAPABILITY = "x-model-capability"
CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})

RawHeaders = Sequence[tuple[bytes, bytes]]

_METERABLE = ("gzip", "deflate")


def _named_by_connection(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    values = headers.getall("Connection", ())
    return frozenset(token.strip().lower() for value in values for token in value.split(",")) if values else frozenset()


def _as_sent(headers: CIMultiDictProxy[str], raw: RawHeaders) -> Iterator[tuple[str, str]]:
    """Names and values with the sender's own spelling: aiohttp's parser writes well-known names in its own way.

    Its writer knows only UTF-8 and leaves out any other byte. A value with such bytes (RFC 9110 section 5.5, obs-text)
    is taken for the Latin-1 that it used to be, and sent as UTF-8.
    """
    if len(raw) != len(headers):
        yield from headers.items()
        return
    for (name, raw_value), value in zip(raw, headers.values(), strict=True):
        try:
            value.encode()
        except UnicodeEncodeError:  # an undecodable byte, which aiohttp holds as a lone surrogate
            value = raw_value.decode("latin-1")  # noqa: PLW2901 - the rare case of one line
        yield name.decode("ascii", "replace"), value


def to_provider(
    headers: CIMultiDictProxy[str], *, drop_credentials: bool, encoding: str | None, raw: RawHeaders = ()
) -> CIMultiDict[str]:
    """The caller's end-to-end headers. `encoding` replaces Accept-Encoding if given; framing is set by the client.

    `raw`: the same headers as bytes, for the spelling of their names.
    """
    dropped = _named_by_connection(headers)
    out: CIMultiDict[str] = CIMultiDict()
    for name, value in _as_sent(headers, raw):
        low = name.lower()
        if low in _HOP_BY_HOP or low in _FRAMING or low in dropped or low.startswith(_OURS) or low == _CAPABILITY:
            continue
        if drop_credentials and low in CREDENTIALS:
            continue
        if encoding is not None and low == "accept-encoding":
            continue
        out.add(name, value)
    if encoding is not None:
        out.add("Accept-Encoding", encoding)
    return out


def to_client(headers: CIMultiDictProxy[str], raw: RawHeaders = ()) -> CIMultiDict[str]:
    """The provider's end-to-end headers; the length is decided by whoever writes the body."""
    dropped = _named_by_connection(headers)
    out: CIMultiDict[str] = CIMultiDict()
    for name, value in _as_sent(headers, raw):
        low = name.lower()
        if low in _HOP_BY_HOP or low == "content-length" or low in dropped or low.startswith(_OURS):
            continue
        out.add(name, value)
    return out


def meterable_encoding(accept: str | None) -> str | None:
    """The part of an Accept-Encoding whose answers we can read: gzip and deflate. None: leave the header alone."""
    if accept is None:
        return None
    wanted = [item.strip() for item in accept.split(",")]
    kept = [item for item in wanted if item.split(";")[0].strip().lower() in (*_METERABLE, "identity")]
    return accept if len(kept) == len(wanted) else ", ".join(kept) or "identity"


def is_encoded(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the body has a content coding, so that it can't be read as it is."""
    return headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")
