"""What is counted, of which case, by which instrument. The numbers come out the same on any machine.

Cases: `request` is one plain request of 1 kB with its answer, `every_policy` the same with all policies on, `chunk` one
relayed event of a stream. Requests are sent one at a time with a pause, chunks in lock-step.

Bytes copied are told by what they cost, which is room for the copy: bodies of two sizes are sent, and the difference of
what was allocated, by the difference of the sizes, is how often each byte is copied (`copies_of_prompt`,
`copies_of_answer`, `copies_of_chunk`). What is allocated at all is counted beside it. The kernel's own copies are the
system calls; only those of the loop's thread have a limit, since the writer of events keeps its own time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks import systems
from benchmarks.guard import heap, strace
from benchmarks.guard.drive import Connections, stopped_together
from benchmarks.guard.instruments import EMPTY, PAUSE_S, Calls, Heap, Instrument, Syscalls, marked, per_unit
from benchmarks.guard.lockstep import LockStep
from benchmarks.lab import SMALL_PROMPT, Lab, target
from benchmarks.systems import Running

EVERY_POLICY = systems.pin_file(frozenset(systems.EVERYTHING))
REQUESTS, CHUNKS = 1, 10
"""In a batch."""
BATCHES = 17
WARM_REQUESTS, WARM_CHUNKS = 50, 60
MORE_PROMPT, MORE_ANSWER, MORE_CONTENT = 16 * 1024, 16 * 1024, 4 * 1024
"""By how much the larger of two bodies is larger."""

NAMES = {
    "python_calls": "Python function calls, each resumption of a coroutine included",
    "our_calls": "those of sidecar/",
    "c_calls": "calls of functions written in C",
    "coroutine_steps": "steps of coroutines: each `await` that starts or resumes one, at each level",
    "tasks": "tasks created",
    "timers": "timers made (call_later, call_at)",
    "callbacks": "callbacks put into the loop (call_soon)",
    "allocations": "blocks of memory allocated",
    "allocated_bytes": "their bytes",
    "copies_of_prompt": "how often each byte of a prompt is copied",
    "copies_of_answer": "how often each byte of an answer is copied",
    "copies_of_chunk": "how often each byte of a chunk is copied",
    "syscalls": "system calls of the loop's thread",
}


@dataclass(slots=True)
class Counted:
    """Counts by case and name. `details`: those that have no limit, such as the calls of each function of ours."""

    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    details: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def add(self, case: str, counted: dict[str, float]) -> None:
        for name, count in counted.items():
            table = self.counts if name in NAMES else self.details
            table.setdefault(case, {})[name] = round(count, 2)


async def count(lab: Lab) -> Counted:
    """All of it. Raises FailedError, StartError."""
    counted = Counted()
    instruments: list[type[Instrument]] = [Calls]
    if heap.tracer() is None:
        counted.skipped.append(f"what is allocated: glibc's {heap.TRACER} is not here (Debian: libc6 holds it)")
    else:
        instruments.append(Heap)
    if why := strace.missing():
        counted.skipped.append(f"system calls: {why}")
    else:
        instruments.append(Syscalls)
    async with AsyncExitStack() as stack, stopped_together() as started:
        sessions = []
        for kind in instruments:  # all are started before anything is counted, for starting takes the core
            provider = await stack.enter_async_context(LockStep())
            for pins in (None, EVERY_POLICY):
                session = _start(lab, provider, kind, pins)
                started.append(session.running)
                sessions.append((session, provider, pins is None))
        await asyncio.gather(
            *(
                _plain(session, provider, counted) if is_plain else _every_policy(session, counted)
                for session, provider, is_plain in sessions
            )
        )
    return counted


@dataclass(slots=True)
class _Session:
    """One system under an instrument, and what it is asked for, in order."""

    instrument: Instrument
    running: Running
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def ask(self, case: str, size: int, ask: Callable[[], Awaitable[None]]) -> None:
        """`ask` asks for `size` units of this case."""
        await marked(self.instrument, ask, BATCHES)
        self.asked.append((case, size))

    async def request(self, case: str, *, prompt: int = SMALL_PROMPT) -> None:
        connection = await Connections.open(self.running.name, target(self.running, prompt=prompt))
        await connection.paced(WARM_REQUESTS, 0.0)
        await self.ask(case, REQUESTS, lambda: connection.paced(REQUESTS, PAUSE_S))
        connection.close()

    async def chunk(self, case: str, provider: LockStep, *, more: int = 0) -> None:
        streams = await provider.streams(self.running, 1, content_bytes=24 + more)
        await streams.advance(WARM_CHUNKS)
        await self.ask(case, CHUNKS, lambda: streams.advance(CHUNKS))
        await streams.end()

    async def end(self) -> dict[str, dict[str, float]]:
        """Counts by case."""
        await asyncio.to_thread(self.running.stop)  # it waits for our ends of its connections
        intervals = self.instrument.read()
        of_case = EMPTY + BATCHES  # and between two cases, one of warming up
        return {
            case: per_unit(intervals[at * (of_case + 1) :][:of_case], size)
            for at, (case, size) in enumerate(self.asked)
        }


def _start(lab: Lab, provider: LockStep, kind: type[Instrument], pins: str | None) -> _Session:
    instrument = kind(lab.place("counts"))
    running = systems.sidecar(
        lab.place("model-sidecar"), provider.port, cores=lab.measured, python=instrument.python, pins=pins
    )
    instrument.attach(running.process)
    return _Session(instrument, running)


async def _plain(session: _Session, provider: LockStep, counted: Counted) -> None:
    """`provider`: nobody else's, where the heap is looked at."""
    is_heap = isinstance(session.instrument, Heap)
    await session.request("request")
    await session.chunk("chunk", provider)
    if is_heap:
        await session.request("larger prompt", prompt=SMALL_PROMPT + MORE_PROMPT)
        await session.chunk("larger chunk", provider, more=MORE_CONTENT)
        provider.answer_bytes(1000 + MORE_ANSWER)
        await session.request("larger answer")
    told = await session.end()
    for case in ("request", "chunk"):
        counted.add(case, told[case])
    if is_heap:
        counted.add("request", {"copies_of_prompt": _copies(told, "request", "larger prompt", MORE_PROMPT)})
        counted.add("request", {"copies_of_answer": _copies(told, "request", "larger answer", MORE_ANSWER)})
        counted.add("chunk", {"copies_of_chunk": _copies(told, "chunk", "larger chunk", MORE_CONTENT)})


async def _every_policy(session: _Session, counted: Counted) -> None:
    await session.request("every_policy")
    counted.add("every_policy", (await session.end())["every_policy"])


def _copies(told: dict[str, dict[str, float]], small: str, large: str, more_bytes: int) -> float:
    """Copies of each byte, to a tenth: allocators round up, and a copy is a copy."""
    more = told[large]["allocated_bytes"] - told[small]["allocated_bytes"]
    return math.floor(more / more_bytes * 10 + 0.5) / 10
