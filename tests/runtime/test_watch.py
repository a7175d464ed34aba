"""The six limits of a request. Times are small; bounds are ten times as long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from sidecar.runtime.watch import ExpiredError, Limit, Watch, first_event_s
from sidecar.settings.pins import BUILT_IN_TIMEOUTS

LONG = replace(BUILT_IN_TIMEOUTS)


async def expires(watch: Watch, work: object = None) -> Limit:
    with pytest.raises(ExpiredError) as caught:
        async with asyncio.timeout(5):
            with watch:
                if callable(work):
                    await work(watch)
                await asyncio.Event().wait()
    return caught.value.limit


def made(read_timeout_s: float | None = None, **seconds: float) -> Watch:
    return Watch(asyncio.get_running_loop(), replace(LONG, **seconds), read_timeout_s)  # type: ignore[arg-type]


async def test_first_event() -> None:
    assert await expires(made(first_event_s=0.05)) is Limit.FIRST_EVENT


async def test_bytes_are_not_events() -> None:
    async def pings(watch: Watch) -> None:
        for _ in range(100):
            watch.byte()
            await asyncio.sleep(0.01)

    assert await expires(made(first_event_s=0.05), pings) is Limit.FIRST_EVENT


async def test_idle_counts_any_byte_and_content_idle_only_useful_events() -> None:
    async def begin(watch: Watch) -> None:
        watch.headers()
        watch.useful()

    async def pings(watch: Watch) -> None:
        await begin(watch)
        for _ in range(100):
            watch.byte()
            await asyncio.sleep(0.01)

    assert await expires(made(idle_s=0.05), begin) is Limit.IDLE
    assert await expires(made(idle_s=0.1, content_idle_s=0.2), pings) is Limit.CONTENT_IDLE


async def test_a_steady_stream_is_only_ended_by_the_total() -> None:
    async def steady(watch: Watch) -> None:
        while True:
            watch.byte()
            watch.useful()
            await asyncio.sleep(0.01)

    assert await expires(made(first_event_s=0.05, idle_s=0.1, content_idle_s=0.1, total_s=0.4), steady) is Limit.TOTAL


async def test_while_writing_only_the_stall_counts() -> None:
    async def stuck(watch: Watch) -> None:
        watch.headers()
        watch.useful()
        watch.writing()

    assert await expires(made(idle_s=0.01, write_stall_s=0.1), stuck) is Limit.WRITE_STALL


async def test_a_complete_stream_waits_a_moment_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.runtime.watch.TAIL_S", 0.05)

    async def complete(watch: Watch) -> None:
        watch.headers()
        watch.useful()
        watch.tail()

    assert await expires(made(), complete) is Limit.TAIL


async def test_the_callers_read_timeout_bounds_silences_too() -> None:
    async def begin(watch: Watch) -> None:
        watch.headers()
        watch.useful()

    assert await expires(made(0.05), begin) is Limit.IDLE


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def work() -> None:
        with made(first_event_s=5):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_left_behind() -> None:
    with made(first_event_s=0.02):
        pass
    await asyncio.sleep(0.05)  # an armed timer would cancel this test


@pytest.mark.parametrize(
    ("callers", "pins", "stated", "expected"),
    [(None, 120, False, 120), (600, 120, False, 600), (5, 120, False, 5), (600, 30, True, 30), (5, 30, True, 5)],
)
def test_whose_first_event_limit(callers: float | None, pins: float, stated: bool, expected: float) -> None:
    assert first_event_s(replace(LONG, first_event_s=pins, first_event_set=stated), callers) == expected


async def test_a_process_that_stood_still_reads_what_arrived_before_it_judges() -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    with made(idle_s=0.05) as watch:
        watch.headers()
        watch.useful()
        loop.call_later(0.01, time.sleep, 0.6)  # we stand still, well over the limit
        loop.call_later(0.02, arrived.set)  # meanwhile something comes
        await arrived.wait()
        watch.byte()
    assert await expires(made(first_event_s=0.02), lambda watch: asyncio.sleep(0)) is Limit.FIRST_EVENT
