"""p99 of what is due in the second after a swap of the pin file, under 200 requests a second.

The file is replaced by a rename, as an editor or a mounted ConfigMap does, every other second while an open-loop load
runs; each swap is one repetition, and each must be in force in the end. The case `..., before` is the same in the
second before each swap. The curve holds each request around the first swap: seconds from it, and its latency in ms.
Traps: of 200 requests p99 is the second worst, so a stall of 10 ms is in it, a shorter one may not be; the direct path
is not taken off.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks import load
from benchmarks.caller import Tally
from benchmarks.figures import Figure, percentile
from benchmarks.lab import FailedError, sound, target
from benchmarks.measures import pins
from benchmarks.measures.bench import OURS, Bench
from benchmarks.provider import Script
from benchmarks.systems import Running

RATE_HZ = 200.0
EVERY_S = 2.0
CASES = ((10, "yaml"), (2000, "yaml"), (2000, "json"))


@dataclass(frozen=True, slots=True)
class Swap:
    """Latencies in ms: in the second before, in the second after, and of each request with its time from the swap."""

    before: list[float]
    after: list[float]
    around: list[tuple[float, float]]


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    swaps = bench.pace.times(4)
    for names, kind in CASES:
        case = pins.case(names, kind)
        bench.lab.say(f"swaps of {case}: {swaps}")
        with bench.variants({case: {"pins": pins.text(names, kind), "pins_name": f"pins.{kind}"}}) as fresh:
            found = _swaps(fresh[case], names, kind, swaps)
        for words, values in (("", [s.after for s in found]), (", before", [s.before for s in found])):
            p99 = [percentile(latencies, 0.99) for latencies in values]
            curve = [] if words else found[0].around
            yield Figure("swap_p99", OURS, case + words, "ms", p99, curve=curve)


def _swaps(to: Running, names: int, kind: str, swaps: int) -> list[Swap]:
    folder = to.process.log.parent
    texts = [pins.text(names, kind, generation=n) for n in range(2, swaps + 2)]
    at: list[float] = []

    def swap() -> None:
        fresh = folder / "fresh"
        fresh.write_text(texts[len(at)])
        at.append(time.perf_counter())
        fresh.rename(folder / f"pins.{kind}")

    async def under_load() -> Tally:
        for number in range(swaps):
            asyncio.get_running_loop().call_later(EVERY_S * (number + 0.75), swap)
        return await load.open_loop(target(to), rate_hz=RATE_HZ, seconds=EVERY_S * (swaps + 0.25))

    sound(load.run(partial(load.closed, target(to), connections=8, requests=200), limit_s=30), to.name)
    tally = sound(load.run(under_load, precise=True), to.name)
    if (now := generation(to)) != str(swaps + 1):
        raise FailedError(f"generation {now} is in force after {swaps} swaps from 1")
    return [_around(tally, moment) for moment in at]


def _around(tally: Tally, moment: float) -> Swap:
    found = sorted((due - moment, s * 1000) for due, s in zip(tally.due_s, tally.latency_s, strict=True))
    around = [(at, ms) for at, ms in found if -1 <= at < 1]
    return Swap([ms for at, ms in around if at < 0], [ms for at, ms in around if at >= 0], around)


def generation(to: Running) -> str:
    """Which generation of the pin file the sidecar serves by, as its answers say."""
    return answer_headers(to).get("x-sidecar-generation", "")


def answer_headers(to: Running, *, unique: bool = True) -> dict[str, str]:
    """Those of one request's answer, lower case."""
    head, _, body = target(to, unique=unique).request().partition(b"\r\n\r\n")
    told = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    url = f"http://127.0.0.1:{to.port}{to.path}"
    request = urllib.request.Request(url, body, told)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
        answer.read()
        return {name.lower(): value for name, value in answer.headers.items()}
