"""WebSocket sessions: the Responses API and the Realtime API over one connection.

Decides which events answer which client event, and plays one turn at a time. A
fault of the handshake's header applies to each turn; a script is asked for each turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import orjson
from aiohttp import WSMsgType, web

from sidecar.provider import openai_responses, playing, reading, realtime
from sidecar.provider.call import Call, Frame, Json, Refused, Stream
from sidecar.provider.faults import NO_FAULT
from sidecar.provider.ledger import Ledger, Outcome, Record
from sidecar.provider.playing import corrupt_connection, reset_connection
from sidecar.provider.script import Script
from sidecar.provider.state import State

_RESERVED_OPCODE = b"\xff\x00"


@dataclass(slots=True)
class Session:
    """What a WebSocket session needs of the provider."""

    request: web.BaseRequest
    call: Call
    record: Record
    ledger: Ledger
    state: State
    script: Script
    pace_ms: float
    next_number: Callable[[], int]

    def turn_call(self, frame: bytes) -> Call:
        """The call that a client event makes, with its number and fault."""
        call = reading.socket_call(self.call, frame, self.next_number())
        if call.fault is NO_FAULT:
            call.fault = self.script.take(call.path, call.model) or NO_FAULT
        self.record.model = call.model
        return call


@dataclass(slots=True)
class SocketSink:
    """A WebSocket as the goal of a stream: one text message an event."""

    session: Session
    socket: web.WebSocketResponse

    async def send(self, data: bytes) -> None:
        """Sends one event as a text message."""
        await self.socket.send_str(data.decode())

    async def ping(self, data: bytes) -> None:
        """Sends a WebSocket ping."""
        await self.socket.ping(data)

    async def corrupt(self) -> NoReturn:
        """Sends a frame with reserved bits, then closes."""
        self._cut()
        await corrupt_connection(self.session.request.transport, _RESERVED_OPCODE)

    async def reset(self) -> NoReturn:
        """Resets the connection."""
        self._cut()
        await reset_connection(self.session.request.transport)

    def _cut(self) -> None:
        self.session.record.outcome = "cut"


class Conversation:
    """One connection: a reader that queues turns and a worker that plays them in order."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.socket = web.WebSocketResponse(max_msg_size=0)
        self.turns: asyncio.Queue[tuple[Call, Stream]] = asyncio.Queue()
        self.playing: Call | None = None
        self.stop_asked = False

    async def run(self) -> web.WebSocketResponse:
        """Serves the connection until either side closes it."""
        session = self.session
        await self.socket.prepare(session.request)
        session.record.status, session.record.stream = 101, True
        await self.opened()
        worker = asyncio.create_task(self._work())
        try:
            async for message in self.socket:
                if message.type is WSMsgType.TEXT:
                    await self._heard(message.data.encode())
        finally:
            worker.cancel()
        if self.playing is not None and session.record.outcome == "open":
            session.record.outcome = "client_gone"
        return self.socket

    async def opened(self) -> None:
        """Greets the client, where the protocol does."""

    async def heard(self, event: Json, frame: bytes) -> None:
        """Answers one client event. May raise Refused."""
        raise NotImplementedError

    def refuse(self, refused: Refused) -> Json:
        """The event that tells the client of a refusal."""
        kind = "server_error" if refused.status >= 500 else "invalid_request_error"
        error = {"type": kind, "code": refused.code, "message": refused.message, "param": refused.param}
        return {"type": "error", "status": refused.status, "error": error}

    def broken(self, call: Call) -> bytes:
        """The error event that ends a turn which an `error=` fault breaks."""
        refused = Refused(500, "The server had an error.", code=call.fault.code or "server_error")
        return orjson.dumps(self.refuse(refused))

    async def stopped(self, call: Call) -> None:
        """Tells the client that a turn was cancelled."""

    async def send(self, event: Json) -> None:
        """Sends one event."""
        await self.socket.send_str(orjson.dumps(event).decode())

    async def _heard(self, frame: bytes) -> None:
        event = reading.json_object(frame)
        if event is None:
            await self.send(self.refuse(Refused(400, "The event is not a JSON object.", code="invalid_json")))
            return
        try:
            await self.heard(event, frame)
        except Refused as refused:
            await self.send(self.refuse(refused))

    async def _work(self) -> None:
        while True:
            call, stream = await self.turns.get()
            self.playing, self.stop_asked = call, False
            try:
                outcome = await self._play(call, stream)
            except ConnectionError:
                return
            self.playing = None
            if outcome == "cut":
                self.session.record.outcome = "cut"
                await self.socket.close()
                return
            if outcome == "failed":
                self.session.record.outcome = "failed"

    async def _play(self, call: Call, stream: Stream) -> Outcome:
        session = self.session
        if call.fault.status is not None and call.fault is not session.call.fault:
            await self.send(self.refuse(Refused(call.fault.status, "A scripted refusal.", code=call.fault.code)))
            return "failed"
        session.ledger.bill_prompt(session.record, call.model, stream.prompt_tokens)

        def bill(tokens: int) -> None:
            session.ledger.bill_completion(session.record, call.model, tokens)

        sink = SocketSink(session, self.socket)
        outcome = await playing.play(
            stream, sink, call.fault, pace_ms=session.pace_ms, bill=bill, stopped=lambda: self.stop_asked
        )
        if self.stop_asked:
            await self.stopped(call)
        return outcome


