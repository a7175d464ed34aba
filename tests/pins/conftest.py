"""Fixtures for tests of the pin file while it is in use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar
from tests.pins.kit import bases, pins


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def seven(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    """A sidecar under the small pin file, generation 7."""
    async with sidecar(tmp_path, bases(provider), pins=pins(7)) as running:
        yield running
