"""Circuit breakers, one for each target: the adapter over pybreaker.

pybreaker holds the state and makes the transitions; `tripped` beside it says the same in one step, since each request
asks. All else is here, since it has no way to do it: counting (it knows
only consecutive failures), time (it reads the wall clock), and the single probe (its half-open state lets everybody
in). Its paths that call something are never used: under asyncio they count a cancellation as a failure and an excluded
exception as a success, which wipes the failures before it.

Decided here: when a target trips, for how long, and who may probe it. Not decided here: which outcome of an attempt is
a failure, and what is done about a tripped target (`policies/breaker.py`).

An outcome speaks for the time in which its attempt was let in. So each trip and each closing begins a new era, and an
attempt of an older one changes nothing: a late failure doesn't prolong a rest, a late success doesn't end it.

    let in while     success             failure       trip          neutral
    closed           counts              counts        trips         nothing
    half-open        closes              trips again   trips again   gives the permit back
    open ("panic")   closes              nothing       nothing       nothing
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Literal

import pybreaker

from sidecar.core.facts import Target
from sidecar.settings.schema import BreakerSpec

KEPT = 2_048
"""Targets kept at most; beyond that, closed ones with nothing under way are forgotten."""

SLICES = 20
"""Parts of a window. What is older than the window goes a part at a time, so it is up to 5 % shorter than it says."""

State = Literal["closed", "open", "half_open"]
Verdict = Literal["success", "failure", "trip", "neutral"]


class Breakers:
    """`on_trip(target, reopens_at)` is called at each trip that was decided here, not at those taken over by `trip`."""

    __slots__ = ("_circuits", "_latest", "on_trip")

    def __init__(self, on_trip: Callable[[Target, float], None] | None = None) -> None:
        self._circuits: dict[Target, _Circuit] = {}
        self._latest = 0.0
        self.on_trip = on_trip

    def state(self, target: Target, now: float) -> State:
        """`open` also while a provider's own pause lasts; `half_open` as soon as the rest is over."""
        circuit = self._circuits.get(target)
        return "closed" if circuit is None else circuit.state(now)

    def states(self, now: float) -> dict[Target, State]:
        """Of all that are known; the others are closed."""
        return {target: circuit.state(now) for target, circuit in self._circuits.items()}

    def probe_free(self, target: Target) -> bool:
        circuit = self._circuits.get(target)
        return circuit is None or circuit.probe is None

    def reopens_at(self, target: Target) -> float:
        """When it may be, or might have been, probed; 0.0 if it never tripped."""
        circuit = self._circuits.get(target)
        return 0.0 if circuit is None else circuit.reopens_at

    def enter(self, target: Target, key: Hashable, now: float, *, panic: bool = False) -> bool:
        """Let an attempt in: into a closed circuit, as the probe of a half-open one, or, with `panic`, regardless.

        `key` is the attempt's until it leaves, and no other's. False: it isn't in, and doesn't leave.
        """
        circuit = self._circuit(target, now)
        state = circuit.state(now)
        if state == "closed":
            part = Part.ORDINARY
        elif state == "half_open" and circuit.probe is None:
            circuit.breaker.half_open()
            circuit.probe = key
            part = Part.PROBE
        elif panic:
            part = Part.PANIC
        else:
            return False
        circuit.inside[key] = (circuit.era, part)
        return True

    def leave(self, target: Target, key: Hashable, verdict: Verdict, spec: BreakerSpec, now: float) -> None:
        """An attempt that was let in is over. Who isn't in changes nothing."""
        self._latest = max(self._latest, now)
        circuit = self._circuits.get(target)
        entered = circuit.inside.pop(key, None) if circuit is not None else None
        if circuit is None or entered is None:
            return
        era, part = entered
        if circuit.probe == key:
            circuit.probe = None
        if era != circuit.era or verdict == "neutral":
            return
        if part is Part.ORDINARY:
            if verdict == "trip" or circuit.counted(verdict == "failure", spec, now):
                self._trip(target, circuit, verdict, spec, now)
        elif verdict == "success":
            circuit.close()
        elif part is Part.PROBE:
            self._trip(target, circuit, verdict, spec, now)

    def rest(self, target: Target, until: float) -> None:
        """The provider asked to be left alone. A shorter pause never shortens a longer one; no success ends it."""
        circuit = self._circuit(target, self._latest)
        circuit.rest_until = max(circuit.rest_until, until)

    def trip(self, target: Target, until: float) -> None:
        """Take over a trip that somebody else decided. What is under way here then says nothing about it."""
        circuit = self._circuit(target, self._latest)
        if circuit.tripped and until <= circuit.reopens_at:
            return
        circuit.open(until)

    def _trip(self, target: Target, circuit: _Circuit, verdict: Verdict, spec: BreakerSpec, now: float) -> None:
        rest_s = spec.max_cooldown if verdict == "trip" else max(spec.cooldown, 2 * circuit.rested_s)
        circuit.rested_s = min(float(rest_s), float(spec.max_cooldown))
        circuit.open(now + circuit.rested_s)
        if self.on_trip is not None:
            self.on_trip(target, circuit.tripped_until)

    def _circuit(self, target: Target, now: float) -> _Circuit:
        self._latest = max(self._latest, now)
        circuit = self._circuits.get(target)
        if circuit is None:
            if len(self._circuits) >= KEPT:
                self._forget()
            circuit = self._circuits[target] = _Circuit()
        return circuit

    def _forget(self) -> None:
        """Those that are closed; if there is none, the one that is the next to be probed."""
        idle = [target for target, circuit in self._circuits.items() if not circuit.inside]
        closed = [target for target in idle if self._circuits[target].state(self._latest) == "closed"]
        for target in closed or sorted(idle, key=self.reopens_at)[:1]:
            del self._circuits[target]


