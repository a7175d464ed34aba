"""WebSockets (OpenAI's realtime and Responses): the same admission, then frames both ways.

The provider is dialled before the client is accepted, so that a refused upgrade reaches the client as the provider
wrote it. The model in the query and in client frames is rewritten; every other frame passes as it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import WSMessage, WSMsgType, web

from sidecar.core.facts import Attempt, Fault, Usage
from sidecar.core.race import Race
from sidecar.dialects import frames
from sidecar.dialects.base import Reading
from sidecar.errors import Code, Refusal, RefusedError
from sidecar.runtime import admission
from sidecar.runtime.call import Call
from sidecar.runtime.headers import to_client
from sidecar.runtime.reply import Reply
from sidecar.runtime.shared import Shared
from sidecar.runtime.upstream import AttemptError, Shipment, UpgradeRefusedError
from sidecar.runtime.watch import Limit

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class Sockets:
    """Serves upgrades, admitted as any other request is."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def handle(self, call: Call) -> web.StreamResponse:
        """One socket from its upgrade to its close. Raises RefusedError before the client was accepted."""
        admission.read(call, None)
        admission.admit(call, self._shared.now())
        x, snapshot = call.exchange, call.snapshot
        assert x is not None
        assert snapshot is not None
        timeouts = snapshot.pins.timeouts(x.pin)
        now = self._shared.now()
        call.read_at = call.launched_at = now
        race = call.race = Race(
            x.targets,
            snapshot.pipeline.bound(x),
            attempts=x.attempts,
            max_attempts=1,
            deadline=now + timeouts.first_event_s,
        )
        race.start(now)
        attempt = race.attempts[0]
        try:
            async with asyncio.timeout(timeouts.first_event_s):
                upstream = await self._shared.upstream.dial_socket(
                    attempt.target.provider, self._shipment(call), max_bytes=self._shared.settings.limits.body
                )
        except UpgradeRefusedError as refused:
            attempt.status = refused.status
            race.failed(attempt, Fault.CALLER if refused.status < 500 else Fault.OVERLOAD, self._shared.now())
            call.status = refused.status
            headers = to_client(refused.headers, refused.raw_headers)
            headers.extend(call.says())
            return Reply(refused.status, headers.items(), body=refused.body)
        except (AttemptError, TimeoutError) as exc:
            fault = exc.fault if isinstance(exc, AttemptError) else Fault.TIMEOUT
            race.failed(attempt, fault, self._shared.now())
            code = Code.TIMEOUT if fault is Fault.TIMEOUT else Code.UNREACHABLE
            message = exc.message if isinstance(exc, AttemptError) else "The provider took too long to upgrade."
            raise RefusedError(Refusal(code, message)) from exc
        try:
            return await self._tunnel(call, upstream, attempt, race)
        finally:
            await asyncio.shield(upstream.close()) if not upstream.closed else None

    def _shipment(self, call: Call) -> Shipment:
        draft = call.draft
        assert draft is not None
        return Shipment(
            method="GET",
            path=draft.path(call.models),
            headers=call.request.headers,
            raw_headers=call.request.raw_headers,
            body=None,
            content_length=None,
            encoding=None,
        )

    async def _tunnel(
        self, call: Call, upstream: aiohttp.ClientWebSocketResponse, attempt: Attempt, race: Race
    ) -> web.WebSocketResponse:
        protocols = (upstream.protocol,) if upstream.protocol else ()
        client = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            max_msg_size=self._shared.settings.limits.body,
            protocols=protocols,
            compress=False,
        )
        client.headers.extend(call.says())
        attempt.status = call.status = 101
        await client.prepare(call.request)
        race.release(attempt, self._shared.now())
        tunnel = Tunnel(client, upstream, self._rewriter(call, attempt), attempt)
        self._shared.watches.add(tunnel)
        try:
            end = await tunnel.run()
        finally:
            self._shared.watches.discard(tunnel)
        # Judged before the other side is told, since a client that leaves then ends this task.
        if end.code is not None:
            race.ended(attempt, self._shared.now())
        elif end.by_client:
            call.client_gone = True
            race.gone(self._shared.now())
        else:
            call.refusal = Refusal(Code.INTERRUPTED, "The provider's socket broke off.")
            race.failed(attempt, Fault.BROKEN, self._shared.now())
        await tunnel.close(end)
        return client

    def _rewriter(self, call: Call, attempt: Attempt) -> Callable[[str], str]:
        """Rewrites the model in a client's frame. Raises RefusedError where the name leads nowhere."""
        snapshot, x = call.snapshot, call.exchange
        assert snapshot is not None
        assert x is not None

        def resolve(name: str) -> str:
            asked = admission.decide(call, name, self._shared.now())
            target = asked.targets[0]
            if target.provider != x.targets[0].provider:
                raise RefusedError(
                    Refusal(
                        Code.BAD_REQUEST, f"This socket leads to {x.targets[0].provider}; that model lives elsewhere."
                    )
                )
            if x.pin is None:
                x.pin, x.kind, x.variant, x.why = asked.pin, asked.kind, asked.variant, asked.why
                attempt.target = target  # the first model that is named stands for the whole conversation
            return target.model or name

        return lambda text: str(frames.rewrite_frame(text, resolve))


