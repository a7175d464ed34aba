"""The fake provider itself: its listener and the way of one request through it.

Decides the order: read, record, fault, endpoint, answer. What an answer says is
up to the dialects' endpoints; how it is sent is up to `delivery.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Self

import orjson
from aiohttp import web

from sidecar.provider import reading, refusal, script, sockets
from sidecar.provider.call import Answer, Call, Json, Refused, Whole, json_answer
from sidecar.provider.delivery import Delivery
from sidecar.provider.ledger import Ledger, Record
from sidecar.provider.routes import Route
from sidecar.provider.script import Script, ScriptError
from sidecar.provider.state import State

MAX_BODY_BYTES: Final = 100 * 1024 * 1024
STOP_WAIT_S: Final = 0.05

_CONTROL: Final = ("/fake/ledger", "/fake/script")


@dataclass(slots=True)
class Options:
    """How the provider behaves where a request doesn't say: the gap between tokens and the script."""

    pace_ms: float = 0.0
    script: Script = field(default_factory=Script)


class FakeProvider:
    """An HTTP server that plays OpenAI, Anthropic and Gemini. Start it, use `url`, stop it."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.ledger = Ledger()
        self.state = State()
        self._numbers = count(1)
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._address: tuple[str, int] = ("127.0.0.1", 0)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._address[1]

    @property
    def url(self) -> str:
        """`http://HOST:PORT`, without a slash at its end."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Begins to listen; port 0 takes a free one. Raises OSError."""
        self._server = web.Server(
            self._handle,
            request_factory=_request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
        )
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._server, host, port, backlog=1024)
        self._address = self._listener.sockets[0].getsockname()[:2]

    async def stop(self) -> None:
        """Stops listening and ends every connection."""
        if self._server is None or self._listener is None:
            return
        self._listener.close()
        self._server.pre_shutdown()
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await self._server.shutdown(STOP_WAIT_S)
        self._server = self._listener = None

    def script(self, rules: Sequence[Json]) -> None:
        """Replaces the script. Raises ScriptError."""
        self.options.script = script.parse(list(rules))

    async def __aenter__(self) -> Self:
        if self._server is None:
            await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in _CONTROL:
            return await self._control(request)
        call, route = await reading.read(request, next(self._numbers))
        record = self.ledger.begin(call)
        try:
            response = await self._answer(request, call, route, record)
        except (asyncio.CancelledError, ConnectionError):
            self.ledger.end(record, "client_gone")
            raise
        except BaseException:
            self.ledger.end(record, "failed")
            raise
        self.ledger.end(record, "ok")
        return response

    async def _answer(self, request: web.BaseRequest, call: Call, route: Route, record: Record) -> web.StreamResponse:
        delivery = Delivery(request, call, record, self.ledger, self.options.pace_ms)
        is_socket = sockets.is_socket(request)
        try:
            call.fault = reading.fault_of(call, Script() if is_socket else self.options.script)
            if call.fault.delay_ms:
                await asyncio.sleep(call.fault.delay_ms / 1000)
            if call.fault.break_kind == "cut" and call.fault.break_after < 0:
                await delivery.cut_before_headers()
            refused = _refusal(call)
            if refused is None and is_socket:
                return await self._converse(request, call, record)
            answer = refused or self._ask(call, route)
        except Refused as error:
            answer = refusal.refusal(call, error)
        record.model = call.model
        return await delivery.send(answer)

    def _ask(self, call: Call, route: Route) -> Answer:
        if route.endpoint is None:
            return _echo(call)
        if call.body and not call.json and not call.fields and reading.json_object(call.body) is None:
            raise Refused(400, "We could not parse the JSON body of your request.")
        return route.endpoint(call, self.state)

    async def _converse(self, request: web.BaseRequest, call: Call, record: Record) -> web.StreamResponse:
        session = sockets.Session(
            request=request,
            call=call,
            record=record,
            ledger=self.ledger,
            state=self.state,
            script=self.options.script,
            pace_ms=self.options.pace_ms,
            next_number=self._numbers.__next__,
        )
        return await sockets.conversation(session).run()

    async def _control(self, request: web.BaseRequest) -> web.Response:
        match request.method, request.path:
            case "GET", "/fake/ledger":
                return _json(self.ledger.as_json())
            case "DELETE", "/fake/ledger":
                self.ledger.reset()
                return _json({"reset": True})
            case "PUT", "/fake/script":
                try:
                    self.options.script = script.parse(orjson.loads(await request.read()))
                except (ScriptError, orjson.JSONDecodeError) as error:
                    return _json({"error": str(error)}, status=400)
                return _json({"rules": len(self.options.script.rules)})
            case "DELETE", "/fake/script":
                self.options.script = Script()
                return _json({"rules": 0})
            case _:
                return _json(
                    {"error": f"{request.method} {request.path} is not a control of the fake provider"}, status=405
                )


def _refusal(call: Call) -> Whole | None:
    fault = call.fault
    if reading.credential(call) == "invalid-key":
        return refusal.faulty(call, 401, fault)
    if fault.status is not None:
        return refusal.faulty(call, fault.status, fault)
    if fault.retired:
        return refusal.faulty(call, 404, fault)
    if fault.reject_stream_options and "stream_options" in call.json:
        message = "Unrecognized request argument supplied: stream_options"
        raise Refused(400, message, code="unknown_parameter", param="stream_options")
    return None


def _echo(call: Call) -> Whole:
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in call.raw_headers]
    return json_answer(
        {
            "path": call.path,
            "method": call.method,
            "query": call.query,
            "headers": headers,
            "body_sha256": call.body_sha256,
            "body_size": call.body_size,
        }
    )


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
