"""What this machine has for tests of a cluster: real programs, and an address that an API server may call."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parents[2] / ".venv" / "kube" / "bin"
"""Where tools/kube-tools puts them."""


def tool(name: str) -> str | None:
    """A program: what a variable of its name (KUBECTL, HELM …) says, else ours, else the one on PATH."""
    ours = BIN / name
    return os.environ.get(name.upper()) or (str(ours) if ours.exists() else shutil.which(name))


def needed(name: str) -> str:
    """The same; a test that needs it is skipped where there is none."""
    found = tool(name)
    if not found:
        pytest.skip(f"no {name}: tools/kube-tools gets it; or set {name.upper()}, or put it on PATH")
    return found


def own_address() -> str:
    """An address of this machine that is not a loopback one: an API server calls neither pods nor webhooks there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.connect(("192.0.2.1", 9))  # sends nothing: it only asks the routing table
        address = str(asker.getsockname()[0])
        if not address.startswith(("127.", "169.254.")):
            return address
    pytest.skip("this machine has no address but loopback, which no API server calls")
