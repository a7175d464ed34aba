"""The real promtool, or a skip that tells why."""

from __future__ import annotations

import subprocess

from tests.kube.tools import needed


def promtool(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """What it says."""
    return subprocess.run(
        [needed("promtool"), *args], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
