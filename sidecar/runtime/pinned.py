"""The pin file in use: what was loaded, what was refused, and the one assignment by which it is swapped.

A file is taken whole or not at all. A bad one changes nothing: the last good snapshot stays, and log, metric, audit
log and /pins tell why. What may follow what (a lower generation, the same one with other bytes) is decided here;
when to look is `reload`'s business.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from datetime import time as day_time
from pathlib import Path

from sidecar.compose import Snapshot, build
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_bytes, read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError
from sidecar.settings.static import Settings
from sidecar.settings.words import changes
from sidecar.state import State
from sidecar.telemetry.audit import Audit
from sidecar.telemetry.events import Events
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger("sidecar.pins")

MOST_WORDS = 200
"""Lines of change that an audit record and an event hold; `sidecar pins diff` tells them all."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a file found: its pins, or the error. `sha256` is None where its bytes could not be had.

    `changes` are those since the pins `since`, which were in use when it was looked at.
    """

    sha256: str | None
    pins: Pins | None
    error: ConfigError | None = None
    since: Pins | None = None
    changes: Sequence[str] | None = None


class Pinned:
    """The current snapshot and its story. `snapshot` is None until a usable file was seen."""

    def __init__(self, settings: Settings, state: State, metrics: Metrics, events: Events, audit: Audit) -> None:
        self._settings = settings
        self._state = state
        self._metrics = metrics
        self._events = events
        self._audit = audit
        self.snapshot: Snapshot | None = None
        self.loaded_at: float | None = None  # seconds since the epoch
        self.degraded = False
        self.trouble: str | None = None  # why the file as it stands now is not in use
        self._refused: str | None = None  # what was refused last, so that the same file is told of once
        self.on_swap: Callable[[], None] | None = None  # told of each new snapshot
        self._last: tuple[Path, Look] | None = None  # the last look that got bytes

    def _current(self) -> Pins | None:
        return self.snapshot.pins if self.snapshot is not None else None

    def _build(self, pins: Pins) -> Snapshot:
        return build(Parts(self._settings.providers, self._settings.default_provider, pins, self._state))

    def look(self, path: Path) -> Look:
        """What the file says, and what it changes. Does file I/O, never raises ConfigError.

        Runs in a thread: reading and comparing thousands of pins takes longer than a stream may wait. The same bytes
        aren't parsed again: a file that is touched a hundred times a second costs only its reading.
        """
        try:
            data = read_bytes(path)
        except ConfigError as error:
            return Look(None, None, error)
        sha256 = hashlib.sha256(data).hexdigest()
        if self._last is not None and self._last[0] == path and self._last[1].sha256 == sha256:
            return self._last[1]
        try:
            found = Look(sha256, read_pins(data, str(path), self._settings))
        except ConfigError as error:
            found = Look(sha256, None, error)
        self._last = path, found  # without what it was compared with: that would outlive its use
        if found.pins is None:
            return found
        since = self._current()
        return replace(found, since=since, changes=changes(since, found.pins, limit=MOST_WORDS))

    def judge(self, found: Look) -> None:
        """Take what was found, or refuse it."""
        if found.pins is not None:
            # A variant may have been stopped meanwhile: then they are compared anew.
            self.offer(found.pins, found.changes if found.since is self._current() else None)
        elif found.error is not None:
            self.refuse(_reason(found.error), None, found.sha256)

    def offer(self, pins: Pins, words: Sequence[str] | None = None) -> None:
        """A file was read: take it, unless it is what we have or may not follow what we have. `words`: its changes."""
        current = self._current()
        if current is not None and pins.sha256 == current.sha256 and not self.degraded:
            self.trouble = self._refused = None
            self._metrics.reload("unchanged")
            return
        result = "ok"
        if current is not None and pins.generation < current.generation:
            if self._settings.monotonic:
                reason = f"generation {pins.generation} is lower than {current.generation}, and `monotonic` is set"
                self.refuse(reason, pins.generation, pins.sha256)
                return
            result = "rollback"
        elif current is not None and pins.generation == current.generation and pins.sha256 != current.sha256:
            log.warning("generation %d came again with other bytes; the sha256 tells them apart", pins.generation)
        if words is None:
            words = changes(current, pins, limit=MOST_WORDS)
        self._take(pins, degraded=False)
        self._metrics.reload(result)
        self._tell(result, pins, words, None)
        for warning in pins.warnings:
            log.warning("%s", warning)
        log.info(
            "pins swapped: generation %s, sha256 %s", pins.label, pins.sha256, extra={"fields": {"changes": words}}
        )

    def offer_last_good(self, pins: Pins) -> None:
        """At start only: the file itself is unusable, and this copy stands in for it."""
        self._take(pins, degraded=True)
        reason = f"the last good copy, {pins.path}, stands in for the pin file"
        words = changes(None, pins, limit=MOST_WORDS)
        self._tell("ok", pins, words, reason)
        log.error("serving the last good pin file, generation %s: %s", pins.label, self.trouble)

    def refuse(self, reason: str, generation: int | None = None, sha256: str | None = None) -> None:
        """The file as it stands can't be used. Told once for each file and reason."""
        self.trouble = reason
        if self._refused == (told := f"{sha256} {reason}"):
            return
        self._refused = told
        self._metrics.reload("rejected")
        stays = "the last good one stays" if self.snapshot is not None else "and there is none to serve from yet"
        log.error("pin file refused, %s: %s", stays, reason)
        self._audit.swap(result="rejected", generation=generation, sha256=sha256, changes=(), reason=reason)
        self._events.swap(result="rejected", generation=generation, sha256=sha256, changes=(), reason=reason)

    def stop(self, pin: str, variant: str) -> Pins:
        """That variant to 0 from now on, until another file is accepted. Raises UnknownVariant, or LookupError."""
        if self.snapshot is None:
            raise LookupError("no pins are loaded")
        before = self.snapshot.pins
        pins = before.stop(pin, variant)
        if pins is not before:
            self.snapshot = self._build(pins)
            words = [f"{pin}: variant {variant} stopped"]
            self._metrics.pins(pins.label, pins.sha256, at=self.loaded_at, degraded=self.degraded)
            self._tell("stop", pins, words, "POST /pins/stop")
            log.warning("variant %s of %s stopped", variant, pin)
        return pins

    def _take(self, pins: Pins, *, degraded: bool) -> None:
        self.snapshot = self._build(pins)  # the swap: one assignment
        self.loaded_at = time.time()
        self.degraded = degraded
        if not degraded:
            self.trouble = self._refused = None
        metrics = self._metrics
        retires = {
            m.id: datetime.combine(m.retires, day_time(), UTC).timestamp() for m in pins.models.values() if m.retires
        }
        variants = {arm.name for pin in pins.pins.values() for arm in pin.arms}
        metrics.use(pins.models, [*pins.pins, *pins.aliases, *pins.models], retires, variants)
        metrics.pins(pins.label, pins.sha256, at=self.loaded_at, degraded=degraded)
        if self.on_swap is not None:
            self.on_swap()

    def _tell(self, result: str, pins: Pins, words: Sequence[str], reason: str | None) -> None:
        self._audit.swap(result=result, generation=pins.generation, sha256=pins.sha256, changes=words, reason=reason)
        self._events.swap(result=result, generation=pins.shown, sha256=pins.sha256, changes=words, reason=reason)


def _reason(error: ConfigError) -> str:
    faults = [str(problem) for problem in error.problems if problem.severity == "error"]
    return "; ".join(faults[:20])
