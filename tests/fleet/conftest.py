"""One server for all tests that don't harm it, another for those that do."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.kit import Server, server
from tests.process.kit import command


@pytest.fixture(scope="session")
def calm() -> Iterator[Server]:
    """Nobody kills or freezes it."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
        yield running


@pytest.fixture
def store(calm: Server) -> Server:
    """`calm`, empty."""
    calm.grown_up()
    return calm


@pytest.fixture
def doomed() -> Iterator[Server]:
    """One of this test's own."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
        yield running


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("provider")
    with command(folder, "provider", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE) as provider:
        assert provider.popen.stdout is not None
        line = provider.popen.stdout.readline().decode()
        yield line.rpartition(" ")[2].strip() + "/v1"
