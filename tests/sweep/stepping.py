"""Drives the real handler one suspension at a time, so that a test can break it off at any of them.

A coroutine is suspended where it yields to the loop; there, and only there, a cancellation or an exception can strike.
A `Strike` counts these places over the handler and the attempts' tasks together and hits at the one it was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum, auto
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.web_request import BaseRequest

from sidecar.runtime.driver import Driver, Report
from sidecar.runtime.handler import Proxy
from tests.harness import Running

MARK = "x-sweep"
"""A request that bears this header is the one that is broken off."""


class Moment(Enum):
    """EARLY: what is awaited is not there yet. LATE: it has just come, but the coroutine hasn't taken it yet."""

    EARLY = auto()
    LATE = auto()


class Strike:
    """Cancels the marked request's task at its `at`-th suspension, counted from 1; 0 never does."""

    def __init__(self, at: int = 0, moment: Moment = Moment.EARLY) -> None:
        self.at = at
        self.moment = moment
        self.suspensions = 0
        self.tasks_made: list[str] = []  # names of their coroutines
        self.stepping = False
        self.task: asyncio.Task[Any] | None = None

    @property
    def hit(self) -> bool:
        return 0 < self.at <= self.suspensions

    def suspended(self, awaited: Any) -> BaseException | None:
        """Returns what is to be thrown in instead of waiting: nothing here."""
        self.suspensions += 1
        task = self.task
        if self.suspensions != self.at or task is None:
            return None
        if self.moment is Moment.LATE and asyncio.isfuture(awaited):
            # Before the task adds its own wake-up: so the result is there, and the task is cancelled all the same.
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)
        return None


class Throw(Strike):
    """Throws `exc` into what the upstream is doing at its `at`-th suspension."""

    def __init__(self, at: int, exc: Callable[[], BaseException]) -> None:
        super().__init__(at)
        self._exc = exc

    def suspended(self, awaited: Any) -> BaseException | None:
        del awaited
        self.suspensions += 1
        return self._exc() if self.suspensions == self.at else None


class Stepped(Awaitable[Any]):
    """A coroutine whose every suspension is told to `strike`."""

    def __init__(self, inner: Coroutine[Any, Any, Any], strike: Strike) -> None:
        self._inner = inner
        self._strike = strike

    def __await__(self) -> Generator[Any, Any, Any]:
        inner, strike = self._inner, self._strike
        step: Callable[[], Any] = lambda: inner.send(None)  # noqa: E731
        while True:
            strike.stepping = True
            try:
                awaited = step()
            except StopIteration as stop:
                return stop.value
            finally:
                strike.stepping = False
            if (thrown := strike.suspended(awaited)) is not None:
                step = lambda exc=thrown: inner.throw(exc)  # noqa: E731
                continue
            try:
                value = yield awaited
                step = lambda value=value: inner.send(value)  # noqa: E731
            except BaseException as exc:  # noqa: BLE001 - whatever is thrown in belongs to the inner one
                step = lambda exc=exc: inner.throw(exc)  # noqa: E731


class Stand:
    """A running sidecar whose handler is stepped. `strike` is the next marked request's."""

    running: Running

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before the sidecar starts."""
        self.strike = Strike()
        real, tried = Proxy.handle, Driver._try

        async def handle(proxy: Proxy, request: BaseRequest) -> web.StreamResponse:
            if MARK not in request.headers or isinstance(self.strike, Throw):
                return await real(proxy, request)
            self.strike.task = asyncio.current_task()
            return await Stepped(real(proxy, request), self.strike)  # type: ignore[no-any-return]

        async def attempt(driver: Driver, attempt: Any) -> Report:
            marked = driver._race.may_overlap and not self.strike.stepping and not isinstance(self.strike, Throw)
            if not marked:  # in place: the handler's own steps count it
                return await tried(driver, attempt)
            return await Stepped(tried(driver, attempt), self.strike)  # type: ignore[no-any-return]

        monkeypatch.setattr(Proxy, "handle", handle)
        monkeypatch.setattr(Driver, "_try", attempt)
        asyncio.get_running_loop().set_task_factory(self._make_task)

    def throw_upstream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on `strike` counts what the sidecar's client awaits: connecting, headers, each piece of a body."""
        upstream = self.running.lifecycle.shared.upstream
        real = upstream.send

        async def send(*args: Any, **kwargs: Any) -> aiohttp.ClientResponse:
            response: aiohttp.ClientResponse = await Stepped(real(*args, **kwargs), self.strike)
            response.content = _Content(response.content, self)  # type: ignore[assignment]
            return response

        monkeypatch.setattr(upstream, "send", send)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        if self.strike.stepping:
            self.strike.tasks_made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **kwargs)

    def nothing_left(self) -> list[str]:
        """What the requests so far have left behind: should be nothing, soon."""
        shared = self.running.lifecycle.shared
        state = shared.state
        now = shared.now()
        connector = shared.upstream._session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        circuits = state.breakers._circuits
        left = {
            "in flight": shared.in_flight,
            "bytes held": shared.buffers.used,
            "watches": len(shared.watches),
            "reserved": [f"{level.account} {level.limit}" for level in state.ledger.levels(now) if level.reserved],
            "inside breakers": [t.model for t, c in circuits.items() if c.inside],
            "probes": [t.model for t, c in circuits.items() if c.probe is not None],
            "flights": len(state.flights),
            "upstream connections in use": len(connector._acquired),
            "attempt tasks": [t for t in asyncio.all_tasks() if t.get_name() == "attempt"],
        }
        return [f"{name}: {what}" for name, what in left.items() if what]


class _Content:
    """A body whose every wait is counted."""

    def __init__(self, inner: aiohttp.StreamReader, stand: Stand) -> None:
        self._inner = inner
        self._stand = stand

    async def readany(self) -> bytes:
        return await Stepped(self._inner.readany(), self._stand.strike)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
