"""`sidecar replay`: recompute every decision of an events file from its pin files, and compare.

Exit codes: 0 all decisions are the same, 1 at least one differs, 2 a line has no pin file (by sha256) or can't be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from sidecar.compose import Snapshot, resolve
from sidecar.core.facts import Ask, Exchange
from sidecar.offline.stand import snapshot
from sidecar.settings.load import load_settings, read_bytes, read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError
from sidecar.settings.static import Settings

COMPARED = ("model_id", "provider", "variant", "generation", "why", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("events", metavar="EVENTS", help="an events file (JSON lines); - is standard input")
    parser.add_argument(
        "--pins", nargs="+", required=True, metavar="FILE-OR-FOLDER", help="pin files, and folders that hold them"
    )
    parser.add_argument("--config", metavar="FILE", help="settings that the events were made under")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Compare and print. Returns the exit code."""
    try:
        settings = load_settings(Path(args.config)) if args.config else None
        pins = dict(_pins([Path(p) for p in args.pins], settings))
        lines = sys.stdin.buffer.readlines() if args.events == "-" else Path(args.events).read_bytes().splitlines()
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    same = 0
    differing: list[dict[str, Any]] = []
    without: list[str] = []
    bench = Bench(pins, settings)
    for number, line in enumerate(lines, 1):
        try:
            event = orjson.loads(line)
            if event["kind"] != "request" or event["inputs"]["kind"] == "undecided":  # there was nothing to decide
                continue
            decided = bench.decide(event)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            without.append(f"line {number}: not a request event of this version ({type(error).__name__})")
            continue
        if decided is None:
            without.append(f"line {number}: no pin file with sha256 {event['pins_sha256']}")
            continue
        recorded = {key: event.get(key) for key in COMPARED}
        if decided == recorded:
            same += 1
        else:
            differing.append({"line": number, "request_id": event["request_id"], "was": recorded, "now": decided})
    _report(args.format, same, differing, without)
    return 2 if without else 1 if differing else 0


def _report(style: str, same: int, differing: list[dict[str, Any]], without: list[str]) -> None:
    if style == "json":
        print(orjson.dumps({"same": same, "differing": differing, "unreplayable": without}).decode())
        return
    for entry in differing:
        print(f"line {entry['line']} ({entry['request_id']}) differs:")
        for key in COMPARED:
            if entry["was"][key] != entry["now"][key]:
                print(f"  {key}: was {entry['was'][key]!r}, now {entry['now'][key]!r}")
    for message in without:
        print(message, file=sys.stderr)
    print(f"{same} decisions are the same, {len(differing)} differ, {len(without)} could not be replayed")


def _pins(paths: Iterable[Path], settings: Settings | None) -> Iterator[tuple[str, Pins]]:
    """sha256 → pins, of the files and of what the folders hold. What isn't a pin file is passed over in folders."""
    for path in paths:
        if not path.is_dir():
            pins = read_pins(read_bytes(path), str(path), settings)
            yield pins.sha256, pins
            continue
        for file in sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json") and p.is_file()):
            try:
                pins = read_pins(read_bytes(file), str(file), settings)
            except ConfigError:
                continue
            yield pins.sha256, pins


class Bench:
    """Decides events again; one pipeline for each pin file, set of stopped variants and default provider."""

    def __init__(self, pins: dict[str, Pins], settings: Settings | None) -> None:
        self._pins = pins
        self._settings = settings
        self._snapshots: dict[tuple[object, ...], Snapshot] = {}

    def decide(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """What is compared of an event, decided anew; None if its pin file isn't at hand."""
        pins = self._pins.get(event["pins_sha256"])
        if pins is None:
            return None
        inputs = event["inputs"]
        ask = Ask(
            dialect=event["dialect"],
            operation=event.get("operation", "other"),
            name=event["pin"] or inputs.get("asked"),
            provider=inputs["provider"],
            unit=None,
            input_tokens=inputs["input_tokens"],
            bound=inputs["bound"],
            required=inputs["required"],
        )
        eligible = inputs["eligible"]
        x = Exchange(
            event["request_id"],
            ask,
            0.0,
            bucket=inputs["bucket"],
            assignable=inputs["assignable"],
            latencies_ms=inputs["latencies_ms"],
            eligible=None if eligible is None else tuple(eligible),
            credential=inputs["credential"],
        )
        stopped = tuple((pin, variant) for pin, variant in inputs["stopped"])
        at = self._snapshot(pins, stopped, inputs["default_provider"], ask.dialect)
        refusal = resolve(at, x)
        target = x.targets[0] if x.targets else None
        return {
            "model_id": target.model if target else None,
            "provider": target.provider if target else None,
            "variant": x.variant,
            "generation": at.pins.shown,
            "why": "; ".join(x.why),
            # What became of an admitted request isn't decided here; that a refused one was refused is.
            "error": event["error"] if refusal is None else refusal.code.value,
        }

    def _snapshot(
        self, pins: Pins, stopped: tuple[tuple[str, str], ...], default: str | None, dialect: str
    ) -> Snapshot:
        key = (pins.sha256, stopped, default, dialect)
        if key not in self._snapshots:
            for pin, variant in stopped:
                pins = pins.stop(pin, variant)
            self._snapshots[key] = snapshot(pins, self._settings, {dialect: default})
        return self._snapshots[key]
