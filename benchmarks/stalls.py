"""How long the sidecar's event loop is kept from its work by what is rare but large.

`python -m benchmarks stalls` runs the real sidecar with a heartbeat on its loop (`heartbeat.py`), lets requests and
streams flow, and then does one large thing: a scrape, a body of 1 MB, a swap of 2,000 pins, hundreds of streams at
once. The figure of a case is the greatest gap between two beats of 1 ms, in CPU time of the process, so that a busy
machine doesn't count; its note tells the same on the clock. `under load` is the gap that the flow alone makes.

Decides: the cases, and what flows meanwhile. Does not decide: which gap is too long (`LIMITS_MS` is only shown).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import load
from benchmarks.caller import Tally
from benchmarks.figures import Figure
from benchmarks.lab import FailedError, Lab, sound, target
from benchmarks.patient import Gaps, Patient, chat_body
from benchmarks.provider import Script
from benchmarks.systems import EVERYTHING, ROOT, Running, pin_file

RATE_HZ = 150.0
STREAMS = 8
FLOW_S = 2.6
SETTLE_S, BEFORE_S, AFTER_S = 0.3, 0.6, 1.2  # of the flow: its beginning, before the large thing, and from it on
QUIET_S = 1.0
FLOW = Script(chunks=int(FLOW_S * 50), gap_ms=20)
SLOW = Script(chunks=8, gap_ms=300)
AT_ONCE = 300
PINS = 2000
LIMIT_MS = 10.0
LIMITS_MS = dict.fromkeys(("swap, 2000 pins yaml", "swap at rest, 2000 pins yaml"), 50.0)


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure: another checkout of the sidecar, and whether to tell what ran while a beat was late."""

    repetitions: int = 3
    tree: Path = ROOT
    where: bool = False
    only: str | None = None

    @property
    def patient(self) -> dict[str, Any]:
        return {"tree": self.tree, "where": self.where}


@dataclass(slots=True)
class Found:
    """The gaps of all cases, in the order in which they came."""

    cases: dict[str, list[Gaps]] = field(default_factory=dict)

    def add(self, case: str, gaps: Gaps) -> None:
        self.cases.setdefault(case, []).append(gaps)

    def figures(self) -> Iterator[Figure]:
        for case, gaps in self.cases.items():
            values = [g.process_ms for g in gaps]
            worst = max(gaps, key=lambda g: g.process_ms)
            note = f"at worst {worst.loop_ms:.1f} ms of it in the loop's own thread, {worst.gc_ms:.1f} ms of it in "
            note += f"garbage collection; {max(g.wall_ms for g in gaps):.1f} ms on the clock"
            yield Figure("loop_stall", "model-sidecar", case, "ms", values, note)


LONG = 'The quick brown fox says "no" to the lazy dog, again.\n' * 20_000  # 1 MB of text that needs escapes
BODIES = {
    "1 MB body, one message": chat_body(LONG[:1_000_000]),
    "1 MB body, 10,000 messages": chat_body(*(f"message {n} " + "x" * 55 for n in range(10_000))),
    "1 MB body, tools": chat_body(
        "x",
        tools=[
            {
                "type": "function",
                "function": {
                    "name": f"f{n}",
                    "description": "d" * 200,
                    "parameters": {"type": "object", "properties": {f"p{m}": {"type": "string"} for m in range(20)}},
                },
            }
            for n in range(1100)
        ],
    ),
}


def _flow(running: Running) -> Tally:
    """What flows meanwhile: requests at a rate, and streams."""

    async def both() -> Tally:
        plain, streams = await asyncio.gather(
            load.open_loop(target(running), rate_hz=RATE_HZ, seconds=FLOW_S),
            load.streams(target(running, stream=True), concurrent=STREAMS),
        )
        plain.failed += streams.failed
        plain.last_failure = plain.last_failure or streams.last_failure
        return plain

    return load.run(both)


def during_flow(patient: Patient, found: Found, case: str, act: Callable[[], object]) -> None:
    """Do it while requests flow."""
    patient.lab.script(FLOW)
    tallies: list[Tally] = []
    thread = threading.Thread(target=lambda: tallies.append(_flow(patient.running)))
    thread.start()
    time.sleep(SETTLE_S)
    patient.take()
    time.sleep(BEFORE_S)
    found.add("under load", patient.take())
    act()
    time.sleep(AFTER_S)
    found.add(case, patient.take())
    thread.join()
    if not tallies:
        raise FailedError(f"{case}: the flow broke off")
    sound(tallies[0], case)


def in_quiet(patient: Patient, found: Found, case: str, act: Callable[[], object]) -> None:
    """Do it with nothing else going on."""
    patient.take()
    act()
    found.add(case, patient.take())


def _series(patient: Patient) -> int:
    return sum(not line.startswith(b"#") for line in patient.ask("/metrics").splitlines())


def _fill_series(patient: Patient, names: int, wanted: int) -> int:
    """Ask under one name after the other until there are that many series."""
    for n in range(3, names):
        if n % 4 == 0 and (count := _series(patient)) >= wanted:
            return count
        patient.chat(chat_body("x", model=f"chat.of-{n}"))
    return _series(patient)


def _at_once(patient: Patient) -> None:
    patient.lab.script(SLOW)
    streams = target(patient.running, stream=True)
    sound(load.run(lambda: load.streams(streams, concurrent=AT_ONCE)), "streams at once")


