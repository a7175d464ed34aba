"""For the tests of injection on a real API server: the chart's policies installed, and pods as they would be stored."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import yaml

from tests.cluster.cluster import Cluster, Failed, until
from tests.kube import kit
from tests.kube.injection_cases import FIT, UNFIT, Json

ASK = {"model-sidecar.io/inject": "true"}
OPT_OUT = {"model-sidecar.io/inject": "false"}


def pod(namespace: str, spec: Json, labels: dict[str, str] | None = None, **metadata: Any) -> Json:
    """A pod of an app."""
    about = {"name": "web", "namespace": namespace, "labels": labels or {}, **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": copy.deepcopy(spec)}


def dry(cluster: Cluster, document: Json) -> Json:
    """The pod as the API server would store it."""
    stored: Json = cluster.create(document, "--dry-run=server")
    return stored


def names(stored: Json) -> list[str]:
    """Of the init containers."""
    return [c["name"] for c in stored["spec"].get("initContainers", [])]


def answer(cluster: Cluster, document: Json) -> str:
    """Why the API server refuses it; empty if it does not."""
    try:
        dry(cluster, document)
    except Failed as error:
        return str(error)
    return ""


@contextlib.contextmanager
def installed(cluster: Cluster, values: Json) -> Iterator[list[kit.Manifest]]:
    """The chart's policies, at work: they take effect some seconds after they are written."""
    policies = [m for m in kit.render(values) if "AdmissionPolicy" in m["kind"]]
    assert len(policies) == 6
    ours, silent = cluster.namespace(**ASK), cluster.namespace()
    fit, unfit = FIT["plain"], UNFIT["host network"][0]
    cluster.apply(yaml.safe_dump_all(policies))
    try:
        until(lambda: _has_sidecar(cluster, pod(ours, fit)) and _has_sidecar(cluster, pod(silent, fit, ASK)))
        until(lambda: answer(cluster, pod(silent, unfit, ASK)))
        yield policies
    finally:
        remove(cluster, policies)
        until(lambda: not answer(cluster, pod(silent, unfit, ASK)) and not answer(cluster, pod(ours, fit)))
        until(lambda: not _has_sidecar(cluster, pod(ours, fit)) and not _has_sidecar(cluster, pod(silent, fit, ASK)))


def _has_sidecar(cluster: Cluster, document: Json) -> bool:
    try:
        return any(c["name"] == "model-sidecar" for c in kit.containers(dry(cluster, document)["spec"]))
    except Failed as error:
        if "denied request" in str(error):
            return False
        raise


def remove(cluster: Cluster, manifests: list[kit.Manifest]) -> None:
    """Take these out, those that are there."""
    words = [f"{m['kind'].lower()}/{m['metadata']['name']}" for m in manifests]
    cluster.kubectl("delete", "--ignore-not-found", *words)
