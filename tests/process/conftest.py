"""One fake provider process for all tests of this folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.kit import PINS, Process, command, serve


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("provider")
    with command(folder, "provider", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE) as provider:
        assert provider.popen.stdout is not None
        line = provider.popen.stdout.readline().decode()
        yield line.rpartition(" ")[2].strip() + "/v1"


@pytest.fixture
def running(base_url: str, tmp_path: Path) -> Iterator[Process]:
    with serve(tmp_path, base_url, pins=PINS) as process:
        yield process
