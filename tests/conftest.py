"""Fixtures for tests that need a provider and a sidecar in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar

REAL_TIME = (
    "benchmarks", "cluster", "complaints", "conformance", "examples", "faults", "fleet", "image", "kube", "money",
    "offline", "pins", "process", "provider", "runtime", "sweep", "telemetry",
)  # fmt: skip
"""Folders whose tests run over sockets, files, processes and the real clock."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine that stands still for a second fails a test of real time: such a test gets one more try.

    It is told in the summary (`rerun`). Decisions are pure, so their tests get none.
    """
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in REAL_TIME:
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))


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
