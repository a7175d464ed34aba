"""The command `sidecar inject-webhook`: its arguments, and its life from the first load to the last answer.

Decides: when the process is ready, and how it leaves: unready at once, but still answering, since API servers learn
only later that this pod is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import logging
import signal
import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TypeVar

from sidecar import __version__
from sidecar.kube.injection import template as templates
from sidecar.kube.injection.certs import Certificate
from sidecar.kube.injection.connections import HEADERS_S, Handler, Listener
from sidecar.kube.injection.metrics import Metrics
from sidecar.kube.injection.reload import POLL_S, Mounted
from sidecar.kube.injection.webhook import BODY_S, Health, Webhook
from sidecar.kube.names import VERSION
from sidecar.runtime.loop import runner
from sidecar.settings.problems import ConfigError
from sidecar.settings.units import Address, Delay, UnfitError
from sidecar.telemetry.logs import configure as configure_logs
from sidecar.telemetry.logs import uncaught
from sidecar.telemetry.sinks import LineSink

log = logging.getLogger("sidecar.inject")

T = TypeVar("T")
BACKLOG = 1024
FAREWELL_S = 2.0
"""How long a client may take to agree that its TLS connection is over; until then it counts as open."""


class CannotListenError(Exception):
    """An address can't be had; the message says which, and why."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to `parser`."""
    parser.add_argument("--template", required=True, type=Path, metavar="FILE", help="what to inject: injection.yaml")
    parser.add_argument("--cert-file", required=True, type=Path, metavar="FILE", help="the certificate, with its chain")
    parser.add_argument("--key-file", required=True, type=Path, metavar="FILE", help="the certificate's key")
    for flag, default, about in (
        ("--listen", "0.0.0.0:8443", "where the API server sends reviews, by TLS"),
        ("--health-listen", "0.0.0.0:8080", "where /healthz, /readyz and /metrics are, by plain HTTP"),
    ):
        parser.add_argument(
            flag,
            type=_parsed(Address.parse),
            default=default,
            metavar="HOST:PORT",
            help=f"{about} (default: {default})",
        )
    parser.add_argument(
        "--drain",
        type=_parsed(Delay.parse),
        default="5s",
        metavar="TIME",
        help="how long reviews are still taken after SIGTERM (default: 5s)",
    )


def _parsed(parse: Callable[[object], T]) -> Callable[[str], T]:
    def value(text: str) -> T:
        try:
            return parse(text)
        except UnfitError as error:
            raise argparse.ArgumentTypeError(f"{error} — fix: {error.fix}") from None

    return value


def run(args: argparse.Namespace) -> int:
    """Serve until a signal. Returns 0, 2 for files that can't be used, 1 for addresses that can't be had."""
    process = Process(args)
    try:
        process.load()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    try:
        with runner() as runs:
            runs.run(process.run())
    except CannotListenError as error:
        print(f"sidecar inject-webhook: {error}", file=sys.stderr)
        return 1
    return 0


class Process:
    """The webhook with all that it needs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._addresses: dict[str, Address] = {"listen": args.listen, "health": args.health_listen}
        self._drain_s = float(args.drain)
        self._metrics = Metrics()
        self._webhook = Webhook(self._metrics)
        self._certificate = Certificate(args.cert_file, args.key_file)
        self._template_path: Path = args.template
        self._files = (
            Mounted("template", [args.template], self._use_template),
            Mounted("certificate", self._certificate.paths, self._use_certificate),
        )
        self._signalled = asyncio.Event()
        self._listening = False

    def load(self) -> None:
        """Load all files for the first time. Raises ConfigError."""
        for file in self._files:
            file.load()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises CannotListenError."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            sink = LineSink("stderr", name="log")
            stack.callback(sink.close)
            configure_logs("info", sink)
            uncaught(loop)
            health = Health(self._metrics, self._not_ready)
            context = self._certificate.context
            shown = {
                "health": await self._listen(stack, "health", health.handle, None),
                "listen": await self._listen(stack, "listen", self._webhook.handle, context),
            }
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._signalled.set)
            polling = asyncio.create_task(self._poll(), name="reload")
            stack.push_async_callback(_ended, polling)
            gc.collect()
            gc.freeze()  # what lives as long as the process needs not be walked again
            self._listening = True
            log.info("listening", extra={"fields": shown | {"version": __version__}})
            await self._signalled.wait()
            await self._drain()

    def _use_template(self, parts: list[bytes]) -> None:
        template = templates.read(parts[0], self._template_path)
        self._webhook.template = template
        self._metrics.template(hashlib.sha256(parts[0]).hexdigest(), template.annotations[VERSION])

    def _use_certificate(self, parts: list[bytes]) -> None:
        self._certificate.load(parts)
        self._metrics.expiry(self._certificate.expires_at)

    def _not_ready(self) -> str | None:
        if self._signalled.is_set():
            return "stopping"
        return None if self._listening else "starting"

    async def _listen(
        self, stack: AsyncExitStack, name: str, handler: Handler, context: ssl.SSLContext | None
    ) -> list[str]:
        address, listener = self._addresses[name], Listener(handler)
        try:
            server = await asyncio.get_running_loop().create_server(
                listener,
                address.host,
                address.port,
                ssl=context,
                ssl_handshake_timeout=HEADERS_S if context else None,
                ssl_shutdown_timeout=FAREWELL_S if context else None,
                backlog=BACKLOG,
                reuse_address=True,
            )
        except OSError as error:
            raise CannotListenError(f"cannot listen on {address}: {error.strerror or error}.") from None
        stack.push_async_callback(listener.shutdown, 0.1)
        stack.callback(server.close)
        names = (socket.getsockname()[:2] for socket in server.sockets)
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in names]

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            for file in self._files:
                try:
                    outcome = file.look()
                except Exception as error:  # whatever it is, the next look must still come
                    log.error("looking at the %s failed", file.name, exc_info=error)
                    outcome = None
                if outcome is not None:
                    self._metrics.reloaded(file.name, outcome)

    async def _drain(self) -> None:
        """Answer on for a while, then finish what is in flight; a further signal cuts the first part short."""
        loop = asyncio.get_running_loop()
        log.info("draining", extra={"fields": {"in_flight": self._webhook.in_flight}})
        self._webhook.stopping = True
        again = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, again.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await again.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(BODY_S):
                await self._webhook.idle.wait()
        log.info("stopped", extra={"fields": {"in_flight": self._webhook.in_flight}})


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
