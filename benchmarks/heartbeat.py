"""Runs the sidecar with a heartbeat on its event loop, which tells how long the loop was kept from its work.

`python benchmarks/heartbeat.py [--where] -m sidecar serve ...` runs that command. A timer of 1 ms beats on the loop;
the greatest gap between two beats is taken three ways: `wall_ms` on the clock, `process_ms` in CPU time of the whole
process, `loop_ms` in CPU time of the loop's own thread. On a busy machine the process may be off its core for long,
which the clock counts and the other two don't. A thread that holds the interpreter's lock is seen by `process_ms`
alone: it is the figure to go by. `gc_ms` is the longest garbage collection, in CPU time.

Ask at the Unix socket `heart.sock` of the working directory: each line sent is answered by a line of JSON, the gaps
since the question before. What was not asked for stands in `heart.json` in the end. `--where` also tells what ran while
a beat was late; its own thread makes the figures worse.
"""

from __future__ import annotations

import asyncio
import gc
import json
import runpy
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, cast

BEAT_S = 0.001
LATE_S = 0.006  # a beat that is `--where`'s business
SOCKET = "heart.sock"
LAST_WORDS = "heart.json"


class Heart:
    """Beats on the running loop, and remembers the greatest gaps."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._gc_began = 0.0
        self.where: dict[str, int] = {}  # stacks seen while a beat was late, and how often
        self._forget()
        gc.callbacks.append(self._collection)
        self._loop.call_later(BEAT_S, self._beat)

    def _forget(self) -> None:
        self.beats = 0
        self.wall_s = self.process_s = self.own_s = self.gc_s = 0.0
        self.where.clear()
        self.last, self._process, self._own = time.perf_counter(), time.process_time(), time.thread_time()

    def _beat(self) -> None:
        wall, process, own = time.perf_counter(), time.process_time(), time.thread_time()
        self.wall_s = max(self.wall_s, wall - self.last)
        self.process_s = max(self.process_s, process - self._process)
        self.own_s = max(self.own_s, own - self._own)
        self.last, self._process, self._own = wall, process, own
        self.beats += 1
        self._loop.call_later(BEAT_S, self._beat)

    def _collection(self, phase: str, info: dict[str, Any]) -> None:
        del info
        if phase == "start":
            self._gc_began = time.thread_time()
        else:
            self.gc_s = max(self.gc_s, time.thread_time() - self._gc_began)

    def take(self) -> dict[str, Any]:
        """The gaps since the last time, in ms."""
        told = {
            "wall_ms": self.wall_s * 1e3,
            "process_ms": self.process_s * 1e3,
            "loop_ms": self.own_s * 1e3,
            "gc_ms": self.gc_s * 1e3,
            "beats": self.beats,
            "where": dict(sorted(self.where.items(), key=lambda item: -item[1])[:5]),
        }
        self._forget()
        return told

    def stop(self) -> None:
        """Write down the last gaps."""
        Path(LAST_WORDS).write_text(json.dumps(self.take()))


class Answering(asyncio.Protocol):
    """One connection of the Unix socket."""

    def __init__(self, heart: Heart) -> None:
        self._heart = heart

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\n")):
            self._transport.write(json.dumps(self._heart.take()).encode() + b"\n")


def watch(heart: Heart, thread_id: int) -> None:
    """Look at the stacks whenever a beat is late. Runs in a thread, for good."""
    while True:
        time.sleep(0.002)
        if time.perf_counter() - heart.last > LATE_S:
            frames = sys._current_frames()  # noqa: SLF001 - the only way
            others = [_shown(f) for t, f in frames.items() if t not in (thread_id, threading.get_ident())]
            seen = " | ".join(["loop: " + _shown(frames[thread_id]), *(o for o in others if "wait" not in o)])
            heart.where[seen] = heart.where.get(seen, 0) + 1


def _shown(frame: FrameType) -> str:
    stack = traceback.extract_stack(frame)[-4:]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(stack))


def beat(where: bool) -> None:
    """From now on a sidecar that starts in this process has a heart."""
    from sidecar.runtime.serve import Lifecycle

    start, close = Lifecycle.start, Lifecycle.close
    hearts: list[Heart] = []
    servers: list[asyncio.AbstractServer] = []  # one that nobody holds is closed

    async def started(self: Lifecycle) -> None:
        await start(self)
        heart = Heart()
        hearts.append(heart)
        if where:
            threading.Thread(target=watch, args=(heart, threading.get_ident()), daemon=True).start()
        servers.append(await asyncio.get_running_loop().create_unix_server(lambda: Answering(heart), SOCKET))

    async def closed(self: Lifecycle) -> None:
        await close(self)
        if hearts:
            hearts[0].stop()

    Lifecycle.start, Lifecycle.close = started, closed  # type: ignore[method-assign]


def main() -> None:
    """Become `python -m <module> <arguments>`, with a heartbeat."""
    sys.path.pop(0)  # this folder: it isn't one of modules
    arguments = sys.argv[1:]
    where = arguments[0] == "--where"
    if where:
        arguments.pop(0)
    _, module, *rest = arguments
    beat(where)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
