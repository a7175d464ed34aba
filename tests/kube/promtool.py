"""The real promtool, or a skip that tells why."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUNDLED = Path(__file__).parents[2] / ".venv" / "kube" / "bin" / "promtool"


def promtool(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """What it says. `PROMTOOL` names another one than that of tools/kube-tools or of the PATH."""
    found = os.environ.get("PROMTOOL") or (str(BUNDLED) if BUNDLED.exists() else shutil.which("promtool"))
    if found is None:
        pytest.skip("no promtool: tools/kube-tools takes it from Debian's package prometheus; or set PROMTOOL")
    return subprocess.run([found, *args], input=stdin, capture_output=True, text=True, check=False, timeout=60)
