"""A long mixed load with 30 % aborted streams: memory, descriptors and series must stay flat, and nothing be left over.

`python -m benchmarks soak --requests 1000000` keeps many connections busy with plain and cached requests, streams that
are read whole, streams that the client leaves at any moment, and upstreams that fail or break off, while the pin file
is swapped again and again. Memory is read each second. In the end, everything that a request takes must be given back.

Decides: the mix, what is looked at in the end, and how much memory may grow (`Limits`). The exit code is 1 if one is
passed. Does not decide: how fast anything must be.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import uvloop

from benchmarks import systems
from benchmarks.caller import request_to
from benchmarks.figures import Figure
from benchmarks.lab import Lab
from benchmarks.leaver import Client
from benchmarks.provider import BREAK, FAIL, Script
from benchmarks.systems import CHAT, Running, pin_file

KINDS = {"plain": 37, "kept": 14, "stream": 18, "left": 30, "failing": 0.5, "broken": 0.5}
"""Of a hundred requests. `left` are the streams whose client goes away."""
MANY_CONNECTIONS = 64
STREAM = Script(chunks=8, gap_ms=4, answer_bytes=1000)
KEPT_PROMPTS = 200
PROMPT = "x" * 800
PIN_NAMES = 30
POLICIES = frozenset({"cache", "retry", "fallback", "budget", "breaker"})
CYCLE = 6  # generations until models come again
SAMPLE_S = 1.0
TELL_S = 5.0
WARM_SHARE = 0.5  # of the samples: caches fill, the allocator finds its size
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What may not be passed. Memory: how much the line through RSS rises in the second half."""

    growth_mib: float = 2.0
    series_share: float = 0.1
    descriptors: int = 0


@dataclass(slots=True)
class Sample:
    """How it stood after so many requests."""

    done: int
    pss_mib: float
    rss_mib: float
    descriptors: int
    cpu_s: float


@dataclass(slots=True)
class Told:
    """What the sidecar and the provider say of themselves when nothing goes on."""

    in_flight: float
    buffered_bytes: float
    connections: float
    counted: float  # requests that were settled
    series: int
    upstream: int  # connections that the provider sees open
    descriptors: int


@dataclass(slots=True)
class Soaked:
    """A whole run. `sent` by kind, `statuses` by kind and status (0: the connection was lost)."""

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    swaps: int = 0
    seconds: float = 0.0
    halfway: Told | None = None
    before: Told | None = None
    after: Told | None = None

    @property
    def done(self) -> int:
        return sum(self.sent.values())


