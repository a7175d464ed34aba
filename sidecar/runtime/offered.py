"""Which models do providers offer now? Asks each one's model list, by the same road as an app's calls.

Decides: what to ask, within which bounds, and what an answer proves: a model is there, is missing, or can't be told.
Does not decide: which models matter, how it is said, or whether it is a failure (`offline/live.py`).
Texts of answers are never repeated, but for ids that are plain ASCII; no key is ever in a result.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar import __version__
from sidecar.core.facts import Fault
from sidecar.runtime.connector import Dial
from sidecar.runtime.exchange import Incoming
from sidecar.runtime.secrets import Secrets
from sidecar.runtime.upstream import AttemptError, Shipment, Upstream, meaning
from sidecar.settings.problems import nearest
from sidecar.settings.static import Provider, Settings
from sidecar.state.credentials import Credentials

USUAL_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
}
"""The variables that each dialect's own SDK reads, in its order."""

_ASKS: Final[Mapping[str, tuple[str, ...]]] = {
    # A base URL of the OpenAI dialect ends in its version (`/v1`) or, where apps send `/v1/…` themselves, does not.
    "openai": ("/models", "/v1/models"),
    "anthropic": ("/v1/models?limit=1000",),
    "gemini": ("/v1beta/models?pageSize=1000",),
}
_HEADERS: Final[Mapping[str, Mapping[str, str]]] = {"anthropic": {"anthropic-version": "2023-06-01"}}
_DEPLOYMENTS: Final = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
"""Hosts where `model` is the name of a deployment, while the list has the models that could be deployed."""
_RETIRES: Final = ("shutdown_date", "deprecation", "expiration_date")
"""Fields of a listed model that tell its last day: OpenAI's, Mistral's and Azure's, OpenRouter's."""

_NOT_FOUND: Final = (404, 410)
_NO_LOOKUP: Final = (400, 405, 422, 501)
_PLAIN: Final = re.compile(r"[!-~]{1,256}")

