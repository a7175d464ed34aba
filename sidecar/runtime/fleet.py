"""What pods share, through a Valkey or Redis server: budgets, a second tier of the cache, trips of breakers.

One task talks to the server once a second, and at once when a slice runs low; requests never wait for it. When the
server doesn't answer in time the pod goes on with its local shares (`state/leases`) and tries again with pauses. Only
the second tier is asked while a request waits (`fleet_cache`), on connections and with a circuit breaker of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from sidecar.core.answers import Stored
from sidecar.core.facts import Target
from sidecar.runtime import fleet_script
from sidecar.runtime.fleet_cache import SecondTier
from sidecar.runtime.fleet_link import Connect, Link, LinkError, connector
from sidecar.runtime.fleet_trips import Trips
from sidecar.settings.options import FleetSpec
from sidecar.state import State
from sidecar.state.leases import Ask, Leases

log = logging.getLogger("sidecar.fleet")

START_S = 0.5
"""So long a start waits for the server, and a shutdown for giving back."""
CONNECT_S = 1.0
ANSWER_S = 0.25
"""For the answer to a background question. Later than that, the pod lives on its local share."""
LATE_S = 0.02
"""From then on the pod counts on its local share until the answer comes: a slow server is no reason to refuse."""
EVERY_S = 1.0
SOON_S = 0.1
LEAST_S = 0.005
"""Between two questions in a hurry; `SOON_S` if the last one brought nothing."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
LINES_AT_ONCE = 100
"""Limits in one step of the server, which does nothing else meanwhile."""


