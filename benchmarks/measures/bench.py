"""What a measure gets to work with: who takes part, who is running, how long it may take, and rounds over all of them.

Decides how repetitions are interleaved and what becomes of a system that fails: it is left out from then on, and why
stands in its figure's note. Does not decide what is measured: each measure has a file of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from benchmarks import load
from benchmarks.figures import Figure
from benchmarks.lab import SMALL_PROMPT, FailedError, Lab, sound, target
from benchmarks.processes import StartError, core_s
from benchmarks.provider import Script
from benchmarks.systems import Running

OURS = "model-sidecar"
DIRECT = "direct"
LOAD_CAN = 9_000.0
"""Requests/s that our own load and the provider manage on one core between them, with some room."""

SETTLE_S = 1.0
"""Until a process that was just started, or loaded, has its memory as it stays."""

FULL = 0.9  # of its core: at saturation
OTHERS = 0.1  # of its core, by other processes: worth a word

V = TypeVar("V")
FAILURES = (FailedError, StartError, OSError, TimeoutError)


class Subject(Protocol):
    """Someone who can be started to be measured: ours, the yardstick, a peer."""

    @property
    def name(self) -> str: ...

    @property
    def warm_up(self) -> int: ...

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running: ...


@dataclass(slots=True)
class Pace:
    """How long to measure: at 1 as long as each measure thinks right; less means fewer repetitions, and shorter."""

    scale: float = 1.0

    def times(self, usual: int, least: int = 2) -> int:
        """How often to repeat."""
        return max(min(least, usual), round(usual * math.sqrt(self.scale)))

    def plan(self, times: int, length: float, least: int = 2) -> tuple[int, float]:
        """How often to repeat, and how long (or how much) one repetition is: both together are to scale."""
        often = self.times(times, least)
        return often, length * times * self.scale / often


@dataclass(slots=True)
class Rounds(Generic[V]):
    """What was found in each round, by name, and who failed, and why. Who failed has fewer values."""

    values: dict[str, list[V]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def figures(
        self,
        measure: str,
        unit: str,
        value: Callable[[V], float],
        *,
        case: str = "",
        note: Callable[[list[V]], str] = lambda _: "",
    ) -> Iterator[Figure]:
        """One for each system, of a number in what was found. `note` is made from all that was found of it."""
        for name, found in self.values.items():
            words = [note(found)] if found else []
            words += [f"failed: {self.failures[name]}"] if name in self.failures else []
            yield Figure(measure, name, case, unit, [value(one) for one in found], "; ".join(filter(None, words)))


@dataclass(slots=True)
class Bench:
    """`running`: who takes part, started in front of the provider. `known`: their requests/s at saturation.

    `rest_mib`: their memory before the first request. `starts_s`: how long each start took. `failures`: in words.
    """

    lab: Lab
    subjects: Mapping[str, Subject]
    running: dict[str, Running] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    known: dict[str, float] = field(default_factory=dict)
    rest_mib: dict[str, float] = field(default_factory=dict)
    starts_s: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def names(self, *only: str) -> list[str]:
        """Who is running, in order; of these only, if any are named."""
        return [name for name, one in self.running.items() if one.process.alive and (not only or name in only)]

    def start(self, name: str, upstream_port: int | None = None) -> Running:
        """One more of this system, in front of the provider if nothing else is said. Raises StartError, OSError."""
        subject = self.subjects[name]
        port = self.lab.provider.port if upstream_port is None else upstream_port
        running = subject.start(self.lab.place(name), port, cores=self.lab.measured)
        if running.process.listening_s:
            self.starts_s.setdefault(name, []).append(running.process.listening_s)
        return running

    def rest(self) -> None:
        """Look at everyone's memory, some time after the last has started."""
        time.sleep(SETTLE_S)
        self.rest_mib = {name: one.process.memory_mib() for name, one in self.running.items()}

    def warm_up(self, name: str, to: Running) -> None:
        """As many requests as it says that it needs."""
        self.lab.script(Script())
        requests = self.subjects[name].warm_up
        sound(load.run(partial(load.closed, target(to), connections=32, requests=requests), limit_s=120), name)

    @contextmanager
    def started(self, names: Iterable[str], upstream_port: int | None = None) -> Iterator[dict[str, Running]]:
        """Fresh ones of these for a while; who doesn't start is left out, and said."""
        fresh: dict[str, Running] = {}
        try:
            for name in names:
                try:
                    fresh[name] = self.start(name, upstream_port)
                except FAILURES as error:
                    self.failed(name, "start", error)
            yield fresh
        finally:
            stop(fresh.values())

    @contextmanager
    def variants(self, settings: Mapping[str, Mapping[str, object]]) -> Iterator[dict[str, Running]]:
        """Ours in several settings (those of `systems.sidecar`), by case, warmed up."""
        fresh: dict[str, Running] = {}
        try:
            for case, given in settings.items():
                fresh[case] = self.lab.sidecar(**given)  # type: ignore[arg-type]
                self.warm_up(OURS, fresh[case])
            yield fresh
        finally:
            stop(fresh.values())

    def rounds(self, what: str, names: Iterable[str], times: int, one: Callable[[str], V]) -> Rounds[V]:
        """`one(name)` for each in turn, so many times over: what one round holds was measured side by side."""
        found: Rounds[V] = Rounds({name: [] for name in names})
        for number in range(times):
            self.lab.say(f"{what}: round {number + 1} of {times}")
            for name, values in found.values.items():
                if name in found.failures:
                    continue
                try:
                    values.append(one(name))
                except FAILURES as error:
                    found.failures[name] = self.failed(name, what, error)
        return found

    def failed(self, name: str, what: str, error: Exception) -> str:
        """Note that it did; the reason in one line."""
        why = " ".join(f"{error}".split())[:200] or type(error).__name__
        self.failures.append(f"{name}, {what}: {why}")
        self.lab.say(f"{what}: {name} failed: {why}")
        return why

    def capacity(self, name: str, to: Running | None = None) -> float:
        """Requests/s that it can do, as far as our load can tell; asked of it once, unless saturation has told it."""
        if name not in self.known:
            self.known[name] = _probed(to or self.running[name])
        return self.known[name]

    def requests(self, name: str, seconds: float, to: Running | None = None, *, least: int = 64) -> int:
        """How many requests take about so long at saturation by our own load."""
        return max(least, int(seconds * min(self.capacity(name, to), LOAD_CAN)))


