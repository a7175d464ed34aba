"""Swaps at a real API server: its conflicts, its Roles as the chart makes them, and Helm beside them.

Sidecars are real, too, and reached through the API server's own proxy; no kubelet runs, so a thread brings them their
files once their pods are annotated. `kubectl exec` needs a kubelet: tests/kube has `stop`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import REPOSITORY, Cluster, until
from tests.kube.swap_kit import pins, sha
from tests.kube.tools import needed, own_address
from tests.pins.kit import Mount
from tests.process import kit

BIN = Path(sys.executable).parent
CHART = REPOSITORY / "helm" / "model-sidecar"
GROUPS = {"viewers": [{"kind": "Group", "name": "developers"}], "operators": [{"kind": "Group", "name": "operators"}]}
BASE_URL = "http://127.0.0.1:9/v1"


class Shop:
    """A namespace with the chart installed, and a person with kubectl."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.namespace = cluster.namespace()

    def helm(self, verb: str, text: str | None = None, *words: str) -> None:
        values = [] if text is None else ["--set-file", f"pins.content={self.file(text, 'values.yaml')}"]
        access = ["--set-json", f"rbac={json.dumps({'create': True, **GROUPS})}"]
        done = self.cluster.helm(verb, "model-sidecar", str(CHART), "-n", self.namespace, *access, *values, *words)
        assert done.returncode == 0, done.stderr

    def file(self, text: str, name: str = "new.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *words: str | Path, user: str = "operator") -> Any:
        """`kubectl model-sidecar …`, ended."""
        kubectl = needed("kubectl")
        path = f"PATH={BIN}:{os.environ['PATH']}"
        known = ("env", path, f"KUBECTL={kubectl}", kubectl)
        return self.cluster.run(*known, "model-sidecar", *map(str, words), "-n", self.namespace, user=user)

    def get(self, name: str = "model-sidecar-pins") -> Any:
        return self.cluster.get("configmap", name, "-n", self.namespace)

    def content(self, name: str = "model-sidecar-pins") -> str:
        return str(self.get(name)["data"]["pins.yaml"])


@pytest.fixture
def shop(cluster: Cluster, tmp_path: Path) -> Shop:
    """The chart with generation 7."""
    needed("helm")
    made = Shop(cluster, tmp_path)
    made.helm("install", pins(7))
    return made


def applied(shop: Shop, text: str) -> None:
    done = shop.run("apply", shop.file(text), "--yes", "--wait", "0", "--why", "a test")
    assert done.returncode == 0, done.stderr


def test_an_operator_by_the_chart_s_role_can_swap_and_go_back(shop: Shop) -> None:
    applied(shop, pins(8))
    assert (shop.content(), shop.content("model-sidecar-pins-previous")) == (pins(8), pins(7))
    notes = shop.get()["metadata"]["annotations"]
    assert notes["model-sidecar.io/changed-by"] == "operator"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in notes
    assert shop.get(f"model-sidecar-pins-8-{sha(pins(8))[:8]}")["immutable"] is True
    done = shop.run("rollback", "--wait", "0")
    assert (done.returncode, shop.content()) == (0, pins(7))
    lines = shop.run("history", user="developer").stdout.splitlines()
    assert [line.split()[:3:2] for line in lines[1:]] == [["7", "live"], ["8", "previous"]]


def test_a_viewer_by_the_chart_s_role_can_look_and_not_touch(shop: Shop) -> None:
    assert shop.run("diff", shop.file(pins(8)), user="developer").returncode == 1
    done = shop.run("apply", shop.file(pins(8)), "--yes", user="developer")
    assert (done.returncode, shop.content()) == (2, pins(7))
    assert f"developer may not patch configmaps in namespace {shop.namespace}" in done.stderr
    assert "ask for the chart's Role model-sidecar-operator" in done.stderr


def test_a_stranger_is_told_whom_to_ask(shop: Shop) -> None:
    done = shop.run("history", user="nobody")
    assert done.returncode == 2
    assert "ask for the chart's Role model-sidecar-viewer" in done.stderr


def test_the_api_server_refuses_a_stale_version(shop: Shop) -> None:
    applied(shop, pins(8))
    stale = shop.get() | {"data": {"pins.yaml": pins(9)}}
    stale["metadata"]["resourceVersion"] = "1"
    done = shop.cluster.kubectl("replace", "-f", "-", stdin=json.dumps(stale))
    assert "Error from server (Conflict)" in done.stderr  # words that a lost race is known by
    by = ("--server-side", "--force-conflicts", "--field-manager=helm")
    stale["metadata"].pop("managedFields", None)
    done = shop.cluster.kubectl("apply", *by, "-f", "-", stdin=json.dumps(stale))
    assert "the object has been modified" in done.stderr


def test_two_at_once_lose_nothing(shop: Shop) -> None:
    """Either one is too late, or they come one after the other: what was live is the previous file in any case."""
    files = {text: shop.file(text, f"{number}.yaml") for number, text in enumerate((pins(8), pins(9)))}
    with ThreadPoolExecutor(2) as at_once:
        ends = list(at_once.map(lambda path: shop.run("apply", path, "--yes", "--wait", "0"), files.values()))
    won = [text for text, end in zip(files, ends, strict=True) if end.returncode == 0]
    assert won, ends
    live, previous = shop.content(), shop.content("model-sidecar-pins-previous")
    assert live in won
    assert previous == (pins(7) if len(won) == 1 else next(text for text in won if text != live))
    assert all("meanwhile" in end.stderr for end in ends if end.returncode)


def test_helm_leaves_a_swapped_file_alone(shop: Shop) -> None:
    applied(shop, pins(8))
    shop.helm("upgrade", pins(7))
    assert shop.content() == pins(8)


def test_helm_brings_a_newer_file_and_a_rollback_takes_it_back(shop: Shop) -> None:
    applied(shop, pins(8))
    shop.helm("upgrade", pins(9))
    assert (shop.content(), shop.content("model-sidecar-pins-previous")) == (pins(9), pins(8))
    done = shop.run("rollback", "--wait", "0")
    assert (done.returncode, shop.content()) == (0, pins(8)), done.stderr
    assert "helm upgrade" not in done.stderr  # since the same values don't undo a rollback:
    shop.helm("upgrade", pins(9))
    assert shop.content() == pins(8)


def test_a_file_of_a_whole_mebibyte_fits_and_can_be_taken_back(shop: Shop) -> None:
    large = pins(8) + "# "
    large += "x" * (1024 * 1024 - len(large))
    applied(shop, large)
    assert shop.content() == large
    assert shop.run("rollback", "--wait", "0").returncode == 0


# --- pods, through the API server's proxy ----------------------------------------------------------------------------


@contextlib.contextmanager
def pod(shop: Shop, name: str, address: str) -> Iterator[kit.Process]:
    """A pod that the API server believes runs, with a real sidecar, and a thread in kubelet's place."""
    folder = shop.folder / name
    (folder / "config").mkdir(parents=True)
    mount = Mount(folder / "pins")
    mount.swap(shop.content())
    settings = {
        "listen": ["127.0.0.1:0"], "admin": {"listen": "127.0.0.1:0"}, "probe": {"listen": f"{address}:0"},
        "pins": "../pins/pins.yaml", "drain": {"idle": "0ms", "grace": "1s"},
        "providers": {"openai": {"dialect": "openai", "base_url": BASE_URL, "proxy": "none"}},
    }  # fmt: skip
    (folder / "config" / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    over = threading.Event()
    with kit.command(folder, "serve", "--config", str(folder / "config" / "sidecar.yaml")) as process:
        process.addresses = kit.wait(lambda: kit.listening(process))
        port = int(process.addresses["probe"][0].rpartition(":")[2])
        _create(shop, name, address, port)
        kubelet = threading.Thread(target=_kubelet, args=(shop, name, mount, over), daemon=True)
        kubelet.start()
        try:
            yield process
        finally:
            over.set()
            kubelet.join(20)


def _create(shop: Shop, name: str, address: str, port: int) -> None:
    ours = {"name": "model-sidecar", "image": "m:1", "ports": [{"name": "sidecar-probe", "containerPort": port}]}
    about = {"name": name, "namespace": shop.namespace, "labels": {"model-sidecar.io/injected": "true"}}
    spec = {"containers": [ours, {"name": "app", "image": "app:1"}]}
    shop.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec})
    ready = [{"type": "Ready", "status": "True"}]
    status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}}
    words = ("patch", "pod", name, "-n", shop.namespace, "--subresource=status", "--type=merge", "-p")
    done = shop.cluster.kubectl(*words, json.dumps(status))
    assert done.returncode == 0, done.stderr


