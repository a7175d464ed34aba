"""Every case here runs on uvloop, as in production; the hardening tests on asyncio's own loop as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from sidecar.runtime import front
from tests.faults.stage import Stage, staged

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    loops: Loops = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    both = item.path.stem.startswith("test_hardening")
    return loops if both else {"uvloop": loops["uvloop"]}


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of lingering for each early answer would be most of what this suite takes."""
    monkeypatch.setattr(front, "LINGER_S", 0.3)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, limits={"request_headers": "400ms", "body_idle": "400ms", "body": "4MiB"}) as found:
        yield found
