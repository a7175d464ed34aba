"""Does what the race says: launches attempts, reads their answers up to the commit point, tells the race how it went.

The commit point: the first useful event of a stream, the whole of a JSON answer (up to 8 MiB), the headers of
anything else. Up to there another attempt may still answer, and a failure is an HTTP error; after it, nothing can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import aiohttp

from sidecar.core.facts import Attempt, Cause, Fault
from sidecar.core.race import Abort, Command, Commit, Finish, Launch, Race
from sidecar.dialects import faults
from sidecar.dialects.base import Endpoint
from sidecar.errors import Code, Refusal, RefusedError
from sidecar.runtime.body import Held
from sidecar.runtime.connector import Dial
from sidecar.runtime.headers import is_encoded
from sidecar.runtime.stream import Ends, Stream
from sidecar.runtime.upstream import AttemptError, Shipment, Upstream, meaning
from sidecar.runtime.watch import Watch

HOLD_JSON_BYTES = 8 * 1024 * 1024
HOLD_EVENTS_BYTES = 64 * 1024

_REFUSALS = {
    Fault.TIMEOUT: Code.TIMEOUT,
    Fault.REFUSED: Code.NO_TARGET,
}


@dataclass(slots=True, repr=False)  # `held` is what a model said
class Answer:
    """An attempt's answer, as far as it was read: `complete` if all of it is in `held`."""

    attempt: Attempt
    response: aiohttp.ClientResponse
    held: bytes
    complete: bool
    stream: Stream | None = None
    ends: Ends | None = None  # of a JSON answer that passes without being held


@dataclass(frozen=True, slots=True)
class Plan:
    """What the driver needs to know of a request beyond the race."""

    dialect: str
    endpoint: Endpoint
    ship: Callable[[], Shipment]
    connect_s: float
    hide_usage: Callable[[], bool]
    upload_refusal: Callable[[], Refusal | None]  # what the client did wrong while its body streamed through
    streams_json: bool  # a JSON answer that is a stream in disguise (Gemini without alt=sse): never held


