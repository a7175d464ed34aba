"""Does what the race says: launches attempts, reads their answers up to the commit point, tells the race how it went.

The commit point: the first useful event of a stream, the whole of a JSON answer (up to 8 MiB), the headers of
anything else. Up to there another attempt may still answer, and a failure is an HTTP error; after it, nothing can.

A race whose attempts can't overlap is awaited in place, in the request's own task. Only where a hedge may run beside
another attempt does each get a task.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import aiohttp

from sidecar.core.facts import Attempt, Cause, Fault
from sidecar.core.race import Abort, Command, Commit, Finish, Launch, Race
from sidecar.dialects import faults, pushback
from sidecar.dialects.base import FETCH, Dialect, Endpoint
from sidecar.errors import Code, Refusal, RefusedError
from sidecar.runtime.answer import Answer, is_json, media_type, unread
from sidecar.runtime.body import Held
from sidecar.runtime.connector import Dial
from sidecar.runtime.exchange import Incoming
from sidecar.runtime.headers import is_encoded
from sidecar.runtime.stream import Ends, Stream
from sidecar.runtime.upstream import AttemptError, Shipment, Upstream, meaning
from sidecar.runtime.usage import read_usage
from sidecar.runtime.watch import ExpiredError, Limit, Patience

HOLD_JSON_BYTES = 8 * 1024 * 1024
HOLD_EVENTS_BYTES = 64 * 1024
LEAST_SLEEP_S = 0.001

_REFUSALS = {
    Fault.TIMEOUT: Code.TIMEOUT,
    Fault.SLOW: Code.TIMEOUT,
    Fault.REFUSED: Code.NO_TARGET,
}


@dataclass(slots=True)
class Plan:
    """What the driver needs to know of a request beyond the race. Times in seconds."""

    dialect: Dialect
    endpoint: Endpoint
    ship: Callable[[Attempt], Shipment]
    connect_s: float
    idle_s: float
    hold_s: float
    deadline: float
    upload_refusal: Callable[[], Refusal | None]  # what the client did wrong while its body streamed through
    generates: bool  # the answer is a model's: an error instead of it is a failure, whatever the status
    streams_json: bool  # a JSON answer that is a stream in disguise (Gemini without alt=sse): never held


@dataclass(slots=True)
class Report:
    """How far an attempt came: it failed, or it can be committed."""

    attempt: Attempt
    fault: Fault | None = None
    useful: bool = False


class Driver:
    """One request's attempts. Close it, whatever happens."""

    __slots__ = ("_answers", "_held", "_open", "_plan", "_race", "_refusals", "_tasks", "_upstream")

    def __init__(self, upstream: Upstream, race: Race, plan: Plan, held: Held) -> None:
        self._upstream = upstream
        self._race = race
        self._plan = plan
        self._held = held
        self._open: dict[int, Incoming] = {}
        self._answers: dict[int, Answer] = {}
        self._tasks: dict[int, asyncio.Task[Report]] = {}
        self._refusals: dict[int, Refusal] = {}

    def close(self) -> None:
        """End everything that isn't read to its end. Synchronous, so that no cancellation can get in between."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._hear_rest()
        for response in self._open.values():
            response.close()
        self._open.clear()

    async def run(self) -> Answer:
        """The answer to send: a committed one, or the failed one that is shown if nothing better came.

        Raises RefusedError if no attempt at the first target was answered at all.
        """
        commands = deque(self._race.start(monotonic()))
        while True:
            while commands:
                match commands.popleft():
                    case Launch(attempt) if self._race.may_overlap:
                        self._tasks[attempt.number] = asyncio.create_task(self._try(attempt), name="attempt")
                    case Launch(attempt):
                        commands.extend(self._tell(await self._try(attempt)))
                    case Abort(attempt):
                        self._drop(attempt)
                    case Commit(attempt):
                        for other in self._race.attempts:  # aborted now, or kept open in case that it would be shown
                            if other is not attempt:
                                self._drop(other)
                        return self._answers[attempt.number]
                    case Finish(show):
                        return self._shown(show)
            for report in await self._something():
                commands.extend(self._tell(report))
            commands.extend(self._race.tick(monotonic()))

    async def once(self, attempt: Attempt) -> tuple[Report, Answer | None]:
        """One attempt outside of a race, on a connection of its own, and what it was answered."""
        report = await self._try(attempt, fresh=True)
        return report, self._answers.get(attempt.number)

    async def _something(self) -> list[Report]:
        """Wait until an attempt of the running ones has come to something, or the race wants to be woken."""
        wake_at = self._race.wake_at
        left_s = None if wake_at is None else max(LEAST_SLEEP_S, wake_at - monotonic())
        if not self._tasks:
            assert left_s is not None, "nothing runs and nothing is waited for"
            await asyncio.sleep(left_s)
            return []
        await asyncio.wait(self._tasks.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        done = [number for number, task in self._tasks.items() if task.done()]
        return [self._tasks.pop(number).result() for number in done]

    def _tell(self, report: Report) -> list[Command]:
        attempt, now = report.attempt, monotonic()
        if attempt.result is not None:
            return []  # the race ended it meanwhile
        if report.fault is not None:
            return self._race.failed(attempt, report.fault, now)
        self._hear_rest(but=attempt)  # the losers are charged for what came
        return self._race.useful(attempt, now) if report.useful else self._race.release(attempt, now)

    def _hear_rest(self, *, but: Attempt | None = None) -> None:
        """Count what has come of streams that nobody will read on: the provider bills it."""
        for number in self._open:
            answer = self._answers.get(number)
            if answer is not None and answer.stream is not None and answer.attempt is not but:
                answer.stream.feed(unread(answer.response))

    def _drop(self, attempt: Attempt) -> None:
        task = self._tasks.pop(attempt.number, None)
        if task is not None:
            task.cancel()
        self._hang_up(attempt)

    def _hang_up(self, attempt: Attempt) -> None:
        response = self._open.pop(attempt.number, None)
        if response is not None:
            response.close()

    def _shown(self, show: Attempt | None) -> Answer:
        if show is not None and show.number in self._answers:
            return self._answers[show.number]
        attempts = self._race.attempts
        first = [r for a in attempts if a.target == attempts[0].target and (r := self._refusals.get(a.number))]
        raise RefusedError(first[-1] if first else Refusal(Code.UNREACHABLE, "The provider could not be reached."))

    async def _try(self, attempt: Attempt, *, fresh: bool = False) -> Report:
        """One attempt up to its commit point."""
        plan = self._plan
        dial = Dial(fresh=fresh or attempt.cause is Cause.RESEND)
        give_up_at = self._race.give_up_at(attempt.started_at)
        patience = Patience(asyncio.get_running_loop(), give_up_at=give_up_at, idle_s=plan.idle_s, hold_s=plan.hold_s)
        try:
            with patience:
                shipment = plan.ship(attempt)
                response = await self._upstream.send(attempt.target.provider, shipment, dial, connect_s=plan.connect_s)
                attempt.reused = dial.reused
                attempt.status, attempt.answered_at = response.status, monotonic()
                self._open[attempt.number] = response
                patience.headers()
                return await self._read_answer(Answer(attempt, response), patience)
        except AttemptError as exc:
            attempt.reused = dial.reused
            return self._failed(attempt, exc.fault, exc.message)
        except ExpiredError as exc:
            if exc.limit is Limit.HOLD:
                return Report(attempt)
            slow = exc.limit is Limit.FIRST_EVENT and give_up_at < plan.deadline
            return self._failed(
                attempt, Fault.SLOW if slow else Fault.TIMEOUT, f"The provider took too long ({exc.limit.value})."
            )

    def _failed(self, attempt: Attempt, fault: Fault, message: str) -> Report:
        """It came to no answer that could be shown. Called by the attempt's own task, which must live to tell."""
        self._hang_up(attempt)
        self._answers.pop(attempt.number, None)
        clients = self._plan.upload_refusal()
        self._refusals[attempt.number] = clients or Refusal(_REFUSALS.get(fault, Code.UNREACHABLE), message)
        attempt.status = None  # what was begun is no answer
        return Report(attempt, Fault.CALLER if clients else fault)

    async def _read_answer(self, answer: Answer, patience: Patience) -> Report:
        response = answer.response
        if response.status >= 400:
            return await self._error_answer(answer, patience)
        self._answers[answer.attempt.number] = answer
        if self._is_metered_stream(response):
            return await self._event_stream(answer, patience)
        if self._is_held(response):
            return await self._whole_json(answer, patience)
        if is_json(response) and not is_encoded(response.headers):
            answer.ends = Ends(b"")
        return Report(answer.attempt)

    def _is_metered_stream(self, response: Incoming) -> bool:
        return (
            self._plan.endpoint.meter is not None
            and media_type(response) == "text/event-stream"
            and not is_encoded(response.headers)
        )

    def _is_held(self, response: Incoming) -> bool:
        if self._plan.streams_json or response.method == "HEAD" or response.status in (204, 304):
            return False
        return is_json(response)

    async def _error_answer(self, answer: Answer, patience: Patience) -> Report:
        """Read the error and tell what it means. One too large to hold stays open, in case that it is shown."""
        response, attempt, name = answer.response, answer.attempt, self._plan.dialect.NAME
        answer.complete = True
        if response.method != "HEAD":
            answer.held, answer.complete = await self._read(attempt, response, patience)
        self._answers[attempt.number] = answer
        headers, body = response.headers, answer.held
        attempt.retry_after_s = pushback.retry_after_s(response.status, headers, body, name, time.time())
        attempt.retryable = pushback.may_retry(headers)
        return Report(attempt, faults.classify(response.status, headers, body, name))

    async def _whole_json(self, answer: Answer, patience: Patience) -> Report:
        answer.held, answer.complete = await self._read(answer.attempt, answer.response, patience)
        if not answer.complete:
            answer.ends = None if is_encoded(answer.response.headers) else Ends(answer.held)
            return Report(answer.attempt)
        read_usage(self._plan.dialect, self._plan.endpoint, answer)
        fault = self._fault_inside(answer) if self._plan.generates else None
        return Report(answer.attempt, fault, useful=fault is None)

    @staticmethod
    def _fault_inside(answer: Answer) -> Fault | None:
        body = answer.plain()
        if body is None or answer.response.status >= 300:
            return None
        return faults.in_answer(body, was_read=answer.attempt.usage is not None)

    async def _event_stream(self, answer: Answer, patience: Patience) -> Report:
        """Read events until one is useful; those before it are held while another attempt may still be launched."""
        endpoint, attempt = self._plan.endpoint, answer.attempt
        assert endpoint.meter is not None
        stream = answer.stream = Stream(endpoint.meter(), hide_usage=attempt.add_usage)
        if endpoint.operation != FETCH:  # what is fetched was counted when it was made
            attempt.heard = stream.meter
        size = 0
        while True:
            chunk = await self._chunk(attempt, answer.response, patience)
            if not chunk:
                raise AttemptError(
                    Fault.BROKEN, f"Provider {attempt.target.provider} ended its stream before it began."
                )
            answer.held += stream.feed(chunk)
            size += len(chunk)
            if stream.useful:
                attempt.first_at = monotonic()
                return Report(attempt, useful=True)
            if stream.error is not None:
                return Report(attempt, faults.in_stream(stream.error, self._plan.dialect.NAME))
            if not self._race.holding or size > HOLD_EVENTS_BYTES or stream.ended:  # complete, though it says nothing
                return Report(attempt)
            patience.holding()

    async def _read(self, attempt: Attempt, response: Incoming, patience: Patience) -> tuple[bytes, bool]:
        """The body and whether that is all of it: it is not if it is larger than may be held."""
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > HOLD_JSON_BYTES:
            return b"", False
        parts: list[bytes] = []
        size = 0
        content = response.content
        while chunk := await self._chunk(attempt, response, patience):
            parts.append(chunk)
            size += len(chunk)
            if size > HOLD_JSON_BYTES or not self._held.grow(len(chunk)):
                return b"".join(parts), False
            if content.at_eof() and content.exception() is None:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts), True

    async def _chunk(self, attempt: Attempt, response: Incoming, patience: Patience) -> bytes:
        """What comes next, b"" at the end. Raises AttemptError if the answer breaks."""
        try:
            chunk = await response.content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise meaning(exc, attempt.target.provider, reused=False) from exc
        patience.byte()
        return chunk
