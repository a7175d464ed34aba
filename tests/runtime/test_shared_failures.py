"""Requests that wait for another one: if that fails the next one asks, and if that fails too all fail with it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from sidecar.provider import FakeProvider
from tests.complaints.kit import GPT, asked, faked, pins, rule
from tests.harness import until

KEPT = "cache: {ttl: 60s, always: true}"


@pytest.mark.parametrize(
    ("fault", "status"), [("slow-body=30s", 504), ("cut=headers", 502)], ids=["stalls", "closes the connection"]
)
async def test_those_who_wait_fail_together(provider: FakeProvider, tmp_path: Path, fault: str, status: int) -> None:
    text = pins(f"  kept: {{stable: {GPT}, max_attempts: 2, {KEPT}, timeouts: {{first_event: 9s, idle: 200ms}}}}")
    provider.script([rule(fault)])
    async with faked(tmp_path, provider, text) as scene:
        began = time.monotonic()
        answers = await asyncio.gather(*(scene.chat("kept") for _ in range(20)))
        assert Counter(a.status for a in answers) == {status: 20}
        assert time.monotonic() - began < 4, "as long as two take, not twenty"
        assert len(asked(provider)) == 4
        assert {a.headers["x-sidecar-attempts"] for a in answers} == {"0", "2"}


async def test_one_whose_own_time_is_over_takes_nobody_with_it(provider: FakeProvider, tmp_path: Path) -> None:
    text = pins(f"  kept: {{stable: {GPT}, max_attempts: 1, {KEPT}}}")
    async with faked(tmp_path, provider, text) as scene:
        hasty = asyncio.create_task(scene.chat("kept", "delay=400ms", x_stainless_read_timeout="0.15"))
        flights = scene.shared.state.flights
        await until(lambda: len(flights) == 1)
        patient = asyncio.create_task(scene.chat("kept"))
        await until(lambda: flights.waiting == 1)
        assert ((await hasty).status, (await patient).status) == (504, 200)