State = Literal["there", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one provider's questions, whatever it does."""

    connect_s: float = 5.0
    request_s: float = 15.0
    total_s: float = 60.0
    pages: int = 50
    page_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """What is known of one model. `id` is what the provider itself calls it, None unless it is there.

    `near` are listed ids like it; `why` tells what stood in the way where the state is unknown.
    """

    provider: str
    model: str
    state: State
    id: str | None = None
    retires: date | None = None
    near: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One provider's part. `listed` counts the models of its list; `key` names where the credential came from."""

    provider: str
    listed: int
    key: str | None
    offers: tuple[Offer, ...]


@dataclass(slots=True)
class _List:
    """What was read of a list. `spoke`: there was at least one page; `whole`: and the last one, too."""

    models: dict[str, _Listed] = field(default_factory=dict)
    stem: str = ""
    spoke: bool = False
    whole: bool = False
    trouble: str = ""
    hopeless: bool = False  # asking for one model would meet the same trouble


@dataclass(frozen=True, slots=True)
class _Listed:
    id: str
    retires: date | None


class _TroubleError(Exception):
    """An answer that says nothing about any model. `hopeless`: the next question would end alike."""

    def __init__(self, why: str, *, hopeless: bool) -> None:
        super().__init__(why)
        self.why = why
        self.hopeless = hopeless


def ask(settings: Settings, wanted: Mapping[str, Collection[str]], limits: Limits | None = None) -> list[Asked]:
    """What each provider of `wanted` (provider → model ids) says. Never raises for what a provider does."""
    return asyncio.run(_ask(settings, wanted, limits or Limits()))


async def _ask(settings: Settings, wanted: Mapping[str, Collection[str]], limits: Limits) -> list[Asked]:
    # Its trouble is told per model, so its lines for a running sidecar's log would only be read twice.
    logging.getLogger("sidecar.credentials").addHandler(logging.NullHandler())
    jobs = [_provider(settings, settings.providers[name], ids, limits) for name, ids in wanted.items()]
    return list(await asyncio.gather(*jobs))


async def _provider(settings: Settings, provider: Provider, ids: Collection[str], limits: Limits) -> Asked:
    credentials = Credentials()
    key = _load_key(provider, credentials)
    if provider.has_key and key is None:
        source = provider.api_key_env or f"the file {provider.api_key_file}"
        return _none(provider, ids, None, f"no key: {source} holds none")
    try:
        # Alone: files that are wrong (`tls`) concern only the provider that names them.
        alone = replace(settings, providers={provider.name: provider})
        upstream = Upstream(alone, credentials, on_poisoned=lambda: None)
    except (OSError, ValueError):
        return _none(provider, ids, key, "its TLS files cannot be used")
    asker = _Asker(upstream, provider, key, limits)
    try:
        return await asker.run(ids)
    finally:
        await upstream.close()


def _none(provider: Provider, ids: Collection[str], key: str | None, why: str) -> Asked:
    return Asked(provider.name, 0, key, tuple(Offer(provider.name, one, "unknown", why=why) for one in ids))


def _load_key(provider: Provider, credentials: Credentials) -> str | None:
    """Fills in the credential, and names its source.

    The SDK's variable serves for its dialect's default provider only: any other never sees an app's key either.
    """
    own = provider.api_key_env or str(provider.api_key_file)
    sources = [(own, provider)] if provider.has_key else []
    if provider.default:
        usual = [name for name in USUAL_KEYS[provider.dialect] if os.environ.get(name)]
        sources += [(name, replace(provider, api_key_env=name, api_key_file=None)) for name in usual]
    for name, source in sources:
        Secrets({provider.name: source}, credentials).look()
        if credentials.secret(provider.name) is not None:
            return name
    return None


class _Asker:
    """The questions to one provider, one after the other."""

    def __init__(self, upstream: Upstream, provider: Provider, key: str | None, limits: Limits) -> None:
        self._upstream = upstream
        self._provider = provider
        self._key = key
        self._limits = limits
        self._list = _List()

    async def run(self, ids: Collection[str]) -> Asked:
        offers: dict[str, Offer] = {}
        try:
            async with asyncio.timeout(self._limits.total_s):
                await self._read_list()
                for one in ids:
                    offers[one] = await self._offer(one)
        except TimeoutError:
            why = f"its answers took more than {self._limits.total_s:g} s in all"
            for one in ids:
                offers.setdefault(one, self._listed(one) or self._unknown(one, why))
        return Asked(self._provider.name, len(self._list.models), self._key, tuple(offers[one] for one in ids))

    async def _read_list(self) -> None:
        """The first of the usual paths that is a list; the trouble of the last if none is."""
        for path in _ASKS[self._provider.dialect]:
            self._list.stem = path.partition("?")[0]
            try:
                await self._read_pages(path)
            except _TroubleError as error:
                self._list.trouble, self._list.hopeless = error.why, error.hopeless
            if self._list.spoke or self._list.hopeless:
                return

    async def _read_pages(self, first: str) -> None:
        found, path, seen = self._list, first, {""}
        for _ in range(self._limits.pages):
            status, page = await self._get(path)
            entries = page.get("models" if self._provider.dialect == "gemini" else "data")
            if status != 200 or not isinstance(entries, list):
                says = f"answered {status}" if status != 200 else "sent something that is no list of models"
                raise _TroubleError(f"the provider does not list its models: it {says}", hopeless=False)
            found.spoke = True
            for entry in entries:
                if (listed := _read(entry)) is not None:
                    found.models[listed.id] = listed
            cursor = _cursor(page, self._provider.dialect)
            if cursor is None:
                found.whole = True
                return
            if cursor in seen:
                break
            seen.add(cursor)
            name = "pageToken" if self._provider.dialect == "gemini" else "after_id"
            path = f"{first}&{name}={quote(cursor, safe='')}"
        raise _TroubleError("its list of models does not end", hopeless=False)

    async def _offer(self, model: str) -> Offer:
        """From the list; what isn't listed is looked up, since fine-tunes, snapshots and aliases often aren't."""
        listed = self._listed(model)
        if listed is not None:
            return listed
        if self._list.hopeless:
            return self._unknown(model, self._list.trouble)
        try:
            status, answer = await self._get(f"{self._list.stem}/{quote(model, safe=':@')}")
        except _TroubleError as error:
            self._list.hopeless, self._list.trouble = error.hopeless, error.why
            return self._unknown(model, error.why)
        if status == 200 and (found := _read(answer)) is not None:
            return Offer(self._provider.name, model, "there", found.id, found.retires)
        proven = status in _NOT_FOUND and self._list.spoke
        if proven or (status in _NO_LOOKUP and self._list.whole):
            return self._missing(model)
        return self._unknown(model, self._list.trouble or f"the provider answered {status} when asked for it")

    def _listed(self, model: str) -> Offer | None:
        listed = self._list.models.get(model)
        return None if listed is None else Offer(self._provider.name, model, "there", listed.id, listed.retires)

    def _missing(self, model: str) -> Offer:
        if (urlsplit(self._provider.base_url).hostname or "").endswith(_DEPLOYMENTS):
            return self._unknown(model, "names there are deployments, which its list does not have")
        near = tuple(nearest(model, self._list.models))
        return Offer(self._provider.name, model, "missing", near=near)

    def _unknown(self, model: str, why: str) -> Offer:
        return Offer(self._provider.name, model, "unknown", why=why)

    async def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON object (empty if it is anything else). Raises _TroubleError where nothing can be told."""
        headers = CIMultiDict({"Accept": "application/json", "User-Agent": f"model-sidecar/{__version__}"})
        headers.update(_HEADERS.get(self._provider.dialect, {}))
        shipment = Shipment("GET", path, CIMultiDictProxy(headers), None, None, encoding="identity")
        name = self._provider.name
        try:
            async with asyncio.timeout(self._limits.request_s):
                response = await self._upstream.send(
                    name, shipment, Dial(fresh=False), connect_s=self._limits.connect_s
                )
                try:
                    body = await self._body(response)
                finally:
                    response.close()
        except AttemptError as error:
            raise _TroubleError(_plain(error.message), hopeless=error.fault is not Fault.BROKEN) from None
        except TimeoutError:
            raise _TroubleError(f"it did not answer within {self._limits.request_s:g} s", hopeless=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _TroubleError(_plain(meaning(error, name, reused=False).message), hopeless=False) from None
        return response.status, self._judge(response.status, body)

    async def _body(self, response: Incoming) -> bytes:
        pieces, size = [], 0
        while piece := await response.content.readany():
            size += len(piece)
            if size > self._limits.page_bytes:
                raise _TroubleError(f"its answer is larger than {self._limits.page_bytes // 2**20} MiB", hopeless=False)
            pieces.append(piece)
        return b"".join(pieces)

    def _judge(self, status: int, body: bytes) -> dict[str, Any]:
        if status in (401, 403, 407):
            raise _TroubleError(self._refused(status), hopeless=status != 403)
        if status in (408, 429) or (status >= 500 and status not in _NO_LOOKUP):
            raise _TroubleError(f"it answered {status}", hopeless=status == 429)
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}

    def _refused(self, status: int) -> str:
        if self._key is not None:
            return f"it answered {status} to the key of {self._key}"
        return f"it answered {status}, and there is no key: set {' or '.join(USUAL_KEYS[self._provider.dialect])}"


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _cursor(page: dict[str, Any], dialect: str) -> str | None:
    """What asks for the next page, None on the last one. OpenAI's list has one page."""
    if dialect == "gemini":
        found = page.get("nextPageToken")
    else:
        found = page.get("last_id") if dialect == "anthropic" and page.get("has_more") is True else None
    return found if isinstance(found, str) and found else None


def _read(entry: object) -> _Listed | None:
    """One model of any dialect, None if it is none. Gemini's resource names begin with `models/`."""
    if not isinstance(entry, dict):
        return None
    name = entry.get("id", entry.get("name"))
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        return None
    days = [day for key in _RETIRES if (day := _day(entry.get(key))) is not None]
    return _Listed(name.removeprefix("models/"), min(days, default=None))


def _day(value: object) -> date | None:
    """A date, a time, or seconds since 1970; Azure's `deprecation` has one for `inference`."""
    if isinstance(value, dict):
        value = value.get("inference")
    try:
        if isinstance(value, str):
            return date.fromisoformat(value[:10])
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return datetime.fromtimestamp(value, UTC).date()
    except (ValueError, OverflowError, OSError):
        return None
    return None
