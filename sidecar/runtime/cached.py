"""Answers that are given again: sent from memory, waited for while another request fetches them, kept when they come.

Not decided here: whether a request may have such an answer (`policies/cache`), and whether an answer may be kept
(`dialects/keepable`, `dialects/finished`).

A leader is a request that others wait for. Its upstream call belongs to all of them: if its own client leaves, the
call goes on in the same task until its answer is there or the last of the others has left too. So nobody pays twice,
and no task is made for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.core.answers import Flight, Stored, entry_key
from sidecar.dialects.finished import array_finished_normally, finished_normally
from sidecar.dialects.keepable import keepable
from sidecar.errors import Code, Refusal, RefusedError
from sidecar.runtime.answer import Answer
from sidecar.runtime.call import Call
from sidecar.runtime.front import FrontProtocol
from sidecar.runtime.headers import to_client
from sidecar.runtime.recorder import Recorder
from sidecar.runtime.reply import LARGE_BYTES, Reply
from sidecar.runtime.shared import DRAINING, Shared
from sidecar.runtime.watch import Alarm, ExpiredError, Limit


class _Until(Alarm):
    """One limit, from the start."""

    __slots__ = ("_due",)

    def __init__(self, loop: asyncio.AbstractEventLoop, at: float, limit: Limit) -> None:
        super().__init__(loop)
        self._due = (at, limit)

    def _next(self) -> tuple[float, Limit]:
        return self._due


async def replay(call: Call, stored: Stored, shared: Shared) -> Reply:
    """Send a whole answer from memory, byte for byte, a stream too; what is ours to say of it is said anew."""
    assert call.snapshot is not None
    assert call.exchange is not None
    call.stored = stored
    call.status = stored.status
    reply = Reply(stored.status, [*stored.headers, *call.says()], reason=stored.reason, body=stored.body)
    if len(stored.body) <= LARGE_BYTES:
        await reply.prepare(call.request)
        call.sent_first(shared.now())
        await reply.write_eof()
        return reply
    stall_s = call.snapshot.pins.timeouts(call.exchange.pin).write_stall_s
    watch = _Until(shared.loop, shared.loop.time() + stall_s, Limit.WRITE_STALL)
    shared.watches.add(watch)
    try:
        with watch:
            await reply.prepare(call.request)
            call.sent_first(shared.now())
            await reply.write_eof()
    except ExpiredError as exc:
        call.client_gone = exc.limit is Limit.WRITE_STALL
        reply.abort()
    finally:
        shared.watches.discard(watch)
    return reply


async def follow(call: Call, flight: Flight, shared: Shared, *, until: float) -> Stored | None:
    """Wait for somebody else's answer to the same request. None: there is none to share, ask for yourself.

    `until` is when this request's own time for a first useful event is over, in the loop's time. Raises RefusedError
    then, at a shutdown, and where the call failed; the call itself goes on for whoever still waits for it.
    """
    flights = shared.state.flights
    told: asyncio.Future[Stored | Refusal | None] = shared.loop.create_future()

    def tell(found: Stored | Refusal | None) -> None:
        if not told.done():
            told.set_result(found)

    if call.launched_at is None:
        call.launched_at = shared.now()  # what comes now is the provider's time, not ours
    flights.join(flight, call.id, tell)
    watch = _Until(shared.loop, until, Limit.FIRST_EVENT)
    shared.watches.add(watch)
    try:
        with watch:
            found = await told
    except ExpiredError as exc:
        if exc.limit is Limit.DRAIN:
            raise RefusedError(DRAINING) from None
        raise RefusedError(Refusal(Code.TIMEOUT, f"The provider took too long ({exc.limit.value}).")) from None
    finally:
        flights.leave(flight, call.id)
        shared.watches.discard(watch)
    call.answered_at = shared.now()
    if isinstance(found, Refusal):
        raise RefusedError(found)
    return found


def lead(call: Call, shared: Shared) -> None:
    """If others may wait for this call: see to it that it outlives its own client as long as they do."""
    flight = shared.state.flights.led_by(call.id)
    protocol = call.request.protocol
    if flight is None:
        return
    flight.second = call.launched_at is not None  # nothing of its own was launched yet: it waited
    if not isinstance(protocol, FrontProtocol):
        return

    def outlives(end: Callable[[], object]) -> bool:
        if flight.landed or not flight.waiters:
            return False
        flight.forsaken = end
        return True

    protocol.outlives = outlives


def recorder(call: Call, answer: Answer, shared: Shared) -> Recorder | None:
    """One for a stream that may be kept, an array of chunks too (Gemini); None for any other answer."""
    x = call.exchange
    if x is None or x.cache_key is None or not x.ask.stream or answer.response.status != 200:
        return None
    if answer.stream is None and answer.ends is None:
        return None
    return Recorder(shared.state.answers.max_entry_bytes, call.held.grow)


def keep(call: Call, answer: Answer, shared: Shared) -> None:
    """The answer to send was chosen: share it with those who wait, and keep it if it is whole and may be kept.

    Whatever HTTP answer the provider gave in whole is shared, errors too; only good ones are kept.
    """
    x, route = call.exchange, call.route
    if x is None or x.cache_key is None or route is None:
        return
    flight = shared.state.flights.led_by(call.id)
    if not answer.complete:
        if flight is not None:
            shared.state.flights.land(flight, None)  # too large to hold, or no JSON
        return
    body = answer.plain()
    normal = body is not None and finished_normally(route.dialect, route.endpoint, body)
    stored = _put(call, answer, answer.held, shared, normal=normal)
    if flight is not None:
        shared.state.flights.land(flight, stored)


def keep_stream(call: Call, answer: Answer, copy: Recorder | None, shared: Shared) -> None:
    """All of a stream was sent: keep it, if it ended normally."""
    if copy is None or (body := copy.body) is None:
        return
    stream, route = answer.stream, call.route
    assert route is not None
    if stream is None:
        normal = array_finished_normally(route.endpoint, body)
    else:
        normal = stream.meter.normal and stream.error is None
    _put(call, answer, body, shared, normal=normal)


def _put(call: Call, answer: Answer, body: bytes, shared: Shared, *, normal: bool) -> Stored:
    """Keep it if it may be kept. Returns it as others may see it."""
    x, attempt, response = call.exchange, answer.attempt, answer.response
    assert x is not None
    assert x.cache_key is not None
    now = shared.now()
    headers = to_client(response.headers, response.raw_headers)
    kept = keepable(response.status, complete=True, normal=normal, headers=headers.items())
    headers.popall("Set-Cookie", None)  # one client's alone
    stored = Stored(
        status=response.status,
        reason=response.reason,
        headers=tuple(headers.items()),
        body=body,
        provider=attempt.target.provider,
        model=attempt.target.model or "",
        usage=attempt.usage,
        stored_at=now,
    )
    if kept:
        key = entry_key(x.cache_key.identity, attempt.target)
        shared.state.answers.put(key, stored, x.cache_key.ttl_s, now)
        if shared.fleet is not None:
            shared.fleet.put(key, stored, x.cache_key.ttl_s)
    return stored
