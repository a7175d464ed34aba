"""Drills: each fallback gets a tiny request now and then, so that it is known to work before it is needed.

One background task for all pins, and none where no pin asks for it; one drill at a time, beside the requests and never
in their way. A drill is an attempt like one that falls back: it needs budget and is charged, the breaker hears how it
ended, faults are read by the same code. But it is sent once, on a connection of its own, with the provider's own
credential or none (some servers need none): a caller's is never kept. Nothing is learned from it about the sizes of
requests and answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.compose import Snapshot
from sidecar.core.dice import dice
from sidecar.core.facts import Attempt, Cause, Exchange, Fault, Result, Target
from sidecar.core.race import Race
from sidecar.dialects import pings, registry
from sidecar.dialects.pings import Ping
from sidecar.runtime.answer import Answer
from sidecar.runtime.body import Held
from sidecar.runtime.driver import Driver, Plan, Report
from sidecar.runtime.shared import Shared
from sidecar.runtime.upstream import Shipment
from sidecar.settings.pins import Model, Pin
from sidecar.settings.prices import cost_usd
from sidecar.state.drills import Drill, Drilled

log = logging.getLogger("sidecar.drills")

SOON_S = 60.0
"""The first drill comes within so long, at a moment drawn by lot, so that a fleet's pods don't drill all at once."""

NO_CREDENTIAL = "no_credential"
NO_BUDGET = "no_budget"
NOT_FOUND = 404


class Drilling:
    """Starts and stops with the process; follows the pin file in use."""

    def __init__(self, shared: Shared, *, soon_s: float = SOON_S) -> None:
        self._shared = shared
        self._soon_s = soon_s
        self._seed = shared.new_id()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._told: set[str] = set()  # the providers without a credential that the log knows of

    def start(self) -> None:
        self._shared.pinned.on_swap = self.plan
        self.plan()

    async def stop(self) -> None:
        """No further drill; one under way is broken off."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def plan(self) -> None:
        """Another pin file is in use."""
        snapshot = self._shared.pinned.snapshot
        if snapshot is None or self._stopped:
            return
        every_s = {
            Drill(pin.name, Target(model.provider, model.id)): float(pin.source.drill.every)
            for pin in snapshot.pins.pins.values()
            if pin.source.drill is not None
            for model in pin.fallback
        }
        start_s = {drill: min(every, self._soon_s) * self._chance(drill) for drill, every in every_s.items()}
        self._shared.state.drills.plan(every_s, start_s, self._shared.now())
        self._wake.set()
        if every_s and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="drills")

    def _chance(self, drill: Drill) -> float:
        return dice(self._seed, f"drill {drill.pin} {drill.target.model}", 0)

    async def _run(self) -> None:
        shared = self._shared
        while (upcoming := shared.state.drills.next()) is not None:
            due_at, drill = upcoming
            self._wake.clear()
            if (left_s := due_at - shared.now()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._wake.wait()
                continue  # time has passed, or the plan has changed
            shared.state.drills.begin(drill, shared.now())
            snapshot = shared.pinned.snapshot
            assert snapshot is not None
            pin, model = snapshot.pins.pins.get(drill.pin), snapshot.pins.models.get(drill.target.model or "")
            if pin is None or model is None:
                continue
            try:
                await self._drill(snapshot, pin, model, drill)
            except Exception as exc:  # a bug of ours must not end the drills
                log.exception("a bug in a drill", extra={"fields": {"pin": pin.name, "type": type(exc).__name__}})

    async def _drill(self, snapshot: Snapshot, pin: Pin, model: Model, drill: Drill) -> None:
        doors = pings.PINGS[model.dialect]
        for number, ping in enumerate(doors, start=1):
            once = _Once(self._shared, snapshot, pin, model)
            attempt = await once.send(ping, last=number == len(doors))
            if attempt.result is not None or once.refused is not None:
                self._publish(drill, attempt, once.refused or self._trouble(attempt, model), model)
                return

    def _trouble(self, attempt: Attempt, model: Model) -> str | None:
        """The fault; a refusal of what was sent without a credential says only that there is none."""
        provider = model.provider
        if attempt.fault is not Fault.REFUSED or self._shared.state.credentials.secret(provider) is not None:
            self._told.discard(provider)
            return attempt.fault
        if provider not in self._told:
            self._told.add(provider)
            log.warning("provider %s has no credential of its own, so fallbacks to it cannot be drilled", provider)
        return NO_CREDENTIAL

    def _publish(self, drill: Drill, attempt: Attempt, trouble: str | None, model: Model) -> None:
        """To /pins, the events, the metrics, and the log where it changed."""
        shared, name = self._shared, model.id
        ok = attempt.result is Result.OK
        latency_s = (attempt.ended_at or attempt.started_at) - attempt.started_at
        before = shared.state.drills.of(drill.pin).get(name)
        done = Drilled(ok, time.time(), attempt.status, trouble and str(trouble), latency_s)
        shared.state.drills.end(drill, done)
        shared.metrics.drilled(drill.pin, name, ok, done.at)
        cost = cost_usd(attempt.usage, model) if attempt.usage is not None else None
        shared.events.drill(drill, done, attempt.usage, cost)
        if ok:
            shared.state.latency.observe(name, latency_s)
        if before is None or (before.ok, before.trouble) != (ok, done.trouble):
            say = log.info if ok else log.warning
            say("drill of %s for %s: %s", name, drill.pin, "it works" if ok else done.trouble)


class _Once:
    """One attempt of one drill."""

    __slots__ = ("_model", "_pin", "_shared", "_snapshot", "refused")

    def __init__(self, shared: Shared, snapshot: Snapshot, pin: Pin, model: Model) -> None:
        self._shared = shared
        self._snapshot = snapshot
        self._pin = pin
        self._model = model
        self.refused: str | None = None  # why nothing was sent

    async def send(self, ping: Ping, *, last: bool) -> Attempt:
        """Its `result` is None if nothing can be said yet: there is no such path for it, and another one is left."""
        shared, model, pipeline = self._shared, self._model, self._snapshot.pipeline
        headers = CIMultiDictProxy(CIMultiDict(ping.headers))
        route = registry.find("POST", ping.path, "", headers, shared.dialects)
        draft = registry.read(route, headers, ping.body, content_type="application/json")
        names = {pings.NAME: model.id}
        now = shared.now()
        target = Target(model.provider, model.id)
        x = Exchange(shared.new_id(), draft.ask, now, kind="pin", pin=self._pin.name, targets=(target,), drill=True)
        attempt = Attempt(1, target, Cause.FALLBACK, now)
        if not pipeline.enter(x, attempt, now):
            self.refused = NO_BUDGET
            attempt.ended_at = now
            return attempt
        shipment = Shipment("POST", draft.path(names), headers, draft.body(names), None, encoding="identity")
        timeouts = self._snapshot.pins.timeouts(self._pin.name)
        deadline = now + min(timeouts.first_event_s, timeouts.total_s)
        plan = Plan(
            dialect=registry.DIALECTS[model.dialect],
            endpoint=route.endpoint,
            ship=lambda _: shipment,
            connect_s=timeouts.connect_s,
            idle_s=timeouts.idle_s,
            hold_s=timeouts.total_s,
            deadline=deadline,
            upload_refusal=lambda: None,
            generates=True,
            streams_json=False,
        )
        race = Race((target,), pipeline.bound(x), attempts=[attempt], max_attempts=1, deadline=deadline, late=False)
        held = Held(shared.buffers)
        driver = Driver(shared.upstream, race, plan, held)
        attempt.result = Result.CLIENT_GONE  # nobody's fault, should we be stopped in the middle
        try:
            report, answer = await driver.once(attempt)
            attempt.fault = _fault(report, answer)
            attempt.result = Result.OK if attempt.fault is None else Result.FAILED
            if attempt.status == NOT_FOUND and not last:
                attempt.result = attempt.fault = None
        finally:
            driver.close()
            held.release()
            attempt.ended_at = shared.now()
            attempt.first_at = attempt.ended_at if attempt.result is Result.OK else None
            pipeline.leave(x, attempt, attempt.ended_at)
        return attempt


def _fault(report: Report, answer: Answer | None) -> Fault | None:
    """None if the model answered: what a real fallback would have been."""
    if report.fault is not None:
        if answer is not None and pings.works(answer.response.status, answer.held):
            return None
        return report.fault
    # Whole JSON, or something that no model says: a log-in page, a redirect.
    ok = report.useful and answer is not None and 200 <= answer.response.status < 300
    return None if ok else Fault.BROKEN