@dataclass(frozen=True, slots=True)
class End:
    """How a socket ended: by whom, and with which close code; without one the connection was just gone."""

    by_client: bool
    code: int | None = None
    reason: bytes = b""

    @classmethod
    def told(cls, message: WSMessage, *, by_client: bool) -> End:
        """Of a message that is no frame to pass on. A close frame without a code is an ordinary end."""
        if message.type is not WSMsgType.CLOSE:
            return cls(by_client)
        return cls(by_client, message.data or aiohttp.WSCloseCode.OK, (message.extra or "").encode())


class Tunnel:
    """Frames both ways until one side closes (`run`); its close code then reaches the other (`close`)."""

    def __init__(
        self,
        client: web.WebSocketResponse,
        upstream: aiohttp.ClientWebSocketResponse,
        rewrite: Callable[[str], str],
        attempt: Attempt,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._rewrite = rewrite
        self._attempt = attempt
        self._drained = asyncio.Event()

    def expire(self, limit: Limit) -> None:
        """The sidecar shuts down: both sides are told, instead of being cut off."""
        del limit
        self._drained.set()

    async def _until_drained(self) -> End:
        await self._drained.wait()
        return End(by_client=False, code=aiohttp.WSCloseCode.SERVICE_RESTART, reason=Code.DRAINING.encode())

    async def run(self) -> End:
        """Pass frames on until either side has ended, or the sidecar shuts down."""
        client, upstream = self._client, self._upstream
        ways = {
            "ws-up": self._pump(client, upstream, self._ask, by_client=True),
            "ws-down": self._pump(upstream, client, self._answer, by_client=False),
            "ws-drain": self._until_drained(),
        }
        pumps = [asyncio.create_task(way, name=name) for name, way in ways.items()]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def close(self, end: End) -> None:
        """Tell the side that doesn't know yet, and answer the one that closed."""
        if end.by_client:
            await self._upstream.close(code=end.code or aiohttp.WSCloseCode.GOING_AWAY, message=end.reason)
            await self._client.close(code=end.code or aiohttp.WSCloseCode.OK)
            return
        await self._upstream.close(code=end.code or aiohttp.WSCloseCode.OK)
        if end.code is not None:
            await self._client.close(code=end.code, message=end.reason)
        else:  # a silence isn't an end: say so
            await self._client.close(code=aiohttp.WSCloseCode.INTERNAL_ERROR, message=Code.INTERRUPTED.encode())

    async def _pump(
        self, source: Socket, target: Socket, text: Callable[[str], Awaitable[None]], *, by_client: bool
    ) -> End:
        """One direction. `text` sends on what a text frame becomes."""
        while True:  # not `async for`, which ends at a close frame without showing it
            message = await source.receive()
            try:
                match message.type:
                    case WSMsgType.TEXT:
                        await text(message.data)
                    case WSMsgType.BINARY:
                        await target.send_bytes(message.data)
                    case WSMsgType.PING:
                        await target.ping(message.data)
                    case WSMsgType.PONG:
                        await target.pong(message.data)
                    case _:
                        return End.told(message, by_client=by_client)
            except (ConnectionError, aiohttp.ClientError):
                return End(by_client=not by_client)

    async def _ask(self, frame: str) -> None:
        try:
            frame = self._rewrite(frame)
        except RefusedError as exc:
            await self._client.send_str(refused_frame(exc.refusal))
        else:
            await self._upstream.send_str(frame)

    async def _answer(self, frame: str) -> None:
        self._meter(frames.frame_reading(frame))
        await self._client.send_str(frame)

    def _meter(self, reading: Reading | None) -> None:
        if reading is None:
            return
        self._attempt.served = reading.served or self._attempt.served
        if reading.usage is not None:
            self._attempt.usage = (self._attempt.usage or Usage()) + reading.usage


def refused_frame(refusal: Refusal) -> str:
    """An error event, as OpenAI's sockets send them."""
    error = {"type": "invalid_request_error", "code": refusal.code, "message": refusal.message, "param": "model"}
    return json.dumps({"type": "error", "status": refusal.status, "error": error})
