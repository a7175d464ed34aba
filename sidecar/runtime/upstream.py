"""One attempt's way to a provider: the URL, the headers, the connection, and what each failure means.

URLs are built from a configured origin and a checked path, never from anything else in a request. Redirects are not
followed, cookies are not kept, nothing is inflated, no header is added.
"""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from sidecar.core.facts import Fault
from sidecar.dialects import registry
from sidecar.dialects.base import Dialect
from sidecar.runtime import headers as header_rules
from sidecar.runtime.connector import DIAL, Dial, GuardedConnector, HandshakeResponse
from sidecar.runtime.exchange import Incoming, Origin, exchange
from sidecar.settings.static import Provider, Settings
from sidecar.state.credentials import Credentials

LARGE_BODY = 1024 * 1024
PIECE = 64 * 1024
STALE_S = 2.0
"""A kept connection that was dead shows it within a round trip. What ends later had been read, and may be billed."""
SOCKET_KEY = "openai-insecure-api-key."
"""A WebSocket's subprotocol by which OpenAI takes a key from browsers: a credential like any other."""


class AttemptError(Exception):
    """An attempt that failed without a usable answer. `message` is ours and names no secret."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


class UpgradeRefusedError(Exception):
    """A provider's own answer to a WebSocket upgrade that it refused."""

    def __init__(
        self, status: int, headers: CIMultiDictProxy[str], raw_headers: header_rules.RawHeaders, body: bytes
    ) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.raw_headers = raw_headers
        self.body = body


@dataclass(slots=True, repr=False)  # it holds the caller's credentials
class Shipment:
    """What to send. `body` is bytes (can be sent again), an iterator (once), or None."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes | AsyncIterator[bytes] | None
    content_length: int | None
    encoding: str | None  # replaces the caller's Accept-Encoding, so that the answer can be metered
    traceparent: str | None = None
    raw_headers: header_rules.RawHeaders = ()


class Upstream:
    """The client side: one session, one guarded pool, one TLS context a provider."""

    def __init__(self, settings: Settings, credentials: Credentials, on_poisoned: Callable[[], None]) -> None:
        self._providers = settings.providers
        self._credentials = credentials
        self._proxies = {p.name: proxy_for(p) for p in settings.providers.values()}
        self._tls = {p.name: tls_for(p) for p in settings.providers.values()}
        self._connector = GuardedConnector(on_poisoned)
        self._session = aiohttp.ClientSession(  # for WebSockets; what goes by HTTP needs less (`exchange`)
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            response_class=HandshakeResponse,
        )
        # aiohttp would copy them, and lose duplicates whose names differ in case; ours are made for one request each.
        self._session._prepare_headers = _as_they_are  # type: ignore[method-assign]  # noqa: SLF001
        self._origins = {
            p.name: Origin(p.base_url, self._session, self._tls[p.name], self._proxies[p.name])
            for p in settings.providers.values()
        }

    async def close(self) -> None:
        await self._session.close()

    def url(self, provider: str, path: str, *, injected: bool) -> str:
        """Where a raw path leads at a provider; a `key=` in the query is a credential like any other."""
        if injected and "?" in path:
            path = without_key(path)
        return registry.upstream_url(self._providers[provider].base_url, path)

    def headers(self, provider: str, shipment: Shipment) -> CIMultiDict[str]:
        """The end-to-end headers of the caller, with our credential instead of its own where we have one."""
        injected = self._credentials.injects(provider)
        out = header_rules.to_provider(
            shipment.headers, drop_credentials=injected, encoding=shipment.encoding, raw=shipment.raw_headers
        )
        if injected:
            secret = self._credentials.secret(provider)
            if secret is None:
                raise AttemptError(Fault.REFUSED, f"The credential of provider {provider} cannot be read.")
            name, value = dialect_of(self._providers[provider]).credential(secret)
            out[name] = value
        if shipment.traceparent is not None:
            out["traceparent"] = shipment.traceparent
        return out

    async def send(self, provider: str, shipment: Shipment, dial: Dial, *, connect_s: float) -> Incoming:
        """The answer's head. Raises AttemptError with what the failure means, or lets a cancellation through."""
        origin, body = self._origins[provider], shipment.body
        length = len(body) if isinstance(body, bytes) else 0 if body is None else shipment.content_length
        begun = monotonic()
        try:
            url = self.url(provider, shipment.path, injected=self._credentials.injects(provider))
            head = origin.head_of(shipment.method, url, self.headers(provider, shipment), length)
            try:
                connection = await self._connector.obtain(origin.pattern, connect_timeout(connect_s), dial)
            except TimeoutError as exc:
                raise aiohttp.ConnectionTimeoutError from exc
            if isinstance(body, bytes) and len(body) > LARGE_BODY:
                body = in_pieces(body)
            incoming = await exchange(connection, shipment.method, head, body)
        except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, ValueError) as exc:
            unread = dial.reused and isinstance(shipment.body, bytes | None) and monotonic() - begun < STALE_S
            raise meaning(exc, provider, reused=unread) from exc
        if incoming.status < 200:  # an unasked 101, or no status at all
            incoming.close()
            raise AttemptError(Fault.BROKEN, f"Provider {provider} sent a status that is no answer.")
        return incoming

    async def dial_socket(
        self, provider: str, shipment: Shipment, *, max_bytes: int
    ) -> aiohttp.ClientWebSocketResponse:
        """An open WebSocket. Raises UpgradeRefusedError with the provider's answer, or AttemptError."""
        headers = self.headers(provider, shipment)
        for name in [n for n in headers if n.lower().startswith("sec-websocket-")]:
            headers.popall(name, None)
        offered = [p.strip() for p in shipment.headers.get("Sec-WebSocket-Protocol", "").split(",") if p.strip()]
        if self._credentials.injects(provider):
            offered = [p for p in offered if not p.startswith(SOCKET_KEY)]
        dial = Dial(fresh=True, socket=True)
        DIAL.set(dial)
        try:
            return await self._session.ws_connect(
                URL(self.url(provider, shipment.path, injected=self._credentials.injects(provider)), encoded=True),
                headers=headers,
                protocols=offered,
                ssl=self._tls[provider],
                proxy=self._proxies[provider],
                autoping=False,
                autoclose=False,
                max_msg_size=max_bytes,
            )
        except aiohttp.WSServerHandshakeError as exc:
            if exc.status == 101:
                raise AttemptError(Fault.BROKEN, f"Provider {provider} upgraded wrongly.") from exc
            refused = CIMultiDictProxy(CIMultiDict(exc.headers or {}))
            raise UpgradeRefusedError(exc.status, refused, dial.refusal_headers, dial.refusal) from exc
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            raise meaning(exc, provider, reused=False) from exc


