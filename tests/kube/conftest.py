"""The API server of tests/cluster, for the tests here that need a real one."""

from __future__ import annotations

from tests.cluster.conftest import cluster

__all__ = ["cluster"]
