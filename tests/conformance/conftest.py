"""Both ways to a provider: direct, and through a sidecar in front of another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sidecar.provider import FakeProvider
from sidecar.runtime.loop import loop_factory

pytest.register_assert_rewrite("tests.conformance.sides")

from tests.conformance.sides import Pair, Side, pins  # noqa: E402 - its asserts are rewritten
from tests.harness import Running, sidecar  # noqa: E402


def bases(provider: FakeProvider) -> dict[str, str]:
    """The settings' providers, all at one fake."""
    return {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}


@pytest.fixture
async def proxy(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    """A sidecar with this folder's pins in front of `provider`."""
    async with sidecar(tmp_path, bases(provider), pins=pins()) as running:
        yield running


@pytest.fixture
async def pair(provider: FakeProvider, proxy: Running) -> AsyncIterator[Pair]:
    async with FakeProvider() as other:
        yield Pair(Side(other.url, other, pinned=False), Side(proxy.url, provider, pinned=True))


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that serves in production; the rest of the suite runs on asyncio's own."""
    return {"uvloop": loop_factory()}
