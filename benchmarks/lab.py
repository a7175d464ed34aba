"""Where measurements are made: the cores, the provider, a folder, and the words said meanwhile."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import load, systems
from benchmarks.load import UNIQUE, Tally, Target
from benchmarks.processes import Cores
from benchmarks.provider import Script
from benchmarks.systems import Running

LIMIT_S = 300.0  # of one load: a system that stands still would never end it
MOST_FILES = 65_536  # HAProxy for one makes tables for as many as it may have
SMALL_PROMPT = 900  # bytes of text: a request of about 1 kB
FILL = "x"


class Lab:
    """Use it as a context: the provider runs meanwhile, and what was started in it is stopped at its end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.cores = Cores.of_this_machine()
        self.begun = time.monotonic()

    def __enter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        allow_files()
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores.others)
        self._stack.callback(os.sched_setaffinity, 0, before)
        self.provider = systems.provider(self.folder / "provider", cores=self.cores.others)
        self._stack.callback(self.provider.stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    @property
    def measured(self) -> frozenset[int]:
        """The core for what is measured."""
        return frozenset({self.cores.measured})

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.begun:6.0f} s  {what}", file=sys.stderr, flush=True)

    def place(self, name: str) -> Path:
        """A new folder for one process."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def script(self, script: Script) -> None:
        """What the provider answers from the next request on."""
        url = f"http://127.0.0.1:{self.provider.port}/bench/script"
        request = urllib.request.Request(url, json.dumps(asdict(script)).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            answer.read()

    def passthrough(self) -> Running:
        return systems.passthrough(self.place("passthrough"), self.provider.port, cores=self.measured)

    def sidecar(self, name: str = "model-sidecar", **settings: object) -> Running:
        """`settings`: those of `systems.sidecar`."""
        return systems.sidecar(
            self.place(name),
            self.provider.port,
            name=name,
            cores=self.measured,
            **settings,  # type: ignore[arg-type]
        )

    @contextmanager
    def running(self, *started: Running) -> Iterator[tuple[Running, ...]]:
        """Stop them at the end."""
        try:
            yield started
        finally:
            for one in started:
                one.stop()


def allow_files() -> int:
    """How many open files we and what we start may have, raised as far as allowed: streams are held by the thousand."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def target(to: Running, *, stream: bool = False, prompt: int = SMALL_PROMPT, unique: bool = True) -> Target:
    """A chat completion for this system: `prompt` bytes of text, with a number of its own if `unique`."""
    text = (UNIQUE.decode() if unique else "") + FILL * prompt
    body = {"model": to.model, "messages": [{"role": "user", "content": text}]} | ({"stream": True} if stream else {})
    made = json.dumps(body, separators=(",", ":")).encode()
    return Target(to.port, load.request_to(to.port, to.path, made, to.headers))


class FailedError(Exception):
    """Requests failed that had to be answered: the figures would mean nothing."""


def sound(tally: Tally, of: str) -> Tally:
    """The tally, if nothing failed in it. Raises FailedError."""
    if tally.failed:
        raise FailedError(f"{of}: {tally.failed} of {tally.failed + tally.done} failed, at last: {tally.last_failure}")
    return tally


def cpu_us_per_request(to: Running, requests: int, *, connections: int = 32, **about: object) -> float:
    """CPU µs of one request at saturation. `about`: as for `target`."""
    where = target(to, **about)  # type: ignore[arg-type]
    before = to.process.cpu_s()
    sound(load.run(lambda: load.closed(where, connections=connections, requests=requests), limit_s=LIMIT_S), to.name)
    return (to.process.cpu_s() - before) / requests * 1e6


def cpu_us_per_chunk(to: Running, *, concurrent: int = 16) -> float:
    """CPU µs of one relayed event, of so many streams side by side. Set the script before: long streams."""
    where = target(to, stream=True)
    before = to.process.cpu_s()
    tally = sound(load.run(lambda: load.streams(where, concurrent=concurrent), limit_s=LIMIT_S), to.name)
    return (to.process.cpu_s() - before) / tally.chunks * 1e6