class Part(Enum):
    """As what an attempt was let in."""

    ORDINARY = auto()
    PROBE = auto()
    PANIC = auto()


class _Circuit:
    __slots__ = (
        "breaker", "era", "inside", "probe", "rest_until", "rested_s", "row", "tripped", "tripped_until", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self.breaker = pybreaker.CircuitBreaker(fail_max=sys.maxsize, state_storage=storage)
        self.tripped = False  # its state isn't closed
        self.era = 0
        self.inside: dict[Hashable, tuple[int, Part]] = {}  # key → era, and as what
        self.probe: Hashable | None = None  # who holds the permit
        self.tripped_until = 0.0
        self.rest_until = 0.0  # what the provider asked for
        self.rested_s = 0.0  # the last cooldown; 0 once a probe went well
        self.row = 0  # consecutive failures
        self.window = Window()

    @property
    def reopens_at(self) -> float:
        return max(self.tripped_until, self.rest_until)

    def state(self, now: float) -> State:
        if now < self.tripped_until or now < self.rest_until:
            return "open"
        return "half_open" if self.tripped else "closed"

    def counted(self, failed: bool, spec: BreakerSpec, now: float) -> bool:
        """Whether this outcome, once counted, trips it. A success never does, however bad the window looks."""
        self.row = self.row + 1 if failed else 0
        self.window.add(failed, spec.window, now)
        if not failed:
            return False
        if self.row >= spec.failures:
            return True
        total, failures = self.window.sums()
        return total >= spec.minimum and failures >= spec.ratio * total

    def open(self, until: float) -> None:
        self.breaker.open()
        self.tripped = True
        self.tripped_until = max(self.tripped_until, until)
        self._new_era()

    def close(self) -> None:
        """A pause that the provider asked for stays: that one small request passed doesn't end it."""
        if not self.tripped:
            return
        self.breaker.close()
        self.tripped = False
        self.tripped_until = self.rested_s = 0.0
        self._new_era()

    def _new_era(self) -> None:
        self.era += 1
        self.probe = None
        self.row = 0
        self.window.clear()


class Window:
    """Outcomes of the last `window_s` seconds, in at most `SLICES` counts."""

    __slots__ = ("_slice_s", "_slices")

    def __init__(self) -> None:
        self._slice_s = 0.0
        self._slices: deque[list[int]] = deque()  # number of the slice, outcomes, failures

    def add(self, failed: bool, window_s: float, now: float) -> None:
        if window_s != self._slice_s * SLICES:
            self._slices.clear()  # the pin file changed it
            self._slice_s = window_s / SLICES
        number = int(now // self._slice_s)
        if not self._slices or self._slices[-1][0] < number:
            self._slices.append([number, 0, 0])
        newest = self._slices[-1]
        newest[1] += 1
        newest[2] += failed
        number = newest[0]
        while self._slices[0][0] <= number - SLICES:
            self._slices.popleft()

    def sums(self) -> tuple[int, int]:
        """Outcomes and failures, up to the last one added."""
        return sum(s[1] for s in self._slices), sum(s[2] for s in self._slices)

    def clear(self) -> None:
        self._slices.clear()
