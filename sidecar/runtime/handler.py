"""One request from its headers to its settlement: the whole story on a few screens.

Everything before the first byte upstream is decided without an `await`, but for reading the request's own body.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time

from aiohttp import web
from aiohttp.web_request import BaseRequest

from sidecar.core.facts import Ask, Exchange, Fault
from sidecar.core.policy import Follow, Hit
from sidecar.core.race import Phase, Race
from sidecar.dialects import faults, registry
from sidecar.dialects.base import Place
from sidecar.errors import Code, Refusal, RefusedError
from sidecar.runtime import admission, cached, guard, own
from sidecar.runtime.answer import Answer
from sidecar.runtime.body import Held
from sidecar.runtime.call import Call
from sidecar.runtime.driver import Driver, Plan
from sidecar.runtime.fleet_recall import recall
from sidecar.runtime.intake import take_in
from sidecar.runtime.relay import BrokenAnswerError, Relay
from sidecar.runtime.reply import Reply, refusal_reply
from sidecar.runtime.shared import DRAINING, Shared
from sidecar.runtime.shipment import shipment
from sidecar.runtime.sockets import Sockets
from sidecar.runtime.usage import read_usage
from sidecar.runtime.watch import ExpiredError, Limit, Watch

log = logging.getLogger("sidecar.proxy")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Proxy:
    """The handler of the listener."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sockets = Sockets(shared)

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request. Raises only cancellation and the client's own disconnection."""
        shared = self._shared
        now = shared.now()
        call = Call(
            request,
            shared.new_id(),
            time.time(),
            now,
            Held(shared.buffers),
            registry.dialect_by_headers(request.headers),
        )
        call.snapshot = shared.pinned.snapshot  # once: a swap from here on concerns later requests
        shared.arrived(now)
        try:
            return await self._answer(call)
        except RefusedError as exc:
            return self._refuse(call, exc.refusal)
        except (asyncio.CancelledError, ConnectionError):
            call.client_gone = True
            raise
        except Exception as exc:  # the one place where a bug of ours becomes an answer
            log.exception("a bug in the sidecar", extra={"fields": {"request_id": call.id, "type": type(exc).__name__}})
            reply = self._refuse(call, Refusal(Code.INTERNAL, "The sidecar failed; its log says how.", close=True))
            if request.writer.output_size > 0:
                # An answer has begun: it must not look complete, nor be followed by another.
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("broken off") from exc
            return reply
        finally:
            shared.left()
            self._settle(call)
            call.held.release()
            call.forget_body()

    async def _answer(self, call: Call) -> web.StreamResponse:
        shared, request = self._shared, call.request
        if request.method not in _METHODS:
            reply = Reply(405, [("Allow", ", ".join(sorted(_METHODS))), *call.says()], body=b"")
            reply.force_close()  # what follows a CONNECT isn't HTTP any more
            return reply
        if (refusal := guard.check(request.headers, shared.settings.allowed_hosts)) is not None:
            raise RefusedError(refusal)
        path, _, query = request.raw_path.partition("?")
        if path == own.FEEDBACK_PATH:
            return await own.feedback(call, shared)
        if path.startswith(own.PREFIX):
            return Reply(404, call.says(), body=b"")  # our own name space never leads to a provider
        shared.admit_one()
        if call.snapshot is None:
            raise RefusedError(Refusal(Code.NO_TARGET, f"No usable pin file: {shared.pinned.trouble}", 1.0))
        route = registry.find(request.method, path, query, request.headers, shared.dialects)
        call.route, call.dialect = route, registry.DIALECTS[route.dialect]
        if route.endpoint.place is Place.LIST:
            return own.models(call, shared)
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return await self._sockets.handle(call)
        body = await take_in(call, route, shared.settings.limits)
        call.read_at = shared.now()
        admission.read(call, body)
        return await self._decided(call, body)

    async def _decided(self, call: Call, body: bytes | None) -> web.StreamResponse:
        """An answer at hand, another request's answer, or one of its own."""
        shared = self._shared
        waits_until: float | None = None
        while True:
            match admission.admit(call, shared.now()):
                case Hit(stored):
                    return await cached.replay(call, stored, shared)
                case Follow(flight):
                    waits_until = waits_until or self._watch(call).deadline
                    found = await cached.follow(call, flight, shared, until=waits_until)
                    if found is not None:
                        return await cached.replay(call, found, shared)
                case _:
                    if shared.fleet is not None and (recalled := await recall(call, shared)) is not None:
                        return await cached.replay(call, recalled, shared)
                    return await self._serve(call, body, waits_until)

    def _watch(self, call: Call) -> Watch:
        assert call.snapshot is not None
        assert call.exchange is not None
        timeouts = call.snapshot.pins.timeouts(call.exchange.pin)
        return Watch(self._shared.loop, timeouts, read_timeout_s(call.request))

    async def _serve(self, call: Call, body: bytes | None, waits_until: float | None) -> web.StreamResponse:
        """Race the attempts and relay the answer. `waits_until`: what is left of its time if it waited for another."""
        shared, x, snapshot, route = self._shared, call.exchange, call.snapshot, call.route
        assert x is not None
        assert snapshot is not None
        assert route is not None
        tries = snapshot.pins.tries(x.pin)
        watch = self._watch(call)
        x.deadline = min(watch.deadline, waits_until or math.inf)
        race = call.race = Race(
            x.targets,
            snapshot.pipeline.bound(x),
            attempts=x.attempts,
            max_attempts=tries.max_attempts,
            deadline=x.deadline,
            slow_after_s=x.hedge_after_s,
            late=x.ask.generates,
        )
        plan = Plan(
            dialect=call.dialect,
            endpoint=route.endpoint,
            ship=lambda attempt: shipment(call, body, attempt, shared),
            connect_s=snapshot.pins.timeouts(x.pin).connect_s,
            idle_s=watch.idle_s,
            hold_s=tries.hold_s,
            deadline=x.deadline,
            upload_refusal=lambda: call.upload_refusal,
            generates=x.ask.generates,
            streams_json=x.ask.stream and route.dialect == "gemini",
        )
        driver = Driver(shared.upstream, race, plan, call.held)
        relay: Relay | None = None
        answer: Answer | None = None
        shared.watches.add(watch)
        cached.lead(call, shared)
        try:
            with watch:
                answer = await driver.run()
                call.answered_at = shared.now()
                call.answer = answer.attempt
                call.status = answer.response.status
                cached.keep(call, answer, shared)
                relay = Relay(
                    call.request,
                    answer,
                    call.says(),
                    on_first=lambda: call.sent_first(shared.now()),
                    on_useful=lambda: race.useful(answer.attempt, shared.now()),
                    copy=cached.recorder(call, answer, shared),
                )
                await relay.run(watch)
            self._ended(call, race, relay)
            return relay.reply
        except ExpiredError as exc:
            return await self._expired(call, relay, exc.limit)
        except BrokenAnswerError:
            assert relay is not None
            return await self._interrupt(call, relay, Fault.BROKEN, "The provider's answer broke off.")
        finally:
            driver.close()
            read_usage(call.dialect, route.endpoint, answer)
            shared.watches.discard(watch)

    def _refuse(self, call: Call, refusal: Refusal) -> Reply:
        call.refusal = refusal
        call.status = refusal.status
        return refusal_reply(refusal, call.dialect, call.id, call.says())

    async def _expired(self, call: Call, relay: Relay | None, limit: Limit) -> Reply:
        """A limit ran out, or we shut down: after the commit the stream is interrupted."""
        race = call.race
        assert race is not None
        if relay is None:  # the attempts have clocks of their own: this is the drain
            race.gone(self._shared.now())
            return self._refuse(call, DRAINING)
        stream = relay.answer.stream
        if limit is Limit.TAIL or (limit is Limit.IDLE and stream is not None and stream.done):
            await relay.reply.write_eof()
            self._ended(call, race, relay)
            return relay.reply
        if limit is Limit.WRITE_STALL:
            call.client_gone = True
            relay.reply.abort()
            return relay.reply
        message = f"The provider's stream took too long ({limit.value})."
        if limit is Limit.DRAIN:
            race.gone(self._shared.now())  # nobody's fault
            message = DRAINING.message
        return await self._interrupt(call, relay, Fault.TIMEOUT, message)

    async def _interrupt(self, call: Call, relay: Relay, fault: Fault, message: str) -> Reply:
        race, route = call.race, call.route
        assert race is not None
        assert route is not None
        if race.winner is not None and race.winner.result is None:
            read_usage(call.dialect, route.endpoint, relay.answer)
            race.failed(race.winner, fault, self._shared.now())
        refusal = Refusal(Code.INTERRUPTED, message)
        call.refusal = refusal
        await relay.interrupt(lambda r: call.dialect.refuse_in_stream(r, call.id, route.endpoint), refusal)
        return relay.reply

    def _ended(self, call: Call, race: Race, relay: Relay) -> None:
        """All of the answer was sent. A shown error was over already when it was read."""
        winner, route, answer = race.winner, call.route, relay.answer
        assert route is not None
        if winner is None or winner.result is not None:
            return
        read_usage(call.dialect, route.endpoint, answer)  # before the policies hear that it is over
        if answer.stream is not None and answer.stream.error is not None:  # the provider's own error, inside a 200
            race.failed(winner, faults.in_stream(answer.stream.error, call.dialect.NAME), self._shared.now())
        else:
            race.ended(winner, self._shared.now())
            cached.keep_stream(call, answer, relay.copy, self._shared)

    def _settle(self, call: Call) -> None:
        """Tell the policies and the watchers, once, without an await."""
        x, snapshot, race = call.exchange or self._undecided(call), call.snapshot, call.race
        if x is None or snapshot is None:
            if call.refusal is not None:
                self._shared.metrics.refused(call.refusal.code)
            return
        call.exchange = x
        now = self._shared.now()
        if race is not None and race.phase is not Phase.OVER:
            race.gone(now)
            call.client_gone = True
        error = self._error(call)
        outcome = call.outcome(error)
        snapshot.pipeline.settle(x, outcome, now)
        self._shared.publish(call.record(now, outcome, self._shared.state.sizes), call.span)

    def _undecided(self, call: Call) -> Exchange | None:
        """What is known of a request that was refused, or left, before anything was decided; None for our own paths."""
        route = call.route
        ended = call.refusal is not None or (call.client_gone and route is not None)
        if not ended or call.request.raw_path.startswith(own.PREFIX):
            return None
        operation = route.endpoint.operation if route is not None else "other"
        ask = Ask(call.dialect.NAME, operation=operation, provider=route.provider if route is not None else None)
        return Exchange(call.id, ask, call.arrived_at)

    def _error(self, call: Call) -> str | None:
        if call.refusal is not None:
            return call.refusal.code.value
        if call.client_gone:
            return "client_gone"
        shown = call.answer
        return shown.fault.value if shown is not None and shown.fault is not None else None


def read_timeout_s(request: BaseRequest) -> float | None:
    """How long the caller's SDK waits for a byte: httpx's read timeout, or what Node's SDK gives its headers."""
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        if (said := request.headers.get(name)) is None:
            continue
        try:
            value = float(said)
        except ValueError:
            continue
        if math.isfinite(value) and value > 0:
            return value
    return None
