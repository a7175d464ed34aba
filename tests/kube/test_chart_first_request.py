"""The pod of `helm test`: its script runs here as it would there, with real processes of the sidecar."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kube import kit

PORTS = ("4010", "4011", "4020")


def free_ports() -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = [str(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def run(folder: Path, change: tuple[str, str] = ("", "")) -> subprocess.CompletedProcess[str]:
    """The rendered script over the rendered files, with other ports, and `folder` as /etc/model-sidecar."""
    test = folder / "test"
    test.mkdir()
    ports = dict(zip(PORTS, free_ports(), strict=True))
    changes = [*ports.items(), ("/etc/model-sidecar", str(folder)), change]
    for name, text in kit.one(kit.render(), "ConfigMap", "model-sidecar-test")["data"].items():
        (test / name).write_text(functools.reduce(lambda so_far, pair: so_far.replace(*pair), changes, text))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = [sys.executable, "-I", str(test / "first_request.py")]
    env = {"PATH": path, "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(script, env=env, capture_output=True, text=True, timeout=90, check=False)


def mount_apps_files(folder: Path, content: str) -> None:
    manifests = kit.render({"pins": {"content": content}})
    for name in ("config", "pins"):
        (folder / name).mkdir()
        for file, text in kit.one(manifests, "ConfigMap", f"model-sidecar-{name}")["data"].items():
            (folder / name / file).write_text(text)


def test_one_request_is_rewritten(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no apps' files" in done.stdout
    assert "asked for chat.test: served by gpt-5.4-2025-11-02, generation 1" in done.stdout


def test_the_apps_files_are_checked_too(tmp_path: Path) -> None:
    mount_apps_files(tmp_path, "version: 1\ngeneration: 1\nunlisted: pass\n")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "good, generation 1" in done.stdout


def test_a_bad_pin_file_of_the_apps_fails_it(tmp_path: Path) -> None:
    mount_apps_files(tmp_path, "version: 1\ngeneration: 1\nunlisted: perhaps\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "the live pin file is not good" in done.stderr


def test_another_model_than_the_pins_fails_it(tmp_path: Path) -> None:
    done = run(tmp_path, ('"gpt-5.4-2025-11-02"', '"gpt-5.5-2026-01-15"'))
    assert done.returncode == 1
    assert "chat.test means gpt-5.5-2026-01-15: the sidecar says gpt-5.4-2025-11-02" in done.stderr


@pytest.mark.parametrize("version", kit.VERSIONS)
def test_its_pod_is_restricted_and_stays_out_of_injection(version: str) -> None:
    pod = kit.one(kit.render(kube_version=version), "Pod")
    (container,) = pod["spec"]["containers"]
    context = container["securityContext"]
    assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["metadata"]["labels"]["model-sidecar.io/inject"] == "false"
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_it_can_be_left_out() -> None:
    assert "Pod/model-sidecar-test" not in kit.named(kit.render({"tests": {"enabled": False}}))
