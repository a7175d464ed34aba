"""`sidecar pins explain`: where would a request go, and why.

Exit codes: 0 it would be served, 1 it would be refused, 2 the files can't be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

from sidecar.compose import resolve
from sidecar.core.facts import Ask, Exchange
from sidecar.offline.stand import snapshot
from sidecar.settings.load import load_settings, read_bytes, read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError
from sidecar.settings.units import duration_text
from sidecar.settings.words import in_words

DIALECTS = ("openai", "anthropic", "gemini")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--pins", required=True, metavar="FILE", help="the pin file")
    name = parser.add_mutually_exclusive_group(required=True)
    name.add_argument("--model", metavar="NAME", help="the name that the app sends as `model`")
    name.add_argument("--capability", metavar="NAME", help="the same, sent as `capability`")
    parser.add_argument("--unit", metavar="U", help="who or what the variant sticks to")
    parser.add_argument("--dialect", choices=DIALECTS, help="of the request; default: its model's")
    parser.add_argument("--provider", metavar="NAME", help="a provider that the path names")
    parser.add_argument("--config", metavar="FILE", help="settings: providers and their defaults")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Print the decision. Returns the exit code."""
    try:
        settings = load_settings(Path(args.config)) if args.config else None
        pins = read_pins(read_bytes(Path(args.pins)), args.pins, settings)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    name = args.model or args.capability
    ask = Ask(
        dialect=args.dialect or dialect_of(pins, name),
        name=name,
        unit=args.unit or None,
        operation="chat",
        provider=args.provider,
        required=True,
        generates=True,
    )
    x = Exchange("explain", ask, 0.0)
    refusal = resolve(snapshot(pins, settings), x)
    protection = dict(_protection(pins, x))
    said = {
        "name": name,
        "generation": pins.shown,
        "sha256": pins.sha256,
        "dialect": ask.dialect,
        "model": x.targets[0].model if x.targets else None,
        "provider": x.targets[0].provider if x.targets else None,
        "variant": x.variant,
        "bucket": x.bucket,
        "assignable": x.assignable,
        "targets": [{"model": target.model, "provider": target.provider} for target in x.targets],
        "protection": protection,
        "why": "; ".join(x.why),
        "error": refusal and {"code": refusal.code, "status": refusal.status, "message": refusal.message},
    }
    if args.format == "json":
        print(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
    elif refusal is not None:
        print(f"{name}: refused with {refusal.status} {refusal.code}: {refusal.message}")
    else:
        print(f"{name} -> {said['model'] or name} at {said['provider']} (variant {x.variant}, generation {pins.label})")
        for step in x.why:
            print(f"  {step}")
        for target in x.targets[1:]:
            print(f"  then {target.model} at {target.provider}")
        for what, words in protection.items():
            print(f"  {what}: {words}")
    return 0 if refusal is None else 1


def _protection(pins: Pins, x: Exchange) -> Iterator[tuple[str, str]]:
    """How a call is protected, in the pin file's words: the name's own settings, then its targets'."""
    pin = pins.pin(x.pin)
    if pin is not None:
        for key in ("hedge", "cache", "budget", "drill", "over_budget"):
            if (value := getattr(pin.source, key)) is not None:
                yield key, in_words(value)
    for target in x.targets:
        model = pins.models.get(target.model or "")
        for key in ("budget", "breaker"):
            if model is not None and (value := getattr(model.source, key, None)) is not None:
                yield f"{key} of {model.id}", in_words(value)
    tries = pins.tries(x.pin)
    yield "attempts", f"at most {tries.max_attempts}, retries after {duration_text(tries.retry_base_s)} and more"


def dialect_of(pins: Pins, name: str) -> str:
    """The dialect that a name's model speaks; openai where nothing tells."""
    pin = pins.pins.get(name)
    model = pin.stable if pin is not None else pins.aliases.get(name) or pins.models.get(name)
    return model.dialect if model is not None else "openai"
