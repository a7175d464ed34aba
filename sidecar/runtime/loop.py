"""The event loop of a process that serves."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

SWITCH_S = 0.0005
"""How long a thread at work (a pin file is read in one) may keep the interpreter from the loop. Each of the loop's
callbacks may have to wait so long; by Python's default of 5 ms a few of them would hold up every stream."""


def runner() -> asyncio.Runner:
    """A runner on uvloop's loop, where there is one: it is faster, and a TLS connection costs it far less memory."""
    _fill_standard_descriptors()
    sys.setswitchinterval(SWITCH_S)
    return asyncio.Runner(loop_factory=loop_factory())


def _fill_standard_descriptors() -> None:
    """For those that the parent closed: libuv would be given their numbers, and aborts when it closes one of them."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
