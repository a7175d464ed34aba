"""`sidecar admin`: a pod's own sidecar, asked from a shell in its container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.kube.swap_kit import BIN, Done, pins
from tests.process.kit import Process, serve


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serve(tmp_path_factory.mktemp("pod"), "http://127.0.0.1:1/v1", pins=pins(7, percent=50)) as process:
        yield process


def admin(*words: str, at: str | None = None) -> Done:
    env = {key: value for key, value in os.environ.items() if not key.startswith("SIDECAR_")}
    if at is not None:
        env["SIDECAR_ADMIN_LISTEN"] = at
    done = subprocess.run(
        [BIN / "sidecar", "admin", *words], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def address(process: Process) -> str:
    return process.addresses["admin"][0]


def test_what_is_pinned(running: Process) -> None:
    assert admin("pins", at=address(running)).json()["names"]["chat.core"]["kind"] == "pin"


def test_the_flag_beats_the_variable(running: Process) -> None:
    done = admin("ready", "--admin", address(running), at="127.0.0.1:1")
    assert (done.code, done.json()["status"]) == (0, "ready")


def test_metrics(running: Process) -> None:
    assert "sidecar_pins_info{" in admin("metrics", at=address(running)).out


def test_a_variant_is_stopped(running: Process) -> None:
    done = admin("stop", "chat.core", "canary", at=address(running))
    assert (done.code, json.loads(done.out)["generation"]) == (0, "7+stop")


def test_no_such_variant_has_an_exit_code_of_its_own(running: Process) -> None:
    done = admin("stop", "chat.core", "blue", at=address(running))
    assert (done.code, done.err) == (3, "error: pin 'chat.core' has no variant 'blue'\n")


def test_a_sidecar_that_is_not_ready(tmp_path: Path) -> None:
    with serve(tmp_path, "http://127.0.0.1:1/v1", pins="nothing: of the kind") as process:
        done = admin("ready", at=address(process))
    assert done.code == 1
    assert done.err.startswith("error: ")


@pytest.mark.parametrize("at", ["127.0.0.1:1", "127.0.0.1", "nonsense:x"])
def test_no_sidecar_there(at: str) -> None:
    done = admin("pins", at=at)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: no sidecar answers at {at}: ")
    assert "SIDECAR_ADMIN_LISTEN" in done.err


def test_something_else_there() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        at = f"127.0.0.1:{other.server_port}"
        done = admin("pins", at=at)
        other.shutdown()
    assert (done.code, done.err) == (2, f"error: what answers at {at} is no sidecar's admin port: HTTP 501\n")


def test_it_imports_neither_server_nor_settings() -> None:
    code = "import sys, sidecar.cli; sidecar.cli.main(['admin', 'pins', '--admin', '127.0.0.1:1']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert not {"aiohttp", "asyncio", "msgspec", "yaml", "prometheus_client"} & set(done.stdout.split())
