"""The beginning and the end of `sidecar inject-webhook`: what it refuses to start with, and how it leaves."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from pathlib import Path

import pytest
import yaml

from tests.kube.webhook_kit import Authority, injector, request, review, template_data
from tests.process.kit import command, wait


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    certificate, key = Authority(tmp_path / "ca").issue()
    found = {"template": tmp_path / "injection.yaml", "cert-file": tmp_path / "crt", "key-file": tmp_path / "key"}
    found["template"].write_text(yaml.safe_dump(template_data()))
    found["cert-file"].write_bytes(certificate)
    found["key-file"].write_bytes(key)
    return found


def started(files: dict[str, Path], folder: Path, *more: str) -> tuple[int, str]:
    """Exit code and standard error of a process that should end by itself."""
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    with command(folder, "inject-webhook", *words, *(more or ("--listen", "127.0.0.1:0"))) as process:
        return process.ended(), process.said()


@pytest.mark.parametrize("name", ["template", "cert-file", "key-file"])
def test_without_a_file_it_does_not_start(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    files[name].unlink()
    code, said = started(files, tmp_path)
    assert code == 2
    assert said.splitlines() == [
        f"{files[name]}: cannot be read: No such file or directory — fix: check that it exists and may be read"
    ]


def test_with_a_template_that_fits_no_pod_it_does_not_start(files: dict[str, Path], tmp_path: Path) -> None:
    files["template"].write_text("version: 1\nnative: yes\n")
    code, said = started(files, tmp_path)
    assert code == 2
    assert f"{files['template']}:2: native: " in said


def test_a_taken_port_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = started(files, tmp_path, "--health-listen", "127.0.0.1:0", "--listen", address)
    assert code == 1
    assert f"cannot listen on {address}: " in said
    assert "Traceback" not in said


def test_a_wrong_address_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    code, said = started(files, tmp_path, "--listen", "8443")
    assert code == 2
    assert "names no port" in said


def test_on_sigterm_it_is_unready_at_once_answers_on_and_ends(tmp_path: Path) -> None:
    with injector(tmp_path, "--drain", "3s") as running:
        with contextlib.closing(running.connect()) as kept:
            request(kept, review("bare"), "/inject/pod")
            running.process.send(signal.SIGTERM)
            wait(lambda: running.get("/readyz").status == 503)
            assert running.get("/readyz").json() == {"status": "not ready", "reason": "stopping"}
            answer = request(kept, review("bare"), "/inject/pod")
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert running.send(review("bare")).status == 200
        assert running.process.ended() == 0
        assert "Traceback" not in running.process.said()


def test_a_review_in_flight_is_finished(tmp_path: Path) -> None:
    body = json.dumps(review("bare")).encode()
    head = (
        f"POST /inject/pod HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with injector(tmp_path) as running, running.raw() as client:
        client.sendall(head.encode() + body[:100])
        running.process.send(signal.SIGTERM)
        time.sleep(1)  # past the drain
        assert running.process.popen.poll() is None
        client.sendall(body[100:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert running.process.ended() == 0


def test_a_second_signal_ends_the_drain(tmp_path: Path) -> None:
    with injector(tmp_path, "--drain", "1m") as running:
        running.process.send(signal.SIGTERM)
        wait(lambda: running.get("/readyz").status == 503)
        running.process.send(signal.SIGTERM)
        assert running.process.ended() == 0
