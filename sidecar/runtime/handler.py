"""One request from its headers to its settlement: the whole story on a few screens.

Everything before the first byte upstream is decided without an `await`, but for reading the request's own body.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web
from aiohttp.web_request import BaseRequest

from sidecar.core.facts import Ask, Exchange, Fault
from sidecar.core.race import Phase, Race
from sidecar.dialects import registry
from sidecar.dialects.base import Place
from sidecar.errors import Code, Refusal, RefusedError, bad_request
from sidecar.runtime import guard, own
from sidecar.runtime.body import Held
from sidecar.runtime.call import Call
from sidecar.runtime.driver import Answer, Driver, Plan
from sidecar.runtime.headers import meterable_encoding
from sidecar.runtime.intake import take_in, upload
from sidecar.runtime.relay import BrokenAnswerError, Relay
from sidecar.runtime.reply import Reply, refusal_reply
from sidecar.runtime.shared import DRAINING, Shared
from sidecar.runtime.sockets import Sockets
from sidecar.runtime.upstream import Shipment
from sidecar.runtime.usage import read_usage
from sidecar.runtime.watch import ExpiredError, Limit, Watch

log = logging.getLogger("sidecar.proxy")

MAX_ATTEMPTS = 3
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Proxy:
    """The handler of the listener."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sockets = Sockets(shared, self.admit)

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
        self.admit(call, body)
        return await self._serve(call, body)

    def admit(self, call: Call, body: bytes | None) -> None:
        """Read what is asked and decide where it goes. Raises RefusedError."""
        snapshot, route, request = call.snapshot, call.route, call.request
        assert snapshot is not None
        assert route is not None
        draft = call.draft = registry.read(
            route, request.headers, body, content_type=request.headers.get("Content-Type", "")
        )
        now = self._shared.now()
        x = call.exchange = Exchange(call.id, draft.ask, call.arrived_at)
        refusal = snapshot.pipeline.admit(x, now)
        if refusal is not None:
            raise RefusedError(refusal)
        models: dict[str, str | None] = {draft.ask.name: x.targets[0].model} if draft.ask.name else {}
        for name in draft.names:
            if name in models:
                continue
            other = Exchange(call.id, replace(draft.ask, name=name), call.arrived_at)
            refusal = snapshot.pipeline.admit(other, now)
            if refusal is not None:
                raise RefusedError(refusal)
            if other.targets[0].provider != x.targets[0].provider:
                raise bad_request("The models of this request live at different providers; send one request for each.")
            models[name] = other.targets[0].model
        call.models = {name: model for name, model in models.items() if model is not None}

    async def _serve(self, call: Call, body: bytes | None) -> web.StreamResponse:
        """Race the attempts and relay the answer."""
        shared, x, snapshot, route = self._shared, call.exchange, call.snapshot, call.route
        assert x is not None
        assert snapshot is not None
        assert route is not None
        timeouts = snapshot.pins.pins[x.pin].timeouts if x.kind == "pin" and x.pin else snapshot.pins.defaults_timeouts
        watch = Watch(shared.loop, timeouts, read_timeout_s(call.request))
        shared.watches.add(watch)
        race = call.race = Race(
            x.targets[0],
            propose=lambda attempt, now: snapshot.pipeline.react(x, attempt, now),
            max_attempts=MAX_ATTEMPTS,
            deadline=watch.first_by or math.inf,
            late=snapshot.pipeline.late,
        )
        plan = Plan(
            dialect=route.dialect,
            endpoint=route.endpoint,
            ship=lambda: self._shipment(call, body),
            connect_s=timeouts.connect_s,
            hide_usage=lambda: x.add_usage,
            upload_refusal=lambda: call.upload_refusal,
            streams_json=x.ask.stream and route.dialect == "gemini",
        )
        driver = Driver(shared.upstream, race, plan, watch, call.held)
        relay: Relay | None = None
        answer: Answer | None = None
        try:
            with watch:
                answer = await driver.run()
                call.answered_at = shared.now()
                call.status = answer.response.status
                attempt = answer.attempt
                relay = Relay(
                    call.request,
                    answer,
                    call.says(),
                    on_first=lambda: call.sent_first(shared.now()),
                    on_useful=lambda: race.useful(attempt, shared.now()),
                )
                await relay.run(watch)
            self._ended(race, answer)
            return relay.reply
        except ExpiredError as exc:
            return await self._expired(call, relay, exc.limit)
        except BrokenAnswerError:
            assert relay is not None
            return await self._interrupt(call, relay, Fault.BROKEN, "The provider's answer broke off.")
        finally:
            read_usage(call.dialect, route.endpoint, answer)
            driver.close()
            shared.watches.discard(watch)

    def _shipment(self, call: Call, body: bytes | None) -> Shipment:
        """What to send for an attempt, written anew from the original bytes."""
        draft, x, route, request = call.draft, call.exchange, call.route, call.request
        assert draft is not None
        assert x is not None
        assert route is not None
        if call.launched_at is None:
            call.launched_at = self._shared.now()
        metered = route.endpoint.operation != "other"
        encoding = None
        if metered:
            encoding = "identity" if x.ask.stream else meterable_encoding(request.headers.get("Accept-Encoding"))
        payload: bytes | AsyncIterator[bytes] | None = None
        length = None
        if body is not None:
            payload = draft.body(call.models, add_usage=x.add_usage)
        elif request.body_exists:
            payload = upload(call, self._shared.settings.limits.body_idle)
            length = request.content_length
        tracing = self._shared.tracing
        if tracing is not None and call.span is None:
            call.span, call.traceparent = tracing.child(request.headers.get("traceparent"))
        return Shipment(
            method=request.method,
            path=draft.path(call.models),
            headers=request.headers,
            raw_headers=request.raw_headers,
            body=payload,
            content_length=length,
            encoding=encoding,
            traceparent=call.traceparent,
        )

    def _refuse(self, call: Call, refusal: Refusal) -> Reply:
        call.refusal = refusal
        call.status = refusal.status
        return refusal_reply(refusal, call.dialect, call.id, call.says())

    async def _expired(self, call: Call, relay: Relay | None, limit: Limit) -> Reply:
        """A limit ran out: before the commit it is a 504, after it the stream is interrupted."""
        race = call.race
        assert race is not None
        if relay is None:
            race.expired(self._shared.now())
            if limit is Limit.DRAIN:
                return self._refuse(call, DRAINING)
            return self._refuse(call, Refusal(Code.TIMEOUT, f"The provider took too long ({limit.value})."))
        stream = relay.answer.stream
        if limit is Limit.TAIL or (limit is Limit.IDLE and stream is not None and stream.done):
            await relay.reply.write_eof()
            self._ended(race, relay.answer)
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
            race.failed(race.winner, fault, self._shared.now())
        refusal = Refusal(Code.INTERRUPTED, message)
        call.refusal = refusal
        await relay.interrupt(lambda r: call.dialect.refuse_in_stream(r, call.id, route.endpoint), refusal)
        return relay.reply

    def _ended(self, race: Race, answer: Answer) -> None:
        """All of the answer was sent. A shown error was over already when it was read."""
        winner = race.winner
        if winner is None or winner.result is not None:
            return
        if answer.stream is not None and answer.stream.error:  # the provider's own error event, inside a 200
            race.failed(winner, Fault.OVERLOAD, self._shared.now())
        else:
            race.ended(winner, self._shared.now())

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
        self._shared.publish(call.record(now, outcome), call.span)

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
        last = call.race.attempts[-1] if call.race is not None and call.race.attempts else None
        return last.fault.value if last is not None and last.fault is not None else None


def read_timeout_s(request: BaseRequest) -> float | None:
    """How long the caller's SDK waits for a byte: httpx's read timeout, or what Node's SDK gives its headers."""
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        try:
            value = float(request.headers.get(name, ""))
        except ValueError:
            continue
        if math.isfinite(value) and value > 0:
            return value
    return None
