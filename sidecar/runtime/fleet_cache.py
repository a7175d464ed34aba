"""The cache's second tier, at the fleet's server: asked on a local miss, within a deadline; filled in the background.

Decided here: whether the server is asked at all. A request asks only if a connection lies ready; nothing that a request
waits for connects, and none waits for longer than the deadline. One answer that is late or wrong, and no request asks
until the server has answered in time in the background. Each time that happens soon after, the pause doubles.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from sidecar.core.answers import Stored
from sidecar.runtime.fleet_entry import MAX_BYTES, decode, encode
from sidecar.runtime.fleet_link import Connect, Link, LinkError
from sidecar.runtime.fleet_script import PREFIX

LINKS = 8
"""Connections for asking: so many requests ask at once, and so many wait in vain when the server stops answering."""
QUEUE_BYTES = 8 * 1024 * 1024
"""Of answers that wait to be written."""
HEAD_BYTES = 4096
"""An answer's headers and what holds them count for that much until it is written."""
CONNECT_S = 1.0
WRITE_S = 1.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
LONGEST_TTL_S = 30 * 86_400


def place(key: bytes) -> bytes:
    """Where an entry lies."""
    return f"{PREFIX}:cache:".encode() + key


class SecondTier:
    """`run` is its task. `dropped` counts answers that were not written, `late` the times that the server failed."""

    def __init__(self, connect: Connect, deadline_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.dropped = self.late = 0
        self._connect = connect
        self._deadline_s = deadline_s
        self._now = now
        self._idle: list[Link] = []
        self._out = 0
        self._open = False
        self._pause_s = 0.0
        self._opened_at = 0.0
        self._queue: deque[tuple[bytes, Stored, float]] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._writer: Link | None = None

    async def find(self, key: bytes, ttl_s: float) -> Stored | None:
        """The answer kept under that key, if it is younger than `ttl_s`. Never raises but for cancellation."""
        if not self._open or not self._idle:
            return None
        link = self._idle.pop()
        self._out += 1
        try:
            where = place(key)
            commands = (("GETRANGE", where, 0, MAX_BYTES), ("PTTL", where))
            raw, left_ms = await link.ask(*commands, limit_s=self._deadline_s)
        except LinkError:
            self._failed()
            return None
        finally:
            self._out -= 1
            if len(self._idle) + self._out < LINKS:
                self._wake.set()
        if self._open:
            self._idle.append(link)
        else:
            link.close()
        now = self._now()
        found = decode(key, raw, left_ms, now)
        if found is None or now - found[0].stored_at >= ttl_s:
            return None
        return found[0]

    def put(self, key: bytes, stored: Stored, ttl_s: float) -> None:
        """Write it soon. The next failure of the server drops what waits."""
        size = len(stored.body) + HEAD_BYTES
        if size > MAX_BYTES or self._queued_bytes + size > QUEUE_BYTES:
            self.dropped += 1
            return
        self._queue.append((key, stored, ttl_s))
        self._queued_bytes += size
        self._wake.set()

    async def run(self) -> None:
        """Keep connections ready, write what waits, until cancelled."""
        try:
            while True:
                if not self._open:
                    await asyncio.sleep(self._pause_s)
                try:
                    await self._work()
                except LinkError:
                    self._failed()
                    self._close_writer()
        finally:
            self._shut()
            self._close_writer()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _work(self) -> None:
        """Raises LinkError where the server doesn't do its part."""
        failures = self.late
        if self._writer is None:
            self._writer = await Link.open(self._connect, CONNECT_S)
        if not self._open:
            await self._writer.ask(("PING",), limit_s=self._deadline_s)
        while len(self._idle) + self._out < LINKS:
            self._idle.append(await Link.open(self._connect, CONNECT_S))
        if self.late != failures:
            raise LinkError("a request found it out in the meantime")
        if not self._open:
            self._open = True
            self._opened_at = self._now()
        while self._queue:
            await self._write(*self._queue.popleft())
            if self._writer is None:
                return
        self._wake.clear()
        if len(self._idle) + self._out >= LINKS:
            await self._wake.wait()

    async def _write(self, key: bytes, stored: Stored, ttl_s: float) -> None:
        """A server that takes nothing more (it is full, or a replica) may still be read from."""
        assert self._writer is not None
        self._queued_bytes -= len(stored.body) + HEAD_BYTES
        ttl_s = min(ttl_s, LONGEST_TTL_S)
        left_ms = int((ttl_s - max(0.0, self._now() - stored.stored_at)) * 1000)
        entry = encode(key, stored, int(ttl_s * 1000))
        if entry is None or left_ms < 1:
            self.dropped += 1
            return
        try:
            await self._writer.ask(("SET", place(key), entry, "PX", left_ms), limit_s=WRITE_S)
        except LinkError:
            self._writer = None
            self.dropped += 1
            self._give_up_writing()
            await asyncio.sleep(FIRST_PAUSE_S)

    def _failed(self) -> None:
        """No request asks from here on. Called by a request that waited in vain, and by the task."""
        if self._open:
            self.late += 1
            soon = self._now() - self._opened_at < 10 * self._pause_s
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s) if soon else FIRST_PAUSE_S
        else:
            self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self._pause_s))
        self._shut()
        self._wake.set()

    def _shut(self) -> None:
        """Nobody asks any more; what waits isn't worth keeping."""
        self._open = False
        for link in self._idle:
            link.close()
        self._idle.clear()
        self._give_up_writing()

    def _give_up_writing(self) -> None:
        self.dropped += len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
