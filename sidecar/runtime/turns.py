"""Long work on the loop in short turns, so that no stream waits for the end of it.

A thread would not do: it takes the interpreter from the loop for longer than a turn, again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

TURN_S = 0.001


async def in_turns(pieces: Iterable[T]) -> list[T]:
    """All the pieces; each time that a millisecond has passed with them, the loop goes round once."""
    found: list[T] = []
    ends = time.perf_counter() + TURN_S
    for piece in pieces:
        found.append(piece)
        if time.perf_counter() >= ends:
            await asyncio.sleep(0)
            ends = time.perf_counter() + TURN_S
    return found