@lru_cache(64)
def connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """A limit for connecting alone: the rest of a request has clocks of its own (`watch`)."""
    return aiohttp.ClientTimeout(total=None, connect=seconds)


def _as_they_are(headers: LooseHeaders | None) -> CIMultiDict[str]:
    return headers if isinstance(headers, CIMultiDict) else CIMultiDict(headers or {})


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """A large body in pieces, so that one write doesn't hold the loop."""
    view = memoryview(body)
    for start in range(0, len(body), PIECE):
        yield bytes(view[start : start + PIECE])


def meaning(exc: BaseException, provider: str, *, reused: bool) -> AttemptError:
    """What an exception of the client means. Texts of exceptions may hold anything, so none is repeated."""
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return AttemptError(Fault.TIMEOUT, f"Connecting to provider {provider} took too long.")
        case aiohttp.ClientConnectorDNSError():
            return AttemptError(Fault.CONNECT, f"The name of provider {provider} could not be resolved.")
        case aiohttp.ClientSSLError():
            return AttemptError(Fault.CONNECT, f"TLS to provider {provider} failed: {type(exc).__name__}.")
        case aiohttp.ClientConnectorError() | aiohttp.ClientProxyConnectionError():
            return AttemptError(Fault.CONNECT, f"Provider {provider} could not be reached.")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError() if reused:
            return AttemptError(Fault.STALE, f"Provider {provider} had closed the kept connection.")
        case TimeoutError():
            return AttemptError(Fault.TIMEOUT, f"Provider {provider} did not answer in time.")
        case aiohttp.ServerDisconnectedError() | OSError():
            return AttemptError(Fault.BROKEN, f"Provider {provider} closed the connection before it answered.")
        case aiohttp.ClientPayloadError():
            return AttemptError(Fault.BROKEN, f"Provider {provider}'s answer broke off.")
        case _:
            return AttemptError(Fault.BROKEN, f"Provider {provider} sent something that is not a valid answer.")


def dialect_of(provider: Provider) -> Dialect:
    return registry.DIALECTS[provider.dialect]


def without_key(path: str) -> str:
    """A path whose query has no `key`, everything else as it was."""
    bare, _, query = path.partition("?")
    kept = [item for item in query.split("&") if not _is_key(item)]
    return f"{bare}?{'&'.join(kept)}" if kept else bare


def _is_key(item: str) -> bool:
    pairs = parse_qsl(item, keep_blank_values=True)
    return bool(pairs) and pairs[0][0] == "key"


def proxy_for(provider: Provider) -> URL | None:
    """The egress proxy: by the environment (HTTPS_PROXY, NO_PROXY), by name, or none."""
    if provider.proxy == "none":
        return None
    if provider.proxy != "env":
        return URL(provider.proxy)
    parts = urlsplit(provider.base_url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    found = urllib.request.getproxies().get(parts.scheme)
    return URL(found) if found else None


def tls_for(provider: Provider) -> ssl.SSLContext | bool:
    """aiohttp's own verified context, or one with the provider's CA and client certificate."""
    tls = provider.tls
    if tls is None or not (tls.ca_file or tls.client_cert):
        return True
    context = ssl.create_default_context(cafile=tls.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls.client_cert:
        context.load_cert_chain(tls.client_cert, tls.client_key)
    return context