def stop(processes: Iterable[Running]) -> None:
    """All of them, side by side: some take their time (ours lets clients go for 2 s)."""
    with ThreadPoolExecutor(16) as threads:
        for ended in [threads.submit(one.stop) for one in processes]:
            ended.result()


def _probed(to: Running) -> float:
    """Requests/s of our own load, growing until it takes long enough to tell."""
    where = target(to)
    requests = 32
    while True:
        begun = time.monotonic()
        sound(load.run(partial(load.closed, where, connections=32, requests=requests), limit_s=60), to.name)
        took = time.monotonic() - begun
        if took > 0.4 or requests > LOAD_CAN:
            return requests / took
        requests = int(requests * min(10, 0.6 / took)) + 1


@dataclass(frozen=True, slots=True)
class Busy:
    """What a process, and everyone, used of its core for a while, as shares of that time."""

    own: float
    core: float

    @property
    def words(self) -> str:
        """Nothing if it had the core to itself, and used it up."""
        if self.core - self.own > OTHERS:
            return f"others used {self.core - self.own:.0%} of its core".replace("%", " %")
        return "" if self.own > FULL else f"at {self.own:.0%} of its core".replace("%", " %")


class Watch:
    """Begins to look at how busy a process and its core are; `busy()` tells of the time since."""

    def __init__(self, lab: Lab, to: Running) -> None:
        self._process, self._core = to.process, lab.cores.measured
        self._core_s = core_s(self._core)
        self._cpu_s, self._begun = to.process.cpu_s(), time.monotonic()

    def cpu_s(self) -> float:
        return self._process.cpu_s() - self._cpu_s

    def busy(self) -> Busy:
        used, took = self.cpu_s(), time.monotonic() - self._begun
        return Busy(used / took, (core_s(self._core) - self._core_s) / took)


def worst(found: Iterable[Busy]) -> str:
    """In words, of the one in the middle by its own share."""
    ordered = sorted(found, key=lambda busy: busy.own)
    return ordered[len(ordered) // 2].words


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU µs of a request, and how busy it kept its core."""

    us: float
    busy: Busy


def cpu_per_request(
    bench: Bench,
    to: Running,
    requests: int,
    *,
    connections: int = 32,
    prompt: int = SMALL_PROMPT,
    unique: bool = True,
) -> Cost:
    """Of so many requests by our own load, at saturation as far as that can."""
    where = target(to, unique=unique, prompt=prompt)
    watch = Watch(bench.lab, to)
    sound(load.run(partial(load.closed, where, connections=connections, requests=requests), limit_s=120), to.name)
    return Cost(watch.cpu_s() / requests * 1e6, watch.busy())


def costs(found: Rounds[Cost], case: str) -> Iterator[Figure]:
    """`cpu_per_request` of each system, in the same case."""
    return found.figures(
        "cpu_per_request", "µs", lambda cost: cost.us, case=case, note=lambda all_: worst(cost.busy for cost in all_)
    )


def costs_by_case(found: Rounds[Cost], system: str = OURS) -> Iterator[Figure]:
    """`cpu_per_request` of one system, whose cases are what the rounds were over."""
    for figure in found.figures("cpu_per_request", "µs", lambda cost: cost.us):
        yield replace(figure, system=system, case=figure.system)
