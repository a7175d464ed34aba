"""A system made slower on purpose, to see the guard fail: run by the guard in place of `python`, never by the product.

    python -m benchmarks.guard.planted 0.2 -m sidecar serve --config sidecar.yaml

A hundred times a second the loop's thread burns that share of the CPU which it has used since the last time: whatever
it does, requests or chunks, costs so much more. Nothing of the product is touched.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from time import thread_time
from typing import Any

import uvloop

EACH_S = 0.01
TURNS = 500
"""Between two looks at the clock: looking is a system call."""


class Burn:
    """Call it: it uses CPU for `share` of what the thread has used since the call before. `clock` is in seconds."""

    def __init__(self, share: float, clock: Callable[[], float] = thread_time) -> None:
        self._share = share
        self._clock = clock
        self._since = clock()

    def __call__(self) -> None:
        now = self._clock()
        until = now + (now - self._since) * self._share
        while now < until:
            for _ in range(TURNS):
                pass
            now = self._clock()
        self._since = now


def install(share: float) -> None:
    """From the next loop on."""
    plain: Any = uvloop.Loop

    class Planted(plain):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            burn = Burn(share)

            def again() -> None:
                burn()
                self.call_later(EACH_S, again)

            self.call_soon(again)

    uvloop.Loop = Planted  # type: ignore[misc]  # `new_event_loop` and `run` look it up when they are called


def main() -> None:
    share, _, module, *rest = sys.argv[1:]
    install(float(share))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
