"""The clocks of an attempt before its commit, and of a request after it. Times are small, bounds ten times as long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from sidecar.runtime.watch import Alarm, ExpiredError, Limit, Patience, Watch, first_event_s
from sidecar.settings.pins import BUILT_IN_TIMEOUTS

LONG = replace(BUILT_IN_TIMEOUTS)


async def expires(alarm: Alarm, work: Callable[[Any], Awaitable[None]] | None = None) -> Limit:
    """The limit that runs out while `work`, and then nothing, goes on."""
    with pytest.raises(ExpiredError) as caught:
        async with asyncio.timeout(5):
            with alarm:
                if work is not None:
                    await work(alarm)
                await asyncio.Event().wait()
    return caught.value.limit


def attempt(*, give_up_s: float = 9.0, idle_s: float = 9.0, hold_s: float = 9.0) -> Patience:
    loop = asyncio.get_running_loop()
    return Patience(loop, give_up_at=loop.time() + give_up_s, idle_s=idle_s, hold_s=hold_s)


def request(read_timeout_s: float | None = None, **seconds: float) -> Watch:
    return Watch(asyncio.get_running_loop(), replace(LONG, **seconds), read_timeout_s)  # type: ignore[arg-type]


async def test_an_attempt_is_given_up() -> None:
    assert await expires(attempt(give_up_s=0.05)) is Limit.FIRST_EVENT


async def test_bytes_are_not_events() -> None:
    async def pings(patience: Patience) -> None:
        patience.headers()
        for _ in range(100):
            patience.byte()
            await asyncio.sleep(0.01)

    assert await expires(attempt(give_up_s=0.1, idle_s=0.05), pings) is Limit.FIRST_EVENT


async def test_silence_counts_from_the_headers_on() -> None:
    async def headers(patience: Patience) -> None:
        patience.headers()

    assert await expires(attempt(idle_s=0.05), headers) is Limit.IDLE
    assert await expires(attempt(give_up_s=0.2, idle_s=0.05)) is Limit.FIRST_EVENT, "no answer yet is no pause in one"


async def test_events_are_held_only_so_long() -> None:
    async def held(patience: Patience) -> None:
        patience.headers()
        for _ in range(100):
            patience.byte()
            patience.holding()  # it counts from the first of them
            await asyncio.sleep(0.01)

    assert await expires(attempt(hold_s=0.1), held) is Limit.HOLD


async def test_before_the_commit_only_a_shutdown_ends_a_request() -> None:
    async def shut_down(watch: Watch) -> None:
        await asyncio.sleep(0.1)
        watch.expire(Limit.DRAIN)

    short = dict.fromkeys(("first_event_s", "idle_s", "content_idle_s", "total_s"), 0.02)
    assert await expires(request(**short), shut_down) is Limit.DRAIN


async def test_the_deadline_of_the_attempts_is_the_nearest_limit() -> None:
    now = asyncio.get_running_loop().time()
    assert request(first_event_s=5, total_s=9).deadline - now == pytest.approx(5, abs=1)
    assert request(first_event_s=9, total_s=5).deadline - now == pytest.approx(5, abs=1)
    assert request(3, first_event_s=9, total_s=5).deadline - now == pytest.approx(3, abs=1)


async def test_a_stream_that_was_let_go_without_a_useful_event_still_needs_one() -> None:
    async def begin(watch: Watch) -> None:
        watch.begin(events=True, useful=False)

    async def begin_and_ping(watch: Watch) -> None:
        await begin(watch)
        for _ in range(100):
            watch.byte()
            await asyncio.sleep(0.01)

    assert await expires(request(first_event_s=0.05), begin) is Limit.FIRST_EVENT
    assert await expires(request(first_event_s=0.05), begin_and_ping) is Limit.FIRST_EVENT


async def test_idle_counts_any_byte_and_content_idle_only_useful_events() -> None:
    async def begin(watch: Watch) -> None:
        watch.begin(events=True, useful=True)

    async def pings(watch: Watch) -> None:
        await begin(watch)
        for _ in range(100):
            watch.byte()
            await asyncio.sleep(0.01)

    assert await expires(request(idle_s=0.05), begin) is Limit.IDLE
    assert await expires(request(idle_s=0.1, content_idle_s=0.2), pings) is Limit.CONTENT_IDLE


async def test_without_events_only_bytes_count() -> None:
    async def audio(watch: Watch) -> None:
        watch.begin(events=False, useful=False)
        for _ in range(20):
            watch.byte()
            await asyncio.sleep(0.01)

    limits = {"first_event_s": 0.05, "content_idle_s": 0.05, "idle_s": 0.1}
    began = time.monotonic()
    assert await expires(request(**limits), audio) is Limit.IDLE
    assert time.monotonic() - began >= 0.2


async def test_a_steady_stream_is_only_ended_by_the_total() -> None:
    async def steady(watch: Watch) -> None:
        watch.begin(events=True, useful=True)
        while True:
            watch.byte()
            watch.useful()
            await asyncio.sleep(0.01)

    limits = {"first_event_s": 0.05, "idle_s": 0.1, "content_idle_s": 0.1, "total_s": 0.4}
    assert await expires(request(**limits), steady) is Limit.TOTAL


async def test_while_writing_only_the_stall_counts() -> None:
    async def stuck(watch: Watch) -> None:
        watch.begin(events=True, useful=True)
        watch.writing()

    assert await expires(request(idle_s=0.01, write_stall_s=0.1), stuck) is Limit.WRITE_STALL


async def test_a_complete_stream_waits_a_moment_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.runtime.watch.TAIL_S", 0.05)

    async def complete(watch: Watch) -> None:
        watch.begin(events=True, useful=True)
        watch.tail()

    assert await expires(request(), complete) is Limit.TAIL


async def test_the_callers_read_timeout_bounds_silences_too() -> None:
    async def begin(watch: Watch) -> None:
        watch.begin(events=True, useful=True)

    assert await expires(request(0.05), begin) is Limit.IDLE


@pytest.mark.parametrize("made", [attempt, request])
async def test_a_cancellation_from_outside_stays_one(made: Callable[[], Alarm]) -> None:
    async def work() -> None:
        with made():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_left_behind() -> None:
    with attempt(give_up_s=0.02), request(idle_s=0.02) as watch:
        watch.begin(events=True, useful=True)
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
    with request(idle_s=0.05) as watch:
        watch.begin(events=True, useful=True)
        loop.call_later(0.01, time.sleep, 0.6)  # we stand still, well over the limit
        loop.call_later(0.02, arrived.set)  # meanwhile something comes
        await arrived.wait()
        watch.byte()
    assert await expires(attempt(give_up_s=0.02)) is Limit.FIRST_EVENT