class Driver:
    """One request's attempts, one after the other. Close it, whatever happens."""

    __slots__ = ("_answers", "_held", "_open", "_plan", "_race", "_refusal", "_upstream", "_watch")

    def __init__(self, upstream: Upstream, race: Race, plan: Plan, watch: Watch, held: Held) -> None:
        self._upstream = upstream
        self._race = race
        self._plan = plan
        self._watch = watch
        self._held = held
        self._open: dict[int, aiohttp.ClientResponse] = {}
        self._answers: dict[int, Answer] = {}
        self._refusal = Refusal(Code.UNREACHABLE, "The provider could not be reached.")

    def close(self) -> None:
        """Close every answer that isn't read to its end. Synchronous, so that no cancellation can get in between."""
        for response in self._open.values():
            response.close()
        self._open.clear()

    async def run(self) -> Answer:
        """The answer to send: a committed one, or the failed one that is shown if nothing better came.

        Raises RefusedError if no attempt was answered at all.
        """
        commands = self._race.start(monotonic())
        while True:
            command, *rest = commands
            match command:
                case Launch(attempt):
                    commands = await self._try(attempt)
                case Commit(attempt):
                    for other in rest:
                        if isinstance(other, Abort):
                            self._drop(other.attempt)
                    return self._answers[attempt.number]
                case Abort(attempt):
                    self._drop(attempt)
                    commands = rest
                case Finish(show):
                    if show is not None and show.number in self._answers:
                        return self._answers[show.number]
                    raise RefusedError(self._refusal)

    def _drop(self, attempt: Attempt) -> None:
        response = self._open.pop(attempt.number, None)
        if response is not None:
            response.close()

    async def _try(self, attempt: Attempt) -> list[Command]:
        """One attempt up to its commit point."""
        plan = self._plan
        dial = Dial(fresh=attempt.cause is Cause.RESEND)
        try:
            response = await self._upstream.send(attempt.target.provider, plan.ship(), dial, connect_s=plan.connect_s)
            attempt.reused = dial.reused
            attempt.status, attempt.answered_at = response.status, monotonic()
            self._open[attempt.number] = response
            self._watch.headers()
            if response.status >= 400:
                return await self._error_answer(attempt, response)
            if self._is_metered_stream(response):
                return await self._event_stream(attempt, response)
            if self._is_held(response):
                return await self._whole_json(attempt, response)
            ends = Ends(b"") if is_json(response) and not is_encoded(response.headers) else None
            self._answers[attempt.number] = Answer(attempt, response, b"", complete=False, ends=ends)
            return self._race.release(attempt, monotonic())
        except AttemptError as exc:
            attempt.reused = dial.reused
            self._drop(attempt)
            clients = plan.upload_refusal()
            self._refusal = clients or Refusal(_REFUSALS.get(exc.fault, Code.UNREACHABLE), exc.message)
            return self._race.failed(attempt, Fault.CALLER if clients else exc.fault, monotonic())

    def _is_metered_stream(self, response: aiohttp.ClientResponse) -> bool:
        return (
            self._plan.endpoint.meter is not None
            and media_type(response) == "text/event-stream"
            and not is_encoded(response.headers)
        )

    def _is_held(self, response: aiohttp.ClientResponse) -> bool:
        if self._plan.streams_json or response.method == "HEAD" or response.status in (204, 304):
            return False
        return is_json(response)

    async def _error_answer(self, attempt: Attempt, response: aiohttp.ClientResponse) -> list[Command]:
        body, complete = b"", True
        if response.method != "HEAD":
            body, complete = await self._read(attempt, response)
        answer = self._answers[attempt.number] = Answer(attempt, response, body, complete)
        fault = faults.classify(response.status, response.headers, body, self._plan.dialect)
        commands = self._race.failed(attempt, fault, monotonic())
        if isinstance(commands[0], Launch) and not answer.complete:
            self._drop(attempt)
        return commands

    async def _whole_json(self, attempt: Attempt, response: aiohttp.ClientResponse) -> list[Command]:
        body, complete = await self._read(attempt, response)
        ends = None if complete or is_encoded(response.headers) else Ends(body)
        self._answers[attempt.number] = Answer(attempt, response, body, complete, ends=ends)
        return self._race.useful(attempt, monotonic()) if complete else self._race.release(attempt, monotonic())

    async def _event_stream(self, attempt: Attempt, response: aiohttp.ClientResponse) -> list[Command]:
        meter = self._plan.endpoint.meter
        assert meter is not None
        stream = Stream(meter(), hide_usage=self._plan.hide_usage())
        parts: list[bytes] = []
        size = 0
        while True:
            chunk = await self._chunk(attempt, response)
            if not chunk:
                raise AttemptError(
                    Fault.BROKEN, f"Provider {attempt.target.provider} ended its stream before it began."
                )
            part = stream.feed(chunk)
            parts.append(part)
            size += len(chunk)
            if stream.useful or stream.error or not self._race.holding or size > HOLD_EVENTS_BYTES:
                break
        self._answers[attempt.number] = Answer(attempt, response, b"".join(parts), complete=False, stream=stream)
        if stream.useful:
            self._watch.useful()
            return self._race.useful(attempt, monotonic())
        return self._race.release(attempt, monotonic())

    async def _read(self, attempt: Attempt, response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
        """The body and whether that is all of it: it is not if it is larger than may be held."""
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > HOLD_JSON_BYTES:
            return b"", False
        parts: list[bytes] = []
        size = 0
        while chunk := await self._chunk(attempt, response):
            parts.append(chunk)
            size += len(chunk)
            if size > HOLD_JSON_BYTES or not self._held.grow(len(chunk)):
                return b"".join(parts), False
        return parts[0] if len(parts) == 1 else b"".join(parts), True

    async def _chunk(self, attempt: Attempt, response: aiohttp.ClientResponse) -> bytes:
        """What comes next, b"" at the end. Raises AttemptError if the answer breaks."""
        try:
            chunk = await response.content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise meaning(exc, attempt.target.provider, reused=False) from exc
        self._watch.byte()
        return chunk


def media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def is_json(response: aiohttp.ClientResponse) -> bool:
    kind = media_type(response)
    return kind == "application/json" or kind.endswith("+json")
