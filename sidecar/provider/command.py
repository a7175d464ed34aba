"""The command `sidecar provider`: its arguments and its life until a signal."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from sidecar.provider import faults, script
from sidecar.provider.faults import FaultError
from sidecar.provider.script import ScriptError
from sidecar.provider.server import FakeProvider, Options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to `parser`."""
    parser.add_argument(
        "--listen",
        default=("127.0.0.1", 4020),
        type=_address,
        metavar="HOST:PORT",
        help="where to listen; port 0 takes a free one (default: 127.0.0.1:4020)",
    )
    parser.add_argument(
        "--pace", default=0.0, type=_pace, metavar="TIME", help="delay between two tokens, such as 20ms (default: none)"
    )
    parser.add_argument("--script", type=Path, metavar="FILE", help="fault script, YAML or JSON")


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM. Returns the exit code: 0, or 2 for what can't be used."""
    try:
        options = Options(args.pace, script.load(args.script) if args.script else script.Script())
        asyncio.run(serve(*args.listen, options=options))
    except (ScriptError, OSError) as error:
        print(f"fake provider: {error}", file=sys.stderr)
        return 2
    return 0


async def serve(host: str, port: int, *, options: Options) -> None:
    """Runs a provider until SIGINT or SIGTERM and prints where it listens. Raises OSError."""
    provider = FakeProvider(options)
    await provider.start(host, port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stopped.set)
    print(f"fake provider: listening on {provider.url}", flush=True)
    try:
        await stopped.wait()
    finally:
        await provider.stop()


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit():
        raise argparse.ArgumentTypeError(f"not HOST:PORT: {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def _pace(text: str) -> float:
    try:
        return faults.time_ms(text)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
