"""CPU of one relayed event of a stream: 16 streams side by side, an event of each every 4 ms, 200 of them.

The request's own cost is taken off: as many streams of two events, run right after, are subtracted. Traps: events that
arrive together are relayed together, which is cheaper; so streams don't begin in step, a slow system gets fewer of them
(at most half its core), and where it still passes on several at a time, the note says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks import load
from benchmarks.caller import Tally
from benchmarks.figures import Figure
from benchmarks.lab import sound, target
from benchmarks.measures.bench import Bench
from benchmarks.provider import Script

GAP_MS = 4.0
STREAMS = 16
EVENTS = 200
SHORT = Script(chunks=1, gap_ms=GAP_MS)
TOGETHER = 1.05  # events in one read, from which on it is said


@dataclass(frozen=True, slots=True)
class Found:
    us: float
    streams: int
    per_read: float


def _run(bench: Bench, name: str, script: Script, streams: int) -> tuple[float, Tally]:
    """CPU seconds, and what was seen."""
    bench.lab.script(script)
    to = bench.running[name]
    where = target(to, stream=True)
    before = to.process.cpu_s()
    make = partial(load.streams, where, concurrent=streams, ramp_s=0.1)
    tally = sound(load.run(make, limit_s=120), name)
    return to.process.cpu_s() - before, tally


def _streams(bench: Bench, name: str) -> int:
    """How many at once take no more than half of its core."""
    cpu_s, tally = _run(bench, name, Script(chunks=50, gap_ms=10), STREAMS)
    us = cpu_s / tally.chunks * 1e6
    return max(1, min(STREAMS, int(0.5 * GAP_MS * 1000 / us)))


def measure(bench: Bench) -> Iterator[Figure]:
    times, length = bench.pace.plan(4, EVENTS)
    events = max(50, int(length))
    fitting: dict[str, int] = {}

    def one(name: str) -> Found:
        if name not in fitting:
            fitting[name] = _streams(bench, name)
        streams = fitting[name]
        cpu_s, tally = _run(bench, name, Script(chunks=events, gap_ms=GAP_MS), streams)
        short_s, short = _run(bench, name, SHORT, streams)
        us = (cpu_s - short_s) / (tally.chunks - short.chunks) * 1e6
        return Found(us, streams, tally.chunks / max(tally.reads, 1))

    found = bench.rounds("CPU per chunk", bench.names(), times, one)
    yield from found.figures("cpu_per_chunk", "µs", lambda f: f.us, note=_note)


def _note(found: list[Found]) -> str:
    streams = found[0].streams
    words = [f"{streams} stream{'s' * (streams > 1)} at a time"] if streams != STREAMS else []
    most = max(f.per_read for f in found)
    words += [f"{most:.1f} events in a read"] if most > TOGETHER else []
    return "; ".join(words)