def _kubelet(shop: Shop, name: str, mount: Mount, over: threading.Event) -> None:
    seen = None
    while not over.wait(0.3):
        notes = shop.cluster.get("pod", name, "-n", shop.namespace)["metadata"].get("annotations", {})
        if (now := notes.get("model-sidecar.io/refreshed-at")) != seen:
            seen = now
            mount.swap(shop.content())


def test_a_swap_reaches_real_pods_and_is_seen_to(shop: Shop) -> None:
    address = own_address()
    with pod(shop, "shop-1", address), pod(shop, "shop-2", address) as second:
        done = shop.run("apply", shop.file(pins(8, percent=10)), "--yes", "--wait", "60s")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 of 2 pods serve by generation 8" in done.stdout
        done = shop.run("status", "--format", "json", user="developer")
        said = json.loads(done.stdout)
        assert [(one["generation"], one["note"], len(one["names"])) for one in said["pods"]] == [("8", "", 3)] * 2
        began = time.monotonic()
        done = shop.run("rollback", "--wait", "60s")
        assert (done.returncode, time.monotonic() - began < 50) == (0, True)
        second.popen.kill()
        second.popen.wait()
        done = shop.run("status", user="developer")
        assert done.returncode == 4
        assert "shop-2 (unreachable)" in done.stdout
        done = shop.run("status", user="nobody")
        assert "ask for the chart's Role model-sidecar-viewer" in done.stderr


def test_exec_without_the_right_names_the_role(shop: Shop) -> None:
    """A real API server's words for it, which differ from those for a plain request."""
    address = own_address()
    with pod(shop, "shop-1", address):
        applied(shop, pins(8, percent=10))
        done = until(lambda: shop.run("stop", "chat.core", user="developer"))
        assert done.returncode == 4
        assert "developer may not" in done.stdout
        assert "ask for the chart's Role model-sidecar-operator" in done.stdout
