"""Argo CD and Flux: valid resources, values that the chart takes, and names that fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.kube import names
from tests.examples.kit import EXAMPLES, ROOT, build, pin_file, read, validate
from tests.kube import kit
from tests.kube.kit import Manifest

ARGO, FLUX = EXAMPLES / "argocd", EXAMPLES / "flux"
RESOURCES = [*sorted(ARGO.glob("applications/*.yaml")), *sorted(FLUX.glob("cluster/*.yaml"))]
CERT_MANAGER = "cert-manager.io/v1"
LIVE, PREVIOUS = f"{names.NAME}-pins", f"{names.NAME}-pins-previous"


def resource(path: Path, kind: str) -> Manifest:
    return kit.one(read(path), kind)


@pytest.mark.parametrize("path", RESOURCES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_resources_are_valid(path: Path) -> None:
    validate(read(path))


@pytest.mark.parametrize("folder", [ARGO, FLUX], ids=lambda folder: folder.name)
def test_the_pins_are_the_two_configmaps_that_pods_mount(folder: Path) -> None:
    manifests = build(folder / "pins")
    validate(manifests)
    assert kit.named(manifests) == {f"ConfigMap/{LIVE}", f"ConfigMap/{PREVIOUS}"}
    live, previous = kit.one(manifests, "ConfigMap", LIVE), kit.one(manifests, "ConfigMap", PREVIOUS)
    assert (live["metadata"]["labels"], previous["metadata"]["labels"]) == (
        {names.PINS: "live"},
        {names.PINS: "previous"},
    )
    assert pin_file(previous)["generation"] < pin_file(live)["generation"]
    assert "immutable" not in live


@pytest.mark.parametrize(
    "values",
    [
        resource(ARGO / "applications" / "model-sidecar.yaml", "Application")["spec"]["source"]["helm"]["valuesObject"],
        resource(FLUX / "cluster" / "model-sidecar.yaml", "HelmRelease")["spec"]["values"],
    ],
    ids=["argocd", "flux"],
)
def test_the_chart_takes_the_values_and_leaves_the_pins_alone(values: Manifest) -> None:
    manifests = kit.render(values, name="model-sidecar", namespace="model-sidecar", api_versions=[CERT_MANAGER])
    made = {m["metadata"]["name"]: m["metadata"]["namespace"] for m in manifests if m["kind"] == "ConfigMap"}
    assert not {LIVE, PREVIOUS} & set(made)
    assert made[f"{names.NAME}-config"] == made[f"{names.NAME}-env"] == "chat"
    assert {"MutatingWebhookConfiguration", "RoleBinding"} <= {m["kind"] for m in manifests}


def test_versions_are_this_ones() -> None:
    source = resource(ARGO / "applications" / "model-sidecar.yaml", "Application")["spec"]["source"]
    repository = kit.one(read(FLUX / "cluster" / "sources.yaml"), "GitRepository", "model-sidecar")
    assert source["targetRevision"] == repository["spec"]["ref"]["tag"] == f"v{__version__}"


def test_paths_are_where_they_say() -> None:
    chart = resource(FLUX / "cluster" / "model-sidecar.yaml", "HelmRelease")["spec"]["chart"]["spec"]["chart"]
    path = resource(ARGO / "applications" / "model-sidecar.yaml", "Application")["spec"]["source"]["path"]
    for folder in (ROOT / chart, ROOT / path):
        assert (folder / "Chart.yaml").is_file()
    assert (ARGO / resource(ARGO / "applications" / "pins.yaml", "Application")["spec"]["source"]["path"]).is_dir()
    assert (FLUX / resource(FLUX / "cluster" / "pins.yaml", "Kustomization")["spec"]["path"]).is_dir()


def test_sources_of_flux_are_there() -> None:
    known = {m["metadata"]["name"] for m in read(FLUX / "cluster" / "sources.yaml")}
    release = resource(FLUX / "cluster" / "model-sidecar.yaml", "HelmRelease")["spec"]["chart"]["spec"]["sourceRef"]
    pins = resource(FLUX / "cluster" / "pins.yaml", "Kustomization")["spec"]["sourceRef"]
    assert {release["name"], pins["name"]} == known


def test_argo_cd_ignores_what_a_swap_writes_and_never_the_file() -> None:
    spec = resource(ARGO / "applications" / "pins.yaml", "Application")["spec"]
    written = (names.CHANGED_BY, names.CHANGED_AT, names.WHY, names.GENERATION, names.SHA256)
    written += (names.STOPPED, names.TAKEN_BACK)
    pointers = [f"/metadata/annotations/{name.replace('/', '~1')}" for name in written]
    ignored = {entry["name"]: entry["jsonPointers"] for entry in spec["ignoreDifferences"]}
    assert ignored == {LIVE: pointers, PREVIOUS: pointers}
    assert {"ServerSideApply=true", "RespectIgnoreDifferences=true"} <= set(spec["syncPolicy"]["syncOptions"])
    assert spec["syncPolicy"]["automated"]["selfHeal"] is False


def test_flux_keeps_what_a_swap_writes() -> None:
    for manifest in build(FLUX / "pins"):
        assert manifest["metadata"]["annotations"] == {"kustomize.toolkit.fluxcd.io/ssa": "Merge"}
