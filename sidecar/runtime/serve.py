"""The life of the process: build everything, listen, reload, drain, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import aiohttp
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from sidecar import __version__
from sidecar.runtime.admin import Admin
from sidecar.runtime.drill import Drilling
from sidecar.runtime.fleet import Fleet
from sidecar.runtime.front import Front, Handler
from sidecar.runtime.handler import Proxy
from sidecar.runtime.loop import runner
from sidecar.runtime.pinned import Pinned
from sidecar.runtime.reload import Reloader
from sidecar.runtime.secrets import Secrets
from sidecar.runtime.shared import Shared
from sidecar.runtime.upstream import Upstream
from sidecar.settings.static import Settings
from sidecar.state import State, tokens
from sidecar.telemetry.audit import Audit
from sidecar.telemetry.events import Events
from sidecar.telemetry.logs import configure, uncaught
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.sinks import LineSink
from sidecar.telemetry.spans import Tracing

log = logging.getLogger("sidecar")

OLDEST_AIOHTTP = (3, 14, 4)
BACKLOG = 1024
FAREWELL_S = 1.5
"""After the drain: how long interrupted streams may take to send their last event."""


class CannotServeError(Exception):
    """The process can't do its work; the message says why and how to mend it."""


def check_aiohttp() -> None:
    """Older releases, and the pure-Python parser, have request smuggling and decompression faults."""
    found = tuple(int(part) for part in aiohttp.__version__.split(".")[:3] if part.isdecimal())
    if found < OLDEST_AIOHTTP:
        raise CannotServeError(f"aiohttp {aiohttp.__version__} is too old: install 3.14.4 or later.")
    if HttpRequestParser is HttpRequestParserPy:
        raise CannotServeError("aiohttp runs without its C parser: install a build with its extensions.")


