"""One API server for all tests of a run; each test makes a namespace of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, server_binary
from tests.kube.tools import needed


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running API server, or a skipped test where there is none to run."""
    binary = server_binary()
    if not binary.exists():
        pytest.skip("no API server: run tests/cluster/build")
    needed("kubectl")
    with Cluster(binary) as running:
        yield running
