"""After the commit: the answer's bytes to the client, one read and one write at a time.

A broken answer never ends as a complete one: where the dialect has an error event and we are between two events, that
is sent; anywhere else the connection is broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import aiohttp
from aiohttp.web_request import BaseRequest

from sidecar.errors import Refusal
from sidecar.runtime.answer import Answer
from sidecar.runtime.headers import to_client
from sidecar.runtime.recorder import Recorder
from sidecar.runtime.reply import LARGE_BYTES, Reply
from sidecar.runtime.watch import Watch

LAST_WORDS_S = 1.0


class BrokenAnswerError(Exception):
    """The provider's answer ended before it was complete."""


class Relay:
    """Sends one answer. `on_first` is called when the first byte was handed to the client's socket.

    `on_useful` is called once, at the first useful event of a stream that was committed before it. `copy` gets each
    piece of a stream that is about to be sent.
    """

    __slots__ = ("_on_first", "_on_useful", "_put", "_request", "answer", "copy", "reply")

    def __init__(
        self,
        request: BaseRequest,
        answer: Answer,
        ours: Sequence[tuple[str, str]],
        on_first: Callable[[], None],
        on_useful: Callable[[], object],
        *,
        copy: Recorder | None = None,
    ) -> None:
        self._request = request
        self.answer = answer
        self._on_first = on_first
        self._on_useful = on_useful
        response = answer.response
        headers = to_client(response.headers, response.raw_headers)
        for name, value in ours:
            if name == "x-should-retry":
                headers.popall(name, None)
            headers.add(name, value)
        # The length holds where the bytes are passed on as they are, and where there is no body to contradict it.
        bodiless = request.method == "HEAD" or response.status in (204, 304)
        length = response.headers.get("Content-Length")
        if length is not None and (bodiless or (answer.stream is None and not answer.complete)):
            headers["Content-Length"] = length
        self.reply = Reply(
            response.status, headers, reason=response.reason, body=answer.held if answer.complete else None
        )
        self.copy = copy
        self._put = self.reply.put if copy is None else self._copy_and_put

    async def run(self, watch: Watch) -> None:
        """Send it to its end. Raises BrokenAnswerError if the provider didn't finish; client errors pass through."""
        reply, answer = self.reply, self.answer
        if answer.complete and len(answer.held) <= LARGE_BYTES and not self._request.protocol.writing_paused:
            await reply.prepare(self._request)  # all of it is written at once, so that nothing is left to watch
            self._on_first()
            return
        watch.begin(events=answer.stream is not None, useful=answer.attempt.first_at is not None)
        await reply.prepare(self._request)
        if answer.complete:
            self._on_first()
            watch.writing()
            await reply.write_eof()
            return
        if answer.held:
            put_all = self._put(answer.held)
            self._on_first()
            if not put_all:
                await reply.taken(watch)
        else:
            reply.send_head()
        await (self._bytes(watch) if answer.stream is None else self._events(watch))
        await reply.write_eof()

    async def _bytes(self, watch: Watch) -> None:
        read, put, ends = self.answer.response.content.readany, self._put, self.answer.ends
        try:
            while chunk := await read():
                watch.byte()
                if ends is not None:
                    ends.feed(chunk)
                if not put(chunk):
                    await self.reply.taken(watch)
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            self._raise_unless_client(exc)

    async def _events(self, watch: Watch) -> None:
        stream = self.answer.stream
        assert stream is not None
        read, put = self.answer.response.content.readany, self._put
        had_ended = stream.ended
        if had_ended:
            watch.tail()
        try:
            while chunk := await read():
                data = stream.feed(chunk)
                if stream.useful:
                    watch.useful()
                    if self.answer.attempt.first_at is None:
                        self._on_useful()
                else:
                    watch.byte()
                if data and not put(data):
                    await self.reply.taken(watch)
                if stream.ended and not had_ended:
                    had_ended = True
                    watch.tail()
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            if not stream.done:
                self._raise_unless_client(exc)
        rest = stream.rest()
        if not stream.done:
            raise BrokenAnswerError  # half an event is not sent: ours would be read as its continuation
        if rest and not put(rest):
            await self.reply.taken(watch)

    def _copy_and_put(self, data: bytes) -> bool:
        assert self.copy is not None
        self.copy.add(data)
        return self.reply.put(data)

    def _raise_unless_client(self, exc: Exception) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left") from exc
        raise BrokenAnswerError from exc

    async def interrupt(self, event: Callable[[Refusal], bytes], refusal: Refusal) -> None:
        """The answer is broken after its commit: say so in the stream if there is a place for it, else break off."""
        stream = self.answer.stream
        reply = self.reply
        if stream is None or not stream.at_boundary or "Content-Length" in reply.headers:
            reply.abort()
            return
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await reply.write(event(refusal))
                await reply.write_eof()  # a whole message: the connection serves the client's next request
        except (TimeoutError, ConnectionError):
            reply.abort()