class Soak:
    """One run against a running sidecar, which has the pin file of `pins(1)` in `folder`."""

    def __init__(self, running: Running, provider: Running, folder: Path, *, requests: int, swap_every: int) -> None:
        self._running = running
        self._provider = provider
        self._folder = folder
        self._requests = requests
        self._swap_every = swap_every
        self._chance = random.Random(1)  # noqa: S311 - not for secrets
        self.found = Soaked()

    async def run(self, connections: int) -> Soaked:
        """All requests, then the look at what is left."""
        found = self.found
        await self._burst(connections)
        found.before = await self._settled()
        began = time.monotonic()
        sampler = asyncio.create_task(self._sample(began))
        await asyncio.gather(*(self._keep_busy(self._requests // 2) for _ in range(connections)))
        found.halfway = await self._settled()
        await asyncio.gather(*(self._keep_busy(self._requests) for _ in range(connections)))
        found.seconds = time.monotonic() - began
        sampler.cancel()
        found.after = await self._settled()
        self._look()
        return found

    async def _burst(self, connections: int) -> None:
        """As many requests at once as there will ever be, so that pools have their size before the first look."""
        for _ in range(3):
            clients = [await self._connect() for _ in range(connections)]
            await asyncio.gather(*(client.send(self._request("stream")) for client in clients))
            for client in clients:
                client.leave(rudely=False)

    async def _connect(self) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, "127.0.0.1", self._running.port)
        return client

    async def _keep_busy(self, until: int) -> None:
        """One connection's share, until so many requests were sent in all."""
        client: Client | None = None
        found = self.found
        while found.done < until:
            kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
            if found.done // self._swap_every > found.swaps:
                self._swap()
            if client is None or not client.alive:
                client = await self._connect()
            found.sent[kind] += 1
            answer = client.send(self._request(kind))
            if kind == "left":
                await self._leave(client, answer)
                continue
            found.statuses[kind, await answer] += 1
        if client is not None:
            client.leave(rudely=False)

    async def _leave(self, client: Client, answer: asyncio.Future[int]) -> None:
        """Before the answer's headers, or after some pieces of it; now and then the answer is whole before that."""
        pieces = self._chance.randrange(STREAM.chunks + 2)
        if pieces == 0:
            await asyncio.sleep(self._chance.choice((0, 0.0005, 0.002)))
            client.leave(rudely=self._chance.random() < 0.5)
        else:
            client.leave_after = pieces
        self.found.statuses["left", await answer] += 1
        client.leave(rudely=False)
        client.leave_after = None

    def _request(self, kind: str) -> bytes:
        text = f"{self._chance.random()} {PROMPT}"
        if kind == "kept":
            text = f"{self._chance.randrange(KEPT_PROMPTS)} {PROMPT}"
        elif kind in ("failing", "broken"):
            text += (FAIL if kind == "failing" else BREAK).decode()
        pin = {"kept": "chat.core", "failing": "chat.of-3", "broken": "chat.of-3"}.get(kind, "chat.of-4")
        body: dict[str, object] = {"model": pin, "messages": [{"role": "user", "content": text}]}
        if kind != "kept":
            body["user"] = str(self._chance.random())
        if kind in ("stream", "left"):
            body["stream"] = True
        return request_to(self._running.port, CHAT, json.dumps(body, separators=(",", ":")).encode())

    def _swap(self) -> None:
        self.found.swaps += 1
        fresh = self._folder / "fresh"
        fresh.write_text(pins(self.found.swaps + 1))
        fresh.rename(self._folder / "pins.yaml")

    async def _sample(self, began: float) -> None:
        told_at = began
        while True:
            await asyncio.sleep(SAMPLE_S)
            sample, done = self._look(), self.found.done
            if (now := time.monotonic()) - told_at >= TELL_S:
                told_at = now
                rate = done / (now - began)
                told = f"{done:9,} of {self._requests:,}  {rate:5.0f}/s  {sample.cpu_s / done * 1e6:5.0f} µs CPU each  "
                told += f"PSS {sample.pss_mib:4.1f} MiB  RSS {sample.rss_mib:4.1f} MiB  {sample.descriptors} open  "
                print(f"{told}{(self._requests - done) / rate:5.0f} s to go", file=sys.stderr, flush=True)

    def _descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self._running.process.pid}/fd").iterdir())

    async def _settled(self) -> Told:
        """What is told once nothing goes on any more. The last client has just left."""
        ends = time.monotonic() + 60
        while True:
            await asyncio.sleep(SETTLE_S)
            told = await asyncio.to_thread(self._told)
            if not told.in_flight or time.monotonic() > ends:
                return told

    def _told(self) -> Told:
        assert self._running.admin is not None
        lines = _get(self._running.admin, "/metrics").decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        upstream = json.loads(_get(self._provider.port, "/bench/ledger"))["open"] - 1  # one of them asks
        return Told(
            in_flight=float(values["sidecar_in_flight"]),
            buffered_bytes=float(values["sidecar_buffered_bytes"]),
            connections=float(values["sidecar_connections"]),
            counted=float(values["sidecar_overhead_seconds_count"]),
            series=len(values),
            upstream=upstream,
            descriptors=self._descriptors(),
        )

    def _look(self) -> Sample:
        process = self._running.process
        sample = Sample(self.found.done, process.memory_mib(), process.rss_mib(), self._descriptors(), process.cpu_s())
        self.found.samples.append(sample)
        return sample


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def pins(generation: int) -> str:
    """Each generation names other models than the one before, so that what is kept of each must be let go again.

    Those of `chat.core` stay, for the sake of its cache.
    """
    made = pin_file(
        frozenset({"cache", "retry", "fallback", "budget", "breaker"}), names=PIN_NAMES, generation=generation
    )
    return re.sub(r"(bench-(?:[3-9]|\d\d+)-2026-01)-01", rf"\1-{generation % CYCLE + 1:02}", made)


def growth_mib(samples: Sequence[Sample]) -> float:
    """How much the line through RSS rises over the second half. (PSS also moves with what others share.)"""
    late = samples[int(len(samples) * WARM_SHARE) :]
    if len(late) < 2 or late[0].done == late[-1].done:
        return 0.0
    slope, _ = statistics.linear_regression([s.done for s in late], [s.rss_mib for s in late])
    return slope * (late[-1].done - late[0].done)


def faults(found: Soaked, limits: Limits) -> Iterator[str]:
    """What is not as it should be, in words."""
    before, halfway, after = found.before, found.halfway, found.after
    assert before is not None
    assert halfway is not None
    assert after is not None
    if (growth := growth_mib(found.samples)) > limits.growth_mib:
        yield f"memory grew by {growth:.1f} MiB over the second half (limit {limits.growth_mib:g})"
    for what, left in (
        ("requests in flight", after.in_flight),
        ("buffered bytes", after.buffered_bytes),
        ("client connections", after.connections),
    ):
        if left:
            yield f"{left:g} {what} are left over"
    grown = (after.descriptors - after.upstream) - (before.descriptors - before.upstream)
    if grown > limits.descriptors:
        yield f"{grown} more descriptors are open than before, beside connections to the provider"
    if after.upstream > MANY_CONNECTIONS * 2:
        yield f"{after.upstream} connections to the provider are open"
    if after.series > halfway.series * (1 + limits.series_share):
        yield f"{after.series} series, where there were {halfway.series} halfway"
    unseen = found.done + before.counted - after.counted
    if not 0 <= unseen <= found.statuses["left", 0]:  # who leaves at once may not have been heard
        yield f"{unseen:g} of {found.done} requests were not counted"
    for (kind, status), times in found.statuses.items():
        if kind in ("plain", "kept", "stream") and status != 200:
            yield f"{times} × {kind} ended with {status or 'a lost connection'}"


def figures(found: Soaked) -> Iterator[Figure]:
    """Memory at the end, with its curve, and how much it grew over the second half."""
    case = f"{found.done:,} requests, {KINDS['left']} % aborted"
    curve = [(float(s.done), s.pss_mib) for s in found.samples]
    yield Figure("memory_after", "model-sidecar", case, "MiB", [found.samples[-1].pss_mib], curve=curve)
    yield Figure("memory_growth", "model-sidecar", case, "MiB", [growth_mib(found.samples)])


def soak(
    lab: Lab, *, requests: int, connections: int = MANY_CONNECTIONS, swap_every: int = 5000, tree: Path = systems.ROOT
) -> Soaked:
    """A sidecar of its own, soaked. `tree`: of another checkout."""
    lab.script(STREAM)
    folder = lab.place("soak")
    running = systems.sidecar(folder, lab.provider.port, cores=lab.measured, pins=pins(1), tree=tree)
    one = Soak(running, lab.provider, folder, requests=requests, swap_every=swap_every)
    with lab.running(running), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(one.run(connections))


def main(argv: Sequence[str] | None = None) -> int:
    """Soak it; 1 if something is left over or memory grew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=MANY_CONNECTIONS)
    parser.add_argument("--swap-every", type=int, default=5000, help="requests between two swaps of the pin file")
    parser.add_argument("--growth-mib", type=float, default=Limits().growth_mib, help="limit for the second half")
    parser.add_argument("--curve", type=Path, help="write memory over requests to this file, as JSON")
    parser.add_argument("--tree", type=Path, default=systems.ROOT, help="another checkout of the sidecar")
    options = parser.parse_args(argv)
    with Lab() as lab:
        sizes = {name: getattr(options, name) for name in ("requests", "connections", "swap_every")}
        found = soak(lab, tree=options.tree, **sizes)
    if options.curve is not None:
        options.curve.write_text(json.dumps([astuple(s) for s in found.samples]))
    print(f"{found.done:,} requests in {found.seconds:.0f} s, {found.swaps} swaps")
    for (kind, status), times in sorted(found.statuses.items()):
        print(f"  {times:9,} × {kind}: {status or 'left or lost'}")
    for name in ("before", "halfway", "after"):
        print(f"  {name}: {getattr(found, name)}")
    last = found.samples[-1]
    print(
        f"  memory: PSS {last.pss_mib:.1f} MiB, RSS {last.rss_mib:.1f} MiB, grew {growth_mib(found.samples):+.2f} MiB"
    )
    wrong = list(faults(found, Limits(growth_mib=options.growth_mib)))
    for fault in wrong:
        print(f"  WRONG: {fault}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
