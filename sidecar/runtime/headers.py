"""Which headers cross the proxy. Order, duplicates and the case of names are kept.

Hop-by-hop fields end here (RFC 9110 section 7.6.1), those that `Connection` names included; ours never reach a
provider, and a provider can't speak in our name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy, istr

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

_ACCEPT_ENCODING = istr("Accept-Encoding")
_CONNECTION = istr("Connection")
_NONE: frozenset[str] = frozenset()

_MOST_NAMES = 1024
_LONGEST_NAME = 64


class _Names(dict[bytes, istr | None]):
    """Each name as it was spelled on the wire → the name to send it by, None if it ends here.

    Worked out when it is first seen: the same few dozen names come with every request. When somebody sends thousands,
    it begins anew.
    """

    __slots__ = ("ends_here",)

    def __init__(self, ends_here: Callable[[str], bool]) -> None:
        super().__init__()
        self.ends_here = ends_here
        """Asked about a name in small letters."""

    def __missing__(self, raw: bytes) -> istr | None:
        name = raw.decode("ascii", "replace")
        sent = None if self.ends_here(name.lower()) else istr(name)
        if len(raw) <= _LONGEST_NAME:
            if len(self) >= _MOST_NAMES:
                self.clear()
            self[raw] = sent
        return sent


def _request_rule(*, drop_credentials: bool, replace_encoding: bool) -> Callable[[str], bool]:
    ending = _HOP_BY_HOP | _FRAMING | {_CAPABILITY}
    ending |= CREDENTIALS if drop_credentials else _NONE
    ending |= {"accept-encoding"} if replace_encoding else _NONE
    return lambda name: name in ending or name.startswith(_OURS)


_TO_PROVIDER = {
    (drop, replace): _Names(_request_rule(drop_credentials=drop, replace_encoding=replace))
    for drop in (False, True)
    for replace in (False, True)
}
# The length is decided by whoever writes the body.
_TO_CLIENT = _Names(lambda name: name in _HOP_BY_HOP or name == "content-length" or name.startswith(_OURS))


def to_provider(
    headers: CIMultiDictProxy[str], *, drop_credentials: bool, encoding: str | None, raw: RawHeaders = ()
) -> CIMultiDict[str]:
    """The caller's end-to-end headers. `encoding` replaces Accept-Encoding if given; framing is set by the client.

    `raw`: the same headers as bytes, for the spelling of their names.
    """
    out = _passing(headers, raw, _TO_PROVIDER[drop_credentials, encoding is not None])
    if encoding is not None:
        out.add(_ACCEPT_ENCODING, encoding)
    return out


def to_client(headers: CIMultiDictProxy[str], raw: RawHeaders = ()) -> CIMultiDict[str]:
    """The provider's end-to-end headers."""
    return _passing(headers, raw, _TO_CLIENT)


def _passing(headers: CIMultiDictProxy[str], raw: RawHeaders, names: _Names) -> CIMultiDict[str]:
    """Those of `headers` that `names` lets pass, with the sender's own spelling where `raw` tells it.

    aiohttp's parser writes well-known names in its own way.
    """
    named = _named_by_connection(headers) if _CONNECTION in headers else _NONE
    out: CIMultiDict[str] = CIMultiDict()
    if len(raw) != len(headers):
        for name, value in headers.items():
            low = name.lower()
            if not names.ends_here(low) and low not in named:
                out.add(name, value)
        return out
    for (raw_name, raw_value), value in zip(raw, headers.values(), strict=True):
        sent = names[raw_name]
        if sent is not None and not (named and sent.lower() in named):
            out.add(sent, value if value.isascii() else _in_utf8(value, raw_value))
    return out


def _named_by_connection(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    values = headers.getall(_CONNECTION, ())
    if values == ["keep-alive"]:  # what most say; it ends here anyway
        return _NONE
    return frozenset(token.strip().lower() for value in values for token in value.split(","))


def _in_utf8(value: str, raw_value: bytes) -> str:
    """A value that isn't plain ASCII, so that it can be sent.

    aiohttp's writer knows only UTF-8 and leaves out any other byte. A value with such bytes (RFC 9110 section 5.5,
    obs-text) is taken for the Latin-1 that it used to be, and sent as UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:  # an undecodable byte, which aiohttp holds as a lone surrogate
        return raw_value.decode("latin-1")
    return value


@lru_cache(64)  # clients' libraries send a handful
def meterable_encoding(accept: str | None) -> str | None:
    """The part of an Accept-Encoding whose answers we can read: gzip and deflate. None: leave the header alone."""
    if accept is None:
        return None
    wanted = [item.strip() for item in accept.split(",")]
    kept = [item for item in wanted if item.split(";")[0].strip().lower() in (*_METERABLE, "identity")]
    return accept if len(kept) == len(wanted) else ", ".join(kept) or "identity"


def is_encoded(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the body has a content coding, so that it can't be read as it is."""
    coding = headers.get("Content-Encoding")
    return coding is not None and coding.strip().lower() not in ("", "identity")
