"""The admin port and the probe port: health, metrics, what is pinned, where a name would go, and the kill switch.

Readiness means pins loaded and listener up, never the provider's health: an outage of a provider must not take the
app out of its Service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web
from aiohttp.web_request import BaseRequest

from sidecar.compose import resolve
from sidecar.core.facts import Ask, Exchange
from sidecar.dialects import registry
from sidecar.errors import Code, Refusal, RefusedError, bad_request
from sidecar.runtime import guard
from sidecar.runtime.body import Buffers, Held, read_whole
from sidecar.runtime.described import described
from sidecar.runtime.reply import Reply, json_reply, refusal_reply
from sidecar.runtime.shared import Shared
from sidecar.runtime.turns import in_turns
from sidecar.settings.pins import UnknownVariant

_BODY_BYTES = 64 * 1024
_SCRAPE_GAP_S = 0.05
"""Scrapes are rendered one by one, and not more often: a hasty scraper waits, but none is told what was."""

Route = Callable[[BaseRequest], Awaitable[web.StreamResponse]]


class Admin:
    """`full` answers everything, to loopback names only; otherwise it is the probe port's handler, for any Host."""

    def __init__(self, shared: Shared, ready: Callable[[], str | None], *, full: bool) -> None:
        self._shared = shared
        self._ready = ready
        self._full = full
        self._buffers = Buffers(16 * _BODY_BYTES)
        self._scraping = asyncio.Lock()
        self._next_scrape_at = 0.0
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics,
        }
        if full:
            self._routes |= {
                ("GET", "/pins"): self._pins,
                ("POST", "/resolve"): self._resolve,
                ("POST", "/pins/stop"): self._stop,
            }

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request; errors in the OpenAI envelope."""
        try:
            if self._full:
                refusal = guard.check(request.headers, self._shared.settings.allowed_hosts)
                if refusal is not None:
                    raise RefusedError(refusal)
            method = "GET" if request.method == "HEAD" else request.method
            path = request.raw_path.partition("?")[0]
            route = self._routes.get((method, path))
            if route is None:
                known = sorted({m for m, p in self._routes if p == path})
                return Reply(405, [("Allow", ", ".join(known))], body=b"") if known else Reply(404, (), body=b"")
            return await route(request)
        except RefusedError as exc:
            return refusal_reply(exc.refusal, registry.DIALECTS["openai"], "admin", ())

    async def _healthz(self, request: BaseRequest) -> Reply:  # noqa: ARG002
        return json_reply(200, b'{"status":"ok"}')

    async def _readyz(self, request: BaseRequest) -> Reply:  # noqa: ARG002
        reason = self._ready()
        if reason is None:
            return json_reply(200, orjson.dumps({"status": "ready", "degraded": self._shared.pinned.degraded}))
        return json_reply(503, orjson.dumps({"status": "not ready", "reason": reason}))

    async def _metrics(self, request: BaseRequest) -> Reply:
        async with self._scraping:
            await asyncio.sleep(self._next_scrape_at - self._shared.now())
            snapshot = self._shared.pinned.snapshot
            metrics, pins = self._shared.metrics, snapshot.pins if snapshot is not None else None
            await in_turns(metrics.looking(self._shared.state, pins, self._shared.now()))
            pieces, kind = metrics.scrape(request.headers.get("Accept", ""))
            body = "".join(await in_turns(pieces)).encode()
            self._next_scrape_at = self._shared.now() + _SCRAPE_GAP_S
        return Reply(200, [("Content-Type", kind)], body=body)

    async def _pins(self, request: BaseRequest) -> Reply:  # noqa: ARG002
        pinned = self._shared.pinned
        status: dict[str, Any] = {
            "generation": None,
            "sha256": None,
            "loaded_at": _when(pinned.loaded_at),
            "last_error": pinned.trouble,
            "degraded": pinned.degraded,
        }
        if pinned.snapshot is not None:
            status |= await described(pinned.snapshot, self._shared.state, self._shared.now())
        return json_reply(200, orjson.dumps(status, option=orjson.OPT_INDENT_2))

    async def _resolve(self, request: BaseRequest) -> Reply:
        asked = await self._json(request)
        snapshot = self._shared.pinned.snapshot
        if snapshot is None:
            raise RefusedError(Refusal(Code.NO_TARGET, f"No usable pin file: {self._shared.pinned.trouble}", 1.0))
        name = asked.get("capability", asked.get("model"))
        unit, dialect = asked.get("unit"), asked.get("dialect", "openai")
        if not isinstance(name, str) or not name:
            raise bad_request('Name a `capability` or a `model`: {"model": "chat.core", "unit": "user-1"}.')
        if unit is not None and not isinstance(unit, str):
            raise bad_request("`unit` must be a text.")
        if not isinstance(dialect, str) or dialect not in registry.DIALECTS:
            raise bad_request(f"`dialect` must be one of {', '.join(registry.DIALECTS)}.")
        x = Exchange("resolve", Ask(dialect=dialect, name=name, unit=unit or None, required=True), self._shared.now())
        refusal = resolve(snapshot, x)
        if refusal is not None:
            raise RefusedError(refusal)
        said = {
            "model": x.targets[0].model,
            "variant": x.variant,
            "generation": snapshot.pins.shown,
            "why": "; ".join(x.why),
        }
        return json_reply(200, orjson.dumps(said))

    async def _stop(self, request: BaseRequest) -> Reply:
        asked = await self._json(request)
        pin, variant = asked.get("pin"), asked.get("variant")
        if not isinstance(pin, str) or not isinstance(variant, str):
            raise bad_request('Name both: {"pin": "chat.core", "variant": "canary"}.')
        try:
            pins = self._shared.pinned.stop(pin, variant)
        except UnknownVariant as exc:
            raise RefusedError(Refusal(Code.BAD_REQUEST, str(exc.args[0]), http_status=404)) from None
        except LookupError as exc:
            raise RefusedError(Refusal(Code.NO_TARGET, str(exc.args[0]), 1.0)) from None
        return json_reply(200, orjson.dumps({"pin": pin, "variant": variant, "percent": 0, "generation": pins.shown}))

    async def _json(self, request: BaseRequest) -> dict[str, Any]:
        held = Held(self._buffers)
        try:
            idle_s = self._shared.settings.limits.body_idle
            asked = orjson.loads(await read_whole(request, held, limit=_BODY_BYTES, idle_s=idle_s))
        except orjson.JSONDecodeError:
            raise bad_request("The body is not valid JSON.") from None
        finally:
            held.release()
        if not isinstance(asked, dict):
            raise bad_request("The body must be a JSON object.")
        return asked


def _when(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
