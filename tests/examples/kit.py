"""Builds the examples with the real Kustomize that is in kubectl, and reads what comes out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.kube import kit, schemas
from tests.kube.kit import Manifest
from tests.kube.tools import needed

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NATIVE = ("1.29", "1.33", "1.37")
"""Versions of Kubernetes to check against: native sidecars, as the Kustomize component makes them."""


def kustomize(folder: Path) -> subprocess.CompletedProcess[str]:
    """`kubectl kustomize FOLDER`, whatever comes of it."""
    command = [needed("kubectl"), "kustomize", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def build(folder: Path) -> list[Manifest]:
    """The objects of a Kustomize folder."""
    done = kustomize(folder)
    assert done.returncode == 0, done.stderr
    return kit.documents(done.stdout)


def read(path: Path) -> list[Manifest]:
    """The objects of a YAML file."""
    return kit.documents(path.read_text())


def validate(manifests: list[Manifest], version: str = "1.36") -> None:
    """Kubernetes' own objects against its strict schemas, custom resources against their operators'."""
    kit.validate(manifests, version)
    for manifest in manifests:
        if not kit.is_kubernetes(manifest["apiVersion"]):
            schemas.check(manifest)


def template(manifests: list[Manifest], name: str = "chat") -> Manifest:
    """The pod template of a Deployment."""
    found: Manifest = kit.one(manifests, "Deployment", name)["spec"]["template"]
    return found


def mounted(manifests: list[Manifest], pod: Manifest, volume: str = "model-sidecar-pins") -> Manifest:
    """The ConfigMap that a volume of a pod template shows."""
    source = next(entry for entry in pod["spec"]["volumes"] if entry["name"] == volume)
    return kit.one(manifests, "ConfigMap", source["configMap"]["name"])


def pin_file(configmap: Manifest) -> dict[str, Any]:
    """The pin file in a ConfigMap."""
    (found,) = kit.documents(configmap["data"]["pins.yaml"])
    return found