class ResponsesSession(Conversation):
    """`GET /v1/responses` upgraded: `response.create` is answered by the events of a streamed response."""

    async def heard(self, event: Json, frame: bytes) -> None:
        """Queues a response, or refuses the event."""
        if event.get("type") != "response.create":
            raise Refused(400, f"Unknown event type: {event.get('type')!r}", code="unknown_event", param="type")
        call = self.session.turn_call(frame)
        lane = {} if event.get("stream_id") is None else {"stream_id": event["stream_id"]}
        events = openai_responses.events(call, self.session.state)
        frames = (Frame(orjson.dumps({**shown, **lane}), tokens) for shown, tokens in events)
        stream = Stream(frames, b"", lambda _sent: self.broken(call), call.prompt_tokens)
        self.turns.put_nowait((call, stream))


class RealtimeSession(Conversation):
    """`GET /v1/realtime?model=…` upgraded."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.facts: Json = realtime.session(session.call)
        self.heard_bytes = 0
        self.said = ""

    async def opened(self) -> None:
        """Sends `session.created`."""
        await self._tell({"type": "session.created", "session": self.facts})

    async def heard(self, event: Json, frame: bytes) -> None:
        """Answers `session.update`, `conversation.item.create`, `response.create` and `response.cancel`."""
        self.heard_bytes += len(frame)
        match event.get("type"):
            case "session.update":
                self.facts.update(event.get("session") or {})
                await self._tell({"type": "session.updated", "session": self.facts})
            case "conversation.item.create":
                item = {"id": f"item_fake{self.session.next_number()}", **(event.get("item") or {})}
                self.said = realtime.text_of(item) or self.said
                for kind in ("conversation.item.added", "conversation.item.done"):
                    await self._tell({"type": kind, "previous_item_id": None, "item": item})
            case "response.create":
                self._queue(frame)
            case "response.cancel":
                self.stop_asked = True
            case "input_audio_buffer.append":
                return
            case unknown:
                raise Refused(400, f"Unknown event type: {unknown!r}", code="unknown_event", param="type")

    def refuse(self, refused: Refused) -> Json:
        """The Realtime API's `error` event."""
        return {**super().refuse(refused), "event_id": self._event_id()}

    async def stopped(self, call: Call) -> None:
        """Sends the `response.done` of a cancelled turn."""
        response = realtime.response(call, "cancelled", None, self.heard_bytes)
        await self._tell({"type": "response.done", "response": response})

    def _queue(self, frame: bytes) -> None:
        call = self.session.turn_call(frame)
        call = replace(call, model=str(self.facts.get("model") or call.model))
        self.session.record.model = call.model
        events = realtime.events(call, self.facts, self.said, self.heard_bytes)
        frames = (Frame(orjson.dumps({"event_id": self._event_id(), **event}), tokens) for event, tokens in events)
        stream = Stream(frames, b"", lambda _sent: self.broken(call), realtime.prompt_tokens(self.heard_bytes))
        self.turns.put_nowait((call, stream))

    async def _tell(self, event: Json) -> None:
        await self.send({"event_id": self._event_id(), **event})

    def _event_id(self) -> str:
        return f"event_fake{self.session.next_number()}"


def conversation(session: Session) -> Conversation:
    """The conversation that the session's path asks for."""
    kind = RealtimeSession if session.call.path.endswith("/realtime") else ResponsesSession
    return kind(session)


def is_socket(request: web.BaseRequest) -> bool:
    """Whether the request wants one of the WebSocket endpoints."""
    upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
    return upgrade and request.raw_path.partition("?")[0].endswith(("/realtime", "/responses"))
