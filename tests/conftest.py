"""Fixtures for tests that need a provider and a sidecar in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    """The bundled fake provider, all three dialects."""
    fake = FakeProvider()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def proxy(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    """A sidecar with the sample pins in front of `provider`."""
    bases = {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}
    async with sidecar(tmp_path, bases) as running:
        yield running