def _plain(lab: Lab, options: Options, found: Found) -> None:
    """Cases of a sidecar as it comes."""
    names = 200
    with Patient(
        lab, **options.patient, pins=pin_file(names=names), more=("drain: {idle: 100ms, grace: 300ms}",)
    ) as patient:
        in_quiet(patient, found, "at rest", lambda: time.sleep(QUIET_S))
        for name, body in BODIES.items():
            during_flow(patient, found, name, partial(patient.chat, body))
        lab.script(replace(FLOW, answer_bytes=8_000_000))
        in_quiet(patient, found, "8 MB answer", partial(patient.chat, chat_body("x")))
        in_quiet(patient, found, f"{AT_ONCE} streams begin at once", partial(_at_once, patient))
        for wanted in (500, 2200):
            _fill_series(patient, names, wanted)
            during_flow(patient, found, f"scrape, {wanted} series", partial(patient.ask, "/metrics"))
        thread = threading.Thread(target=_until_drained, args=(patient,))
        thread.start()
        time.sleep(0.8)
        patient.take()
        found.add(f"drain of {AT_ONCE} streams", patient.stop())
        thread.join()


def _until_drained(patient: Patient) -> None:
    patient.lab.script(SLOW)
    streams = target(patient.running, stream=True)
    load.run(lambda: load.streams(streams, concurrent=AT_ONCE))  # they are broken off: that is what a drain does


def _all_policies(lab: Lab, options: Options, found: Found) -> None:
    """Cases of a sidecar with every policy on: prompts are hashed, answers kept."""
    with Patient(lab, **options.patient, pins=pin_file(frozenset(EVERYTHING))) as patient:
        for name, body in BODIES.items():
            during_flow(patient, found, f"{name}, every policy", partial(patient.chat, body))
        lab.script(replace(FLOW, answer_bytes=4_000_000))
        body = chat_body(f"keep {time.monotonic_ns()}")
        in_quiet(patient, found, "cache, 4 MB answer kept", partial(patient.chat, body))
        in_quiet(patient, found, "cache, 4 MB answer given again", partial(patient.chat, body))


LADEN = (
    ("}}", "}, breaker: {}, budget: {tokens_per_minute: 1000000000, usd_per_day: 1000000}}"),  # of a model
    ("-01}", "-01, fallback: [bench-2-2026-01-01], cache: {ttl: 1h}, hedge: {after: p95}}"),  # of a pin
)


def _pins(generation: int, kind: str, *, laden: bool = False) -> str:
    """2,000 pins; every other generation names other models, so that nothing of the one before is left.

    `laden`: each with the policies that a pin may have, and each model with those of a model.
    """
    made = pin_file(names=PINS, generation=generation)
    for found, instead in LADEN if laden else ():
        made = made.replace(found + "\n", instead + "\n")
    if generation % 2 == 0:
        made = made.replace("-2026-01-01", "-2026-02-01")
    return made if kind == "yaml" else json.dumps(yaml.load(made, Loader=yaml.CSafeLoader), separators=(",", ":"))


def _swaps(lab: Lab, options: Options, found: Found, kind: str, *, laden: bool = False) -> None:
    """Cases of a sidecar with 2,000 pins."""
    name, many = f"pins.{kind}", f"{PINS} pins {kind}" + (", every policy" if laden else "")
    with Patient(lab, **options.patient, pins=_pins(1, kind, laden=laden), pins_name=name) as patient:
        for generation in (2, 3):
            swap = partial(patient.swap, _pins(generation, kind, laden=laden), name, generation)
            in_quiet(patient, found, f"swap at rest, {many}", swap)
        for generation in (4, 5):
            swap = partial(patient.swap, _pins(generation, kind, laden=laden), name, generation)
            during_flow(patient, found, f"swap, {many}", swap)
        if kind == "json":
            during_flow(patient, found, f"scrape, {many}", partial(patient.ask, "/metrics"))
            during_flow(patient, found, f"GET /pins, {many}", partial(patient.ask, "/pins"))
            during_flow(patient, found, f"GET /v1/models, {many}", patient.models)


GROUPS: dict[str, Callable[[Lab, Options, Found], None]] = {
    "plain": _plain,
    "policies": _all_policies,
    "json": partial(_swaps, kind="json"),
    "yaml": partial(_swaps, kind="yaml"),
    "laden": partial(_swaps, kind="json", laden=True),
}


def measure(lab: Lab, options: Options | None = None) -> Iterator[Figure]:
    """All cases, one figure each, repeated; about 40 s a repetition."""
    yield from survey(lab, options or Options()).figures()


def survey(lab: Lab, options: Options) -> Found:
    """As `measure`, with all that the heart told."""
    found = Found()
    for repetition in range(options.repetitions):
        lab.say(f"stalls: {repetition + 1} of {options.repetitions}")
        for name, group in GROUPS.items():
            if options.only in (None, name):
                group(lab, options, found)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stalls", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--tree", type=Path, default=ROOT, help="another checkout of the sidecar")
    parser.add_argument("--only", choices=GROUPS, help="one group of cases")
    parser.add_argument("--where", action="store_true", help="also tell what ran while a beat was late")
    options = Options(**vars(parser.parse_args(argv)))
    with Lab() as lab:
        found = survey(lab, options)
    print(f"{'greatest gap of the loop, ms':42}{'median':>8}{'worst':>8}{'in loop':>9}{'gc':>7}{'clock':>8}")
    for figure in found.figures():
        gaps = found.cases[figure.case]
        worst = max(gaps, key=lambda g: g.process_ms)
        limit = LIMITS_MS.get(figure.case, LIMIT_MS)
        mark = f"  over {limit:.0f}" if figure.median > limit else ""
        print(
            f"{figure.case:42}{figure.median:8.1f}{worst.process_ms:8.1f}{worst.loop_ms:9.1f}{worst.gc_ms:7.1f}"
            f"{max(g.wall_ms for g in gaps):8.1f}{mark}"
        )
        for stack, times in worst.where.items():
            print(f"    {times} × {stack}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
