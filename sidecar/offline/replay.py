"""`sidecar replay`: recompute every decision of an events file from its pin files, and compare.

What is decided before anything is sent comes from the pipeline, what follows (retries, hedges, fallbacks, who won) from
the race, told again what providers did (`rerun`).

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
from sidecar.offline.rerun import recorded, rerun
from sidecar.offline.stand import snapshot
from sidecar.settings.load import load_settings, read_bytes, read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError
from sidecar.settings.static import Settings

COMPARED = ("model_id", "provider", "variant", "generation", "why", "error", "status", "attempts")


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
        told = {key: event.get(key) for key in COMPARED} | {"attempts": recorded(event)}
        if decided == told:
            same += 1
        else:
            differing.append({"line": number, "request_id": event["request_id"], "was": told, "now": decided})
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
        x = _exchange(event)
        stopped = tuple((pin, variant) for pin, variant in inputs["stopped"])
        at = self._snapshot(pins, stopped, inputs["default_provider"], x.ask.dialect)
        refusal = resolve(at, x)
        target = x.targets[0] if x.targets else None
        if inputs["recalled"] and refusal is None:
            x.why.append("cache: hit")
        error, status, attempts = event["error"], event["status"], recorded(event)
        if refusal is not None:
            error, status, attempts = refusal.code.value, None if status is None else refusal.status, []
        elif _raced(event):
            again = rerun(at, x, event)
            error, status, attempts = again.error, again.status, again.attempts
            target = again.winner.target if again.winner is not None else target
        model, provider = (target.model, target.provider) if target is not None else (None, None)
        if x.cache == "coalesced":  # whose answer it was is another request's story
            model, provider = event["model_id"], event["provider"]
        return {
            "model_id": model,
            "provider": provider,
            "variant": x.variant,
            "generation": at.pins.shown,
            "why": "; ".join(x.why),
            "error": error,
            "status": status,
            "attempts": attempts,
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


def _exchange(event: dict[str, Any]) -> Exchange:
    """The request as it came, with all that was read of the state when it was decided."""
    inputs = event["inputs"]
    ask = Ask(
        dialect=event["dialect"],
        operation=event["operation"],
        name=event["pin"] or inputs["asked"],
        provider=inputs["provider"],
        unit=None,
        stream=event["stream"],
        body_bytes=inputs["body_bytes"],
        media_bytes=inputs["media_bytes"],
        max_output=inputs["max_output"],
        choices=inputs["choices"],
        generates=inputs["generates"],
        bound=inputs["bound"],
        side_effects=inputs["side_effects"],
        deterministic=inputs["deterministic"],
        repeatable=inputs["repeatable"],
        required=inputs["required"],
        no_fallback=inputs["no_fallback"],
        no_hedge=inputs["no_hedge"],
        cache=inputs["asked_cache"],
    )
    return Exchange(
        event["request_id"],
        ask,
        0.0,
        bucket=inputs["bucket"],
        assignable=inputs["assignable"],
        latencies_ms=inputs["latencies_ms"],
        eligible=_tuple(inputs["eligible"]),
        usable=_tuple(inputs["usable"]),
        sizes=inputs["sizes"],
        health=inputs["health"],
        cache="miss" if inputs["recalled"] else event["cache"],
        budget=inputs["budget"],
        hedge_after_s=inputs["hedge_after_s"],
        hedge_least_s=inputs["hedge_least_s"],
        injects=inputs["injects"],
    )


def _tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _raced(event: dict[str, Any]) -> bool:
    """A socket's one attempt has no deadline, nor has who was answered from memory, or was refused, or left before."""
    return event["inputs"]["deadline_ms"] is not None
