"""Install, upgrade, swap, roll back and uninstall with the real helm against a real API server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.kube import kit
from tests.kube.kit import CHART, EXAMPLE
from tests.kube.tools import needed

DOMAIN = "model-sidecar.io/"


def pins(generation: int) -> str:
    return f"version: 1\ngeneration: {generation}\nunlisted: pass\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Release:
    """One release of a chart in a namespace of its own."""

    def __init__(self, cluster: Cluster, chart: Path = CHART) -> None:
        self.cluster, self.chart = cluster, chart
        self.namespace = cluster.namespace()

    def upgrade(self, *args: str, generation: int | None = None) -> str:
        """`helm upgrade --install`; answers what it prints."""
        key = "pins.content" if self.chart == CHART else "modelSidecar.pins.content"
        own = () if generation is None else ("--set", f"{key}={pins(generation)}")
        return good(self.helm("upgrade", "--install", "demo", str(self.chart), *own, *args))

    def helm(self, *args: str) -> CompletedProcess[str]:
        return self.cluster.helm(*args, "-n", self.namespace)

    def config_map(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get("configmap", name, "-n", self.namespace)
        return found

    def generations(self) -> tuple[str, str]:
        """Of the live and of the previous pin file."""
        live, previous = (self.config_map(f"model-sidecar-{name}")["metadata"] for name in ("pins", "pins-previous"))
        return live["annotations"][f"{DOMAIN}generation"], previous["annotations"][f"{DOMAIN}generation"]

    def swap(self, generation: int) -> None:
        """What an operator's command does: the whole object, as Helm's own field manager."""
        live = self.config_map("model-sidecar-pins")
        live["data"] = {"pins.yaml": pins(generation)}
        said = {"generation": str(generation), "sha256": sha256(pins(generation)), "changed-by": "jo"}
        live["metadata"]["annotations"] |= {DOMAIN + name: value for name, value in said.items()}
        apply = ("apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-n", self.namespace, "-f", "-")
        good(self.cluster.kubectl(*apply, stdin=json.dumps(live)))

    def names(self) -> set[str]:
        return {item["metadata"]["name"] for item in self.cluster.get("configmaps", "-n", self.namespace)["items"]}


def good(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def release(cluster: Cluster) -> Release:
    needed("helm")
    return Release(cluster)


def test_a_higher_generation_in_the_values_becomes_live(release: Release) -> None:
    release.upgrade()
    assert release.generations() == ("1", "1")
    release.upgrade(generation=2)
    assert release.generations() == ("2", "1")
    assert release.config_map("model-sidecar-pins")["metadata"]["annotations"][f"{DOMAIN}changed-at"].endswith("Z")


def test_an_unrelated_upgrade_keeps_what_was_swapped(release: Release) -> None:
    release.upgrade(generation=2)
    release.swap(5)
    said = release.upgrade("--set", "podMonitor.interval=60s", generation=2)
    assert release.generations()[0] == "5"
    assert release.config_map("model-sidecar-pins")["metadata"]["annotations"][f"{DOMAIN}changed-by"] == "jo"
    assert f"NOT CHANGED in {release.namespace}: the live pin file has generation 5" in said
    assert "a generation above 5" in said


def test_one_release_injects_for_the_whole_cluster(cluster: Cluster, release: Release) -> None:
    release.upgrade("--set", "injection.mode=policy,fullnameOverride=first")
    try:
        release.upgrade("--set", "injection.mode=policy,fullnameOverride=renamed")
        other = cluster.namespace()
        for mode in ("policy", "webhook"):
            values = f"injection.mode={mode},fullnameOverride=other,namespaces={{{release.namespace}}}"
            refused = cluster.helm("install", "other", str(CHART), "-n", other, "--set", values)
            assert f"the release {release.namespace}/demo injects already" in refused.stderr
    finally:
        good(release.helm("uninstall", "demo"))


def test_a_file_edited_by_hand_stays_until_a_newer_one_is_forced(release: Release) -> None:
    release.upgrade(generation=1)
    live = release.config_map("model-sidecar-pins") | {"data": {"pins.yaml": pins(5)}}
    good(release.cluster.kubectl("replace", "--field-manager=kubectl-edit", "-f", "-", stdin=json.dumps(live)))
    assert "the live pin file has generation 5 and stays" in release.upgrade()
    annotations = release.config_map("model-sidecar-pins")["metadata"]["annotations"]
    assert annotations[f"{DOMAIN}sha256"] == sha256(pins(5))
    assert annotations[f"{DOMAIN}why"] == "edited by hand"
    refused = release.helm("upgrade", "demo", str(CHART), "--set", f"pins.content={pins(6)}")
    assert 'conflict with "kubectl-edit"' in refused.stderr
    release.upgrade("--force-conflicts", generation=6)
    assert release.generations() == ("6", "5")


def test_an_unrelated_upgrade_does_not_undo_a_rollback(release: Release) -> None:
    release.upgrade(generation=1)
    release.upgrade(generation=2)
    release.swap(1)
    release.upgrade("--set", "podMonitor.interval=60s", generation=2)
    assert release.generations()[0] == "1"
    release.upgrade(generation=3)
    assert release.generations() == ("3", "1")


def test_the_same_values_again_change_nothing(release: Release) -> None:
    release.upgrade(generation=2)
    before = release.config_map("model-sidecar-pins")
    assert "NOT CHANGED" not in release.upgrade(generation=2)
    assert release.config_map("model-sidecar-pins")["metadata"]["annotations"] == before["metadata"]["annotations"]


def test_the_history_survives_the_release(release: Release) -> None:
    release.upgrade(generation=1)
    release.upgrade(generation=2)
    good(release.helm("uninstall", "demo"))
    assert {name.rpartition("-")[0] for name in release.names()} == {"model-sidecar-pins-1", "model-sidecar-pins-2"}
    release.upgrade(generation=2)  # takes its own history up again
    assert release.generations() == ("2", "2")


def test_a_stop_by_hand_survives_upgrades_and_stops_none(release: Release) -> None:
    release.upgrade()
    stop = ("annotate", "configmap", "model-sidecar-pins", f"{DOMAIN}stopped=[]", "-n", release.namespace)
    good(release.cluster.kubectl(*stop, "--field-manager=model-sidecar"))
    release.upgrade("--set", "podMonitor.interval=60s")
    assert release.config_map("model-sidecar-pins")["metadata"]["annotations"][f"{DOMAIN}stopped"] == "[]"
    release.upgrade(generation=2)
    assert release.generations() == ("2", "1")


def test_a_copy_that_somebody_else_made_is_left_to_them(release: Release) -> None:
    digest = sha256(pins(2))[:8]
    copy = {"apiVersion": "v1", "kind": "ConfigMap", "immutable": True, "data": {"pins.yaml": pins(2)}}
    release.upgrade()
    release.cluster.create(
        copy | {"metadata": {"name": f"model-sidecar-pins-2-{digest}", "namespace": release.namespace}}
    )
    release.upgrade(generation=2)
    assert release.generations() == ("2", "1")


def test_an_apps_chart_brings_its_own(cluster: Cluster) -> None:
    needed("helm")
    release = Release(cluster, EXAMPLE)
    release.upgrade(generation=3)
    assert release.generations() == ("3", "3")
    template = cluster.get("deployment", "demo", "-n", release.namespace)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] |= {"name": "one", "namespace": release.namespace}
    made = cluster.create(pod, "--dry-run=server")
    assert [c["name"] for c in made["spec"]["initContainers"]] == ["model-sidecar", "warm-up"]


def test_pod_security_admits_the_sidecar(cluster: Cluster) -> None:
    namespace = cluster.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    template = kit.one(kit.render(chart=EXAMPLE), "Deployment")["spec"]["template"]
    for container in kit.containers(template["spec"]):  # the sample app says nothing of its own
        container.setdefault("securityContext", {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}})
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] |= {"name": "one", "namespace": namespace}
    cluster.create(pod, "--dry-run=server")
    test = kit.one(kit.render(namespace=namespace), "Pod")
    cluster.create(test, "--dry-run=server")


@pytest.mark.parametrize(
    ("user", "asks", "answer"),
    [
        ("developer", ("get", "pods", "--subresource=proxy"), "yes"),
        ("developer", ("patch", "configmap/model-sidecar-pins"), "no"),
        ("developer", ("create", "pods", "--subresource=exec"), "no"),
        ("operator", ("patch", "configmap/model-sidecar-pins"), "yes"),
        ("operator", ("create", "configmaps"), "yes"),
        ("operator", ("patch", "configmap/model-sidecar-config"), "no"),
        ("operator", ("delete", "configmap/model-sidecar-pins"), "no"),
        ("operator", ("create", "pods", "--subresource=exec"), "yes"),
        ("nobody", ("get", "configmap/model-sidecar-pins"), "no"),
    ],
)
def test_who_may_do_what(roles: Release, user: str, asks: tuple[str, ...], answer: str) -> None:
    done = roles.cluster.kubectl("auth", "can-i", *asks, "-n", roles.namespace, user=user)
    assert done.stdout.strip() == answer


@pytest.fixture(scope="module")
def roles(cluster: Cluster) -> Release:
    needed("helm")
    release = Release(cluster)
    subjects = {
        "viewers": [{"kind": "Group", "name": "developers"}],
        "operators": [{"kind": "Group", "name": "operators"}],
    }
    release.upgrade("--set-json", f"rbac={json.dumps(subjects)}")
    return release
