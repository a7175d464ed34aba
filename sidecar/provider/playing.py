"""Playing a stream: the pace of its events and the way it breaks.

Decides when each event leaves and when none does any more; a `Sink` knows how
to put bytes on an HTTP response or a WebSocket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from sidecar.provider.call import Stream
from sidecar.provider.faults import Fault
from sidecar.provider.ledger import Outcome

PING_EVERY_S: Final = 0.05
CORRUPT_AFTER_S: Final = 0.01

_NO_LINGER = struct.pack("ii", 1, 0)


class Sink(Protocol):
    """Where a stream goes."""

    async def send(self, data: bytes) -> None:
        """Sends one event."""

    async def ping(self, data: bytes) -> None:
        """Sends a sign of life that is not an event."""

    async def corrupt(self) -> NoReturn:
        """Sends bytes that break the transfer's framing, then closes. Ends by cancellation."""

    async def reset(self) -> NoReturn:
        """Resets the connection. Ends by cancellation."""


async def play(
    stream: Stream,
    sink: Sink,
    fault: Fault,
    *,
    pace_ms: float,
    bill: Callable[[int], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Sends the stream as `fault` wants it, billing tokens as they leave; returns how it ended.

    `pace_ms` is the gap between useful events unless the fault names one. Ends early, as `ok`, once `stopped()`.
    """
    gap_s = (pace_ms if fault.gap_ms is None else fault.gap_ms) / 1000
    breaks_after = None if fault.break_kind is None else fault.break_after
    useful = 0
    if breaks_after == 0:
        return await _break(stream, sink, fault, 0)
    for sent, frame in enumerate(stream.frames, 1):
        if frame.tokens:
            if useful == 0:
                await _first(stream, sink, fault)
            elif gap_s:
                await asyncio.sleep(gap_s)
        if stopped():
            return "ok"
        await sink.send(frame.data)
        if frame.tokens:
            bill(frame.tokens)
            useful += 1
            if useful == breaks_after:
                return await _break(stream, sink, fault, sent)
    return "ok"


async def hold() -> NoReturn:
    """Waits until the handler is cancelled because its client has left."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


async def reset_connection(transport: asyncio.Transport | None) -> NoReturn:
    """Ends a connection with a TCP reset instead of a clean close. Ends by cancellation."""
    if transport is not None and not transport.is_closing():
        if (raw := transport.get_extra_info("socket")) is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
    await hold()


async def corrupt_connection(transport: asyncio.Transport | None, garbage: bytes) -> NoReturn:
    """Sends `garbage` past the protocol and closes. Ends by cancellation.

    It waits a moment first, so that the peer has read what is sound before it meets what isn't.
    """
    await asyncio.sleep(CORRUPT_AFTER_S)
    if transport is not None:
        transport.write(garbage)
        transport.close()
    await hold()


async def _first(stream: Stream, sink: Sink, fault: Fault) -> None:
    left_s = fault.first_ms / 1000
    while left_s > 0:
        if fault.ping:
            await sink.ping(stream.ping)
        step_s = min(left_s, PING_EVERY_S) if fault.ping else left_s
        await asyncio.sleep(step_s)
        left_s -= step_s


async def _break(stream: Stream, sink: Sink, fault: Fault, sent: int) -> Outcome:
    match fault.break_kind:
        case "cut":
            await sink.reset()
        case "malformed":
            await sink.corrupt()
        case "stall":
            await hold()
        case "error":
            await sink.send(stream.error_frame(sent))
            return "failed"
        case "eof" | None:
            pass
    return "cut"
