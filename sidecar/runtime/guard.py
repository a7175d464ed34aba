"""Who may talk to a loopback listener? Nobody's browser.

Refuses a foreign Host (DNS rebinding), a foreign Origin and a cross-site fetch; nothing else, since SDKs on Node send
`Sec-Fetch-Mode` too. Only what RFC 9112 makes malformed is answered 400.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy

from sidecar.errors import Code, Refusal

_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


@lru_cache(64)
def host_of(value: str) -> str | None:
    """The host of a Host header or an authority, in lower case without brackets; None if it is malformed."""
    match = _HOST.fullmatch(value)
    return match["host"].strip("[]").rstrip(".").lower() if match else None


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """`localhost` and the loopback literals."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(headers: CIMultiDictProxy[str], allowed: frozenset[str]) -> Refusal | None:
    """Refusal for a request that comes from elsewhere than an app beside us. `allowed`: further host names."""
    hosts = headers.getall("Host", ())
    host = host_of(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        return Refusal(Code.BAD_REQUEST, "The request needs exactly one valid Host header.", close=True)
    # Anything but exactly `chunked` is read differently by different servers: an empty one, lists, two of them.
    if "Transfer-Encoding" in headers and _codings(headers) != ["chunked"]:
        return Refusal(Code.BAD_REQUEST, "This Transfer-Encoding is not served.", close=True)
    if not is_loopback(host) and host not in allowed:
        return Refusal(Code.FORBIDDEN, "This Host is not served here; add it to `allowed_hosts` if it should be.")
    origin = headers.get("Origin")
    if origin is not None and not _own_origin(origin, allowed):
        return Refusal(Code.FORBIDDEN, "Requests from this Origin are not served.")
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site.lower() == "cross-site":
        return Refusal(Code.FORBIDDEN, "Cross-site requests are not served.")
    return None


def _codings(headers: CIMultiDictProxy[str]) -> list[str]:
    return [coding.strip().lower() for coding in headers.getall("Transfer-Encoding")]


def _own_origin(origin: str, allowed: frozenset[str]) -> bool:
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        return False
    return host is not None and (is_loopback(host) or host in allowed)
