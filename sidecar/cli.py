"""The `sidecar` command: parses arguments, and imports only what the command at hand needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from sidecar import __version__

Configure = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]


def _env(name: str) -> str | None:
    return os.environ.get(f"SIDECAR_{name}") or None


def _configure_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="settings (SIDECAR_CONFIG; default: sidecar.yaml)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where apps point their base URL (SIDECAR_LISTEN)")
    parser.add_argument("--admin-listen", metavar="HOST:PORT", help="admin port (SIDECAR_ADMIN_LISTEN)")
    parser.add_argument("--pins", metavar="FILE", help="the pin file (SIDECAR_PINS)")
    parser.add_argument(
        "--exact-tokens",
        action="store_true",
        help="count a request's tokens instead of estimating them (SIDECAR_EXACT_TOKENS=1; needs the extra `tokens`)",
    )


def _serve(args: argparse.Namespace) -> int:
    from sidecar.settings.load import load_settings
    from sidecar.settings.problems import ConfigError

    config = Path(args.config or _env("CONFIG") or "sidecar.yaml")
    try:
        settings = load_settings(
            config,
            listen=args.listen or _env("LISTEN"),
            admin_listen=args.admin_listen or _env("ADMIN_LISTEN"),
            pins=args.pins or _env("PINS"),
            exact_tokens=args.exact_tokens or _env("EXACT_TOKENS") in ("1", "true"),
        )
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    from sidecar.runtime.serve import CannotServeError, run

    try:
        return run(settings)
    except CannotServeError as error:
        print(f"sidecar: {error}", file=sys.stderr)
        return 1


def _command(module: str) -> tuple[Configure, Run]:
    """A command that lives in a module of its own, imported when it is asked for."""

    def configure(parser: argparse.ArgumentParser) -> None:
        import_module(module).configure(parser)

    def run(args: argparse.Namespace) -> int:
        return int(import_module(module).run(args))

    return configure, run


COMMANDS: dict[str, tuple[str, tuple[Configure, Run]]] = {
    "serve": ("run the proxy", (_configure_serve, _serve)),
    "provider": ("run the bundled fake provider", _command("sidecar.provider.command")),
    "replay": ("recompute every decision of an events file", _command("sidecar.offline.replay")),
    "admin": ("ask the sidecar of this pod, or stop a variant in it", _command("sidecar.kube.ask")),
    "inject-webhook": ("put the sidecar into pods as they are created", _command("sidecar.kube.injection.command")),
}
PINS: dict[str, tuple[str, tuple[Configure, Run]]] = {
    "check": ("is this pin file good?", _command("sidecar.offline.check")),
    "diff": ("what a pin file changes, compared with another or with what is live", _command("sidecar.kube.diff")),
    "apply": ("make a pin file live in a fleet on Kubernetes", _command("sidecar.kube.apply")),
    "status": ("which pod serves by which generation, and how its calls go", _command("sidecar.kube.status")),
    "rollback": ("make a fleet's previous pin file live again", _command("sidecar.kube.rollback")),
    "stop": ("the kill switch: no units for a name's variants, in every pod, now", _command("sidecar.kube.stop")),
    "history": ("the generations that a fleet has had: who, when, why", _command("sidecar.kube.history")),
    "explain": ("where would a request go, and why", _command("sidecar.offline.explain")),
    "audit": ("is the audit log whole?", _command("sidecar.offline.audit")),
    "schema": ("the JSON Schema of a pin file, for editors", _command("sidecar.offline.schema")),
}


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Parsers of all commands by name, but arguments only of the one that is asked for: its module is imported."""
    parser = argparse.ArgumentParser(prog="sidecar", description="Stable model names for LLM SDKs, pinned by a file.")
    parser.add_argument("--version", action="version", version=f"sidecar {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (about, (configure, _)) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        if argv[:1] == [name]:
            configure(command)
    pins = commands.add_parser("pins", help="check, compare and explain pin files")
    pin_commands = pins.add_subparsers(dest="pins_command", metavar="COMMAND", required=True)
    for name, (about, (configure, _)) in PINS.items():
        command = pin_commands.add_parser(name, help=about, description=about)
        if list(argv[:2]) == ["pins", name]:
            configure(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; 2 where the arguments are wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser(argv).parse_args(argv)
    _, (_, run) = PINS[args.pins_command] if args.command == "pins" else COMMANDS[args.command]
    try:
        return run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `sidecar pins diff … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