class Fleet:
    """`start` it once the pin file is loaded; it sets itself into the ledger and the breakers."""

    def __init__(self, connect: Connect, deadline_s: float, state: State, on_change: Callable[[bool], None]) -> None:
        self.pod = os.urandom(8).hex()
        self.leases = Leases(self._touched)
        self.cache = SecondTier(connect, deadline_s)
        self._connect = connect
        self._state = state
        self._on_change = on_change
        self._trips = Trips(self.pod)
        self._link: Link | None = None
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._gained = True
        self._ever = False
        self._loop = asyncio.get_running_loop()

    @classmethod
    def build(cls, spec: FleetSpec | None, state: State, on_change: Callable[[bool], None]) -> Fleet | None:
        """None without the section, or where it can't be followed; a warning tells why."""
        if spec is None:
            return None
        try:
            connect = connector(str(spec.url))
        except ImportError:
            log.warning("fleet_missing: the extra `fleet` is not installed; this pod counts for itself")
            return None
        except (ValueError, TypeError) as exc:
            log.warning("fleet_url: `fleet.url` can't be used (%s); this pod counts for itself", type(exc).__name__)
            return None
        return cls(connect, float(spec.deadline), state, on_change)

    @property
    def up(self) -> bool:
        return self.leases.up

    async def start(self) -> None:
        """Lease the first slices if the server answers soon; if it doesn't, that goes on in the background."""
        self._on_change(False)
        self._state.ledger.leases = self.leases
        self._state.breakers.on_trip = self._tripped
        try:
            async with asyncio.timeout(START_S):
                await self._open()
                await self._take_its_time()
                await self._sync()
        except (LinkError, TimeoutError) as exc:
            self._lost(str(exc) or "no answer in time")
        self._tasks = [self._loop.create_task(self._run()), self._loop.create_task(self.cache.run())]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Give back what isn't used, if that can be done soon."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.leases.on_touch = lambda: None
        if self.up:
            try:
                async with asyncio.timeout(START_S):
                    await self._sync(leaving=True)
            except (LinkError, TimeoutError):
                pass  # what it held is lost until its windows end
        if self._link is not None:
            self._link.close()
        await asyncio.sleep(0)  # so that the sockets are closed, not only broken off

    async def find(self, key: bytes, ttl_s: float) -> Stored | None:
        """From the second tier, within the deadline."""
        return await self.cache.find(key, ttl_s)

    def put(self, key: bytes, stored: Stored, ttl_s: float) -> None:
        """Into the second tier, in the background."""
        self.cache.put(key, stored, ttl_s)

    # --- the task ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            if self.up:
                pause_s = FIRST_PAUSE_S
                await self._until_needed()
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            try:
                if self._link is None:
                    await self._open()
                await self._sync()
            except LinkError as exc:
                self._lost(str(exc))

    async def _until_needed(self) -> None:
        least_s = LEAST_S if self._gained else SOON_S
        most_s = SOON_S if self.leases.gives_back else EVERY_S
        await asyncio.sleep(least_s)
        try:
            async with asyncio.timeout(max(0.0, most_s - least_s)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _open(self) -> None:
        self._link = await Link.open(self._connect, CONNECT_S)

    async def _take_its_time(self) -> None:
        """All pods count in the windows of the server's clock. Only at the start: nothing was counted yet."""
        assert self._link is not None
        before = time.monotonic()
        answer = (await self._link.ask(("TIME",), limit_s=ANSWER_S))[0]
        try:
            server_s = int(answer[0]) + int(answer[1]) / 1e6
        except (TypeError, ValueError, IndexError, KeyError) as exc:
            raise LinkError("no server of that kind") from exc
        offset_s = server_s - (before + time.monotonic()) / 2
        skew_s = offset_s - self._state.ledger.utc_offset_s
        if abs(skew_s) > 1:
            log.warning("fleet_clock: this pod's clock is %.1f s off the server's, which counts for budgets", -skew_s)
        self._state.ledger.utc_offset_s = offset_s

    async def _sync(self, *, leaving: bool = False) -> None:
        """Tell and ask everything once. Raises LinkError."""
        self._wake.clear()
        ledger, now = self._state.ledger, time.monotonic()
        asks = self.leases.plan(lambda: ledger.levels(now), now)
        trips = self._trips.tell(now)
        heard: tuple[tuple[bytes, int], ...] = ()
        gained = True
        for at in range(0, max(1, len(asks)), LINES_AT_ONCE):
            part = asks[at : at + LINES_AT_ONCE]
            answer = await self._ask(part, [] if at else trips, leaving=leaving)
            self.leases.take(part, answer.grants, answer.pods)
            gained = gained and all(
                ask.urgent == 0 or grant.held > ask.held for ask, grant in zip(part, answer.grants, strict=True)
            )
            heard = answer.trips
        self._gained = gained
        self._trips.told(len(trips))
        now = time.monotonic()
        for target, until in self._trips.hear(heard, now):
            log.info("another pod tripped", extra={"fields": {"model": target.model, "seconds": round(until - now, 1)}})
            self._state.breakers.trip(target, until)
        if not self.up and not leaving:
            self.leases.up = True
            self._on_change(True)
            log.info("the fleet's server answers", extra={"fields": {"pods": self.leases.pods}})

    async def _ask(self, asks: list[Ask], trips: list[tuple[bytes, int]], *, leaving: bool) -> fleet_script.Answer:
        assert self._link is not None
        command = fleet_script.call(self.pod, self.leases.pods, asks, trips, leaving=leaving)
        timer = self._loop.call_later(LATE_S, self._late)
        try:
            raw = (await self._link.ask(command, limit_s=ANSWER_S))[0]
        finally:
            timer.cancel()
            self.leases.late = False
        try:
            return fleet_script.read(raw, len(asks))
        except (TypeError, ValueError, IndexError) as exc:
            raise LinkError("not an answer of the script") from exc

    def _late(self) -> None:
        self.leases.late = True

    def _lost(self, why: str) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if self.up or not self._ever:
            self._ever = True
            log.warning("fleet_away: the fleet's server can't be used (%s); this pod lives on its own share", why)
        if self.up:
            self.leases.up = False
            self._on_change(False)

    # --- what wakes it -------------------------------------------------------------------------------------------

    def _touched(self) -> None:
        self._loop.call_soon(self._look)

    def _look(self) -> None:
        ledger, now = self._state.ledger, time.monotonic()
        if self.leases.look(lambda accounts: ledger.levels(now, accounts)):
            self._wake.set()

    def _tripped(self, target: Target, until: float) -> None:
        self._trips.pending[target] = until
        self._wake.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A bug in a task ends it: requests go on as if the server were away, and the log tells."""
        if task.cancelled() or (exc := task.exception()) is None:
            return
        log.error("a bug in the fleet's task", extra={"fields": {"type": type(exc).__name__}}, exc_info=exc)
        if task is self._tasks[0]:
            self._lost("a bug")
