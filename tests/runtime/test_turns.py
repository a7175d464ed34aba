"""Long work on the loop leaves it its turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from sidecar.runtime.turns import TURN_S, in_turns


def slow(count: int) -> Iterator[int]:
    """Pieces of more than a turn each."""
    for number in range(count):
        ends = time.perf_counter() + 2 * TURN_S
        while time.perf_counter() < ends:
            pass
        yield number


async def test_the_loop_goes_round_after_each_long_piece() -> None:
    rounds: list[int] = []

    async def other() -> None:
        while True:
            rounds.append(len(rounds))
            await asyncio.sleep(0)

    going = asyncio.create_task(other())
    assert await in_turns(slow(5)) == [0, 1, 2, 3, 4]
    going.cancel()
    assert len(rounds) >= 5


async def test_short_work_is_done_in_one_turn() -> None:
    rounds: list[None] = []
    asyncio.get_running_loop().call_soon(rounds.append, None)
    assert await in_turns([]) == []
    assert rounds == []
