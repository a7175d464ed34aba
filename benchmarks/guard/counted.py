"""A system under instruments: run by the guard in place of `python`, it counts and runs the real command.

    python -m benchmarks.guard.counted calls FOLDER -m sidecar serve --config sidecar.yaml
    python -m benchmarks.guard.counted heap  FOLDER -m sidecar serve --config sidecar.yaml

On each SIGUSR1 the counts so far are added to `FOLDER/counts.jsonl` as one line; who asks takes the difference of two.

`calls`: all of it is exact, for nothing of it depends on time.

* Python and C calls come from cProfile in the loop's thread. A coroutine that is resumed is called again, at each level
  of its `await`s, as the interpreter does it: so the calls of coroutine functions count the *steps* of all coroutines.
* Tasks, timers and callbacks come from a loop that counts `create_task`, `call_later`, `call_at` and `call_soon`, and
  is uvloop's else. Its own frames aren't counted as calls.

`heap`: every malloc and realloc of the process, as glibc's own `mtrace` writes them down, between one SIGUSR1 and the
next (`FOLDER/N.mtrace`). To be run with `PYTHONMALLOC=malloc`, so that Python's small objects are seen too, and with
glibc's `libc_malloc_debug.so.0` preloaded, which holds the tracer. To copy bytes is to allocate room for the copy:
what grows with the size of a body, byte for byte, is how often it is copied (see `heap.py`).
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Callable
from cProfile import Profile
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

import uvloop

import sidecar

OURS = f"{Path(sidecar.__file__).parent}{os.sep}"
PLAIN_LOOP: Any = uvloop.Loop
FIRST_GLIBC = (b"GLIBC_2.2.5", b"GLIBC_2.17", b"GLIBC_2.27")
"""The first of x86-64, of arm64, of RISC-V: the version of their oldest symbols."""
HERE = str(Path(__file__).resolve())
_COROUTINE = CO_COROUTINE | CO_ASYNC_GENERATOR | CO_ITERABLE_COROUTINE


class CountedLoop(PLAIN_LOOP):  # type: ignore[misc]  # so that its many signatures need not be repeated
    """uvloop's, with a count of what is put into it. A timer is counted once, though `call_at` calls `call_later`."""

    scheduled: ClassVar[Counter[str]] = Counter({"tasks": 0, "timers": 0, "callbacks": 0})
    _in_timer = False

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        self.scheduled["tasks"] += 1
        return super().create_task(*args, **kwargs)

    def call_soon(self, *args: Any, **kwargs: Any) -> Any:
        self.scheduled["callbacks"] += 1
        return super().call_soon(*args, **kwargs)

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
        self.scheduled["callbacks"] += 1
        return super().call_soon_threadsafe(*args, **kwargs)

    def call_later(self, *args: Any, **kwargs: Any) -> Any:
        if not self._in_timer:
            self.scheduled["timers"] += 1
        return super().call_later(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> Any:
        self.scheduled["timers"] += 1
        self._in_timer = True
        try:
            return super().call_at(*args, **kwargs)
        finally:
            self._in_timer = False


def called(profile: Profile) -> dict[str, Any]:
    """The profile as counts. `functions`: calls by function of ours, as `path name`.

    Without lines, so that two commits can be compared.
    """
    counts: Counter[str] = Counter(dict.fromkeys(("python_calls", "our_calls", "c_calls", "coroutine_steps"), 0))
    functions: Counter[str] = Counter()
    for entry in profile.getstats():
        code, calls = entry.code, entry.callcount
        if not isinstance(code, CodeType):
            counts["c_calls"] += calls
            continue
        if code.co_filename == HERE:
            continue
        counts["python_calls"] += calls
        if code.co_flags & _COROUTINE:
            counts["coroutine_steps"] += calls
        if code.co_filename.startswith(OURS):
            counts["our_calls"] += calls
            functions[f"sidecar/{code.co_filename.removeprefix(OURS)} {code.co_qualname}"] += calls
    return {**counts, "functions": functions}


class Calls:
    """The instrument `calls`."""

    loop: Any = CountedLoop

    def __init__(self) -> None:
        self._profile = Profile()

    def begin(self) -> None:
        self._profile.enable()

    def tell(self) -> dict[str, Any]:
        """What was counted so far. It is not counted meanwhile."""
        self._profile.disable()
        try:
            return {**called(self._profile), **CountedLoop.scheduled}
        finally:
            self._profile.enable()


def _preloaded(name: str) -> Callable[[], None]:
    """A function of the preloaded tracer. Only by its version is it found: libc has an empty one of the same name."""
    find = ctypes.CDLL(None).dlvsym
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
    for version in FIRST_GLIBC:
        if (address := find(None, name.encode(), version)) is not None:
            return ctypes.CFUNCTYPE(None)(address)
    raise OSError(f"{name} is not preloaded")


class Heap:
    """The instrument `heap`: it tells the file that holds what was traced since it was last asked."""

    loop: Any = PLAIN_LOOP

    def __init__(self, folder: Path) -> None:
        self._start, self._stop = _preloaded("mtrace"), _preloaded("muntrace")
        self._folder = folder
        self._number = 0

    def begin(self) -> None:
        self._number += 1
        os.environ["MALLOC_TRACE"] = str(self._folder / f"{self._number}.mtrace")
        self._start()

    def tell(self) -> dict[str, Any]:
        self._stop()
        ended = self._number
        self.begin()
        return {"trace": f"{ended}.mtrace"}


def install(instrument: Calls | Heap, into: Path) -> None:
    """From the next loop on: count, and tell on SIGUSR1."""

    def tell() -> None:
        with into.open("a") as file:
            file.write(json.dumps(instrument.tell()) + "\n")

    class Told(instrument.loop):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.add_signal_handler(signal.SIGUSR1, tell)
            self.call_soon(instrument.begin)

    uvloop.Loop = Told  # type: ignore[misc]  # `new_event_loop` and `run` look it up when they are called


def main() -> None:
    kind, folder, _, module, *rest = sys.argv[1:]
    instrument = Calls() if kind == "calls" else Heap(Path(folder))
    install(instrument, Path(folder) / "counts.jsonl")
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