class Lifecycle:
    """Builds the parts in order, and takes them down in the opposite one.

    `run` is the whole of it, with signals; `start` and `close` are its two ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._stopping = asyncio.Event()
        self._second_signal = asyncio.Event()
        self._listening = False
        self.addresses: dict[str, list[str]] = {}
        self.shared: Shared
        self.reloader: Reloader
        self.drilling: Drilling

    async def run(self) -> int:
        """Serve until a signal says otherwise. Raises CannotServeError before anything is served."""
        loop = asyncio.get_running_loop()
        try:
            await self.start()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            loop.add_signal_handler(signal.SIGHUP, self.reloader.reload_now)
            gc.collect()
            gc.freeze()  # what lives as long as the process needs not be walked again
            log.info("listening", extra={"fields": self.addresses | {"version": __version__}})
            await self._stopping.wait()
            await self.drain()
        finally:
            await self.close()
        return 0

    async def start(self) -> None:
        """Load, listen, be ready. Raises CannotServeError."""
        settings = self._settings
        check_aiohttp()
        sink = LineSink("stderr" if str(settings.log.path) == "-" else settings.log.path, name="log")
        self._stack.callback(sink.close)
        configure(settings.log.level, sink)
        uncaught(asyncio.get_running_loop())
        for warning in settings.warnings:
            log.warning("%s", warning)
        self.shared, self.reloader = await self._build(self._stack, sink)
        await self._listen(self._stack, self.shared)
        self.drilling = Drilling(self.shared)
        self._stack.push_async_callback(self.drilling.stop)
        self.drilling.start()
        self._listening = True

    async def close(self) -> None:
        """Take everything down. Safe after a `start` that failed."""
        await self._stack.aclose()

    def stop(self) -> None:
        """What SIGTERM does; a second time it ends the drain at once."""
        (self._second_signal if self._stopping.is_set() else self._stopping).set()

    async def _build(self, stack: AsyncExitStack, sink: LineSink) -> tuple[Shared, Reloader]:
        settings, state = self._settings, State()
        state.ledger.utc_offset_s = time.time() - time.monotonic()  # once: a clock that jumps moves no window
        if settings.exact_tokens:
            state.sizes.exact = tokens.load()
            if state.sizes.exact is None:
                log.warning("tokens_missing: install `model-sidecar[tokens]` to count tokens; estimating them")
        later = asyncio.get_running_loop().call_later
        metrics = Metrics(__version__, later)
        events_sink = None
        if settings.events is not None:
            events_sink = LineSink(
                settings.events.path, max_bytes=settings.events.max_bytes, name="events", on_trouble=self._trouble
            )
            stack.callback(events_sink.close)
        user_id, salt = (settings.events.user_id, str(settings.events.salt)) if settings.events else ("none", "")
        events = Events(events_sink, user_id=user_id, salt=salt, later=later)
        stack.callback(events.flush)
        audit = Audit(settings.audit.path if settings.audit else None, on_trouble=self._trouble)
        stack.callback(audit.close)
        metrics.watch(sink, events_sink, audit.sink)
        tracing = Tracing.build(str(settings.otel.endpoint), __version__, log.warning) if settings.otel else None
        if tracing is not None:
            stack.push_async_callback(asyncio.to_thread, tracing.shutdown)
        secrets = Secrets(settings.providers, state.credentials)
        secrets.look()
        pinned = Pinned(settings, state, metrics, events, audit)
        reloader = Reloader(pinned, settings.pins_path, settings.pins_last_good, secrets)
        await reloader.start()
        stack.push_async_callback(reloader.stop)
        upstream = Upstream(settings, state.credentials, metrics.poisoned)
        stack.push_async_callback(upstream.close)
        shared = Shared(
            loop=asyncio.get_running_loop(),
            settings=settings,
            state=state,
            pinned=pinned,
            upstream=upstream,
            metrics=metrics,
            events=events,
            tracing=tracing,
        )
        shared.fleet = Fleet.build(settings.fleet, state, metrics.fleet)
        if shared.fleet is not None:
            stack.push_async_callback(shared.fleet.stop)
            await shared.fleet.start()
        return shared, reloader

    async def _listen(self, stack: AsyncExitStack, shared: Shared) -> None:
        settings = self._settings
        admin = Admin(shared, self._not_ready(shared), full=True)
        await self._open(stack, "admin", [settings.admin_listen], admin.handle)
        if settings.probe_listen is not None:
            probe = Admin(shared, self._not_ready(shared), full=False)
            await self._open(stack, "probe", [settings.probe_listen], probe.handle)
        proxy = Proxy(shared)
        front = await self._open(stack, "listen", list(settings.listen), proxy.handle, shed=shared)
        shared.metrics.gauges(
            in_flight=lambda: shared.in_flight,
            connections=lambda: len(front.connections),
            buffered_bytes=lambda: shared.buffers.used,
        )

    async def _open(
        self,
        stack: AsyncExitStack,
        name: str,
        addresses: list[tuple[str, int]],
        handler: Handler,
        shed: Shared | None = None,
    ) -> Front:
        def on_shed() -> None:
            if shed is not None:
                shed.metrics.refused("sidecar_overloaded")

        front = Front(handler, self._settings.limits, on_shed)
        loop = asyncio.get_running_loop()
        bound = self.addresses[name] = []
        for host, port in addresses:
            try:
                server = await loop.create_server(front, host, port, backlog=BACKLOG, reuse_address=True)
            except OSError as exc:
                reason = exc.strerror or str(exc)
                raise CannotServeError(f"{name}: cannot listen on {host}:{port}: {reason}.") from None
            bound += [_shown(sock) for sock in server.sockets]
            stack.callback(server.close)
        stack.push_async_callback(front.shutdown, 0.1)
        return front

    def _not_ready(self, shared: Shared) -> Callable[[], str | None]:
        def reason() -> str | None:
            if self._stopping.is_set():
                return "draining"
            if not self._listening:
                return "starting"
            return None if shared.pinned.snapshot is not None else f"no usable pin file: {shared.pinned.trouble}"

        return reason

    def _trouble(self, words: str) -> None:
        log.warning("%s", words)

    async def drain(self) -> None:
        """Keep accepting until idle or out of grace; then end what is left, properly."""
        self._stopping.set()
        await self.drilling.stop()
        shared, drain = self.shared, self._settings.drain
        began = shared.now()
        log.info("draining", extra={"fields": {"in_flight": shared.in_flight}})
        while not self._second_signal.is_set() and shared.now() - began < drain.grace:
            quiet_since = max(began, shared.last_request_at)
            if shared.in_flight == 0 and shared.now() - quiet_since >= drain.idle:
                break
            await asyncio.sleep(0.05)
        shared.stop()
        ends = shared.now() + FAREWELL_S
        while shared.in_flight and shared.now() < ends and not self._second_signal.is_set():
            await asyncio.sleep(0.02)
        log.info("stopped", extra={"fields": {"in_flight": shared.in_flight}})


def _shown(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run(settings: Settings) -> int:
    """Serve until a signal. Returns the exit code."""
    with runner() as runs:
        return runs.run(Lifecycle(settings).run())
