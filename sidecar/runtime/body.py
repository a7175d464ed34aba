"""Reading a client's body: how much, how fast, and how much of it all at once.

A body that must be read is bounded in size and in time: each `body_idle` must bring at least a kibibyte or the rest,
so that a trickle holds nothing for long. Bodies that aren't rewritten stream through `pieces` with the same clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aiohttp.web_protocol import RequestPayloadError
from aiohttp.web_request import BaseRequest

from sidecar.errors import Code, Refusal, RefusedError

LEAST_PROGRESS_BYTES = 1024
HEAD_BYTES = 64 * 1024
"""How much of a body may be looked at to tell whether the rest may pass by."""


class Buffers:
    """Bytes that the process holds for requests in flight, against one limit."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        self.used -= size


class Held:
    """What one request has taken of the buffers; given back all at once."""

    __slots__ = ("_buffers", "size")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.size = 0

    def grow(self, size: int) -> bool:
        if not self._buffers.take(size):
            return False
        self.size += size
        return True

    def release(self) -> None:
        self._buffers.give(self.size)
        self.size = 0


def overloaded(what: str) -> RefusedError:
    return RefusedError(Refusal(Code.OVERLOADED, f"The sidecar is at its limit of {what}.", 1.0, close=True))


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        Refusal(Code.TOO_LARGE, f"The request body is over the limit of {int(limit)} bytes.", close=True)
    )


def _stalled() -> RefusedError:
    return RefusedError(Refusal(Code.BAD_REQUEST, "The request body stopped arriving.", close=True))


def _malformed() -> RefusedError:
    return RefusedError(Refusal(Code.BAD_REQUEST, "The request body's framing is malformed.", close=True))


async def read_whole(request: BaseRequest, held: Held, *, limit: int, idle_s: float) -> bytes:
    """The whole body. Raises RefusedError: too large, overloaded, stalled or malformed."""
    body, _ = await read_until(request, held, limit=limit, idle_s=idle_s)
    return body


async def read_until(
    request: BaseRequest, held: Held, *, limit: int, idle_s: float, passes: Callable[[bytes], bool] | None = None
) -> tuple[bytes, bool]:
    """The body and whether that is all of it: not if `passes`, asked about its head, says that the rest may pass by.

    Raises RefusedError as `read_whole` does; what may pass by has no limit of size.
    """
    declared = request.content_length or 0
    if declared > limit and passes is None:
        raise _too_large(limit)
    if passes is None and (body := _arrived(request)) is not None:
        if len(body) > limit:
            raise _too_large(limit)
        if not held.grow(len(body)):
            raise overloaded("buffered bytes")
        return body, True
    parts: list[bytes] = []
    size = 0
    async with aclosing(pieces(request, idle_s=idle_s)) as source:
        async for piece in source:
            parts.append(piece)
            size += len(piece)
            if passes is not None and size - len(piece) <= HEAD_BYTES and passes(b"".join(parts)):
                return b"".join(parts), False
            if size > limit or (declared > limit and size > HEAD_BYTES):
                raise _too_large(limit)
            if not held.grow(len(piece)):
                raise overloaded("buffered bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts), True


def _arrived(request: BaseRequest) -> bytes | None:
    """The whole body, if all of it is here already, as it mostly is when the headers are read."""
    content = request.content
    return content.read_nowait() if content.is_eof() and content.exception() is None else None


async def pieces(request: BaseRequest, *, idle_s: float) -> AsyncGenerator[bytes]:
    """The body as it arrives. Raises RefusedError if it stalls or its framing is malformed."""
    content = request.content
    loop = asyncio.get_running_loop()
    window_ends, progress = loop.time() + idle_s, 0
    while True:
        try:
            piece = content.read_nowait()
            if not piece:
                if content.at_eof():
                    return
                async with asyncio.timeout_at(window_ends):
                    piece = await content.readany()
        except TimeoutError:
            raise _stalled() from None
        except RequestPayloadError:
            raise _malformed() from None
        progress += len(piece)
        if progress >= LEAST_PROGRESS_BYTES:
            window_ends, progress = loop.time() + idle_s, 0
        if piece:
            yield piece
