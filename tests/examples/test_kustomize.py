"""The Kustomize example: what it builds, and that its component is the same sidecar as the chart's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sidecar import __version__
from tests.examples.kit import EXAMPLES, NATIVE, build, kustomize, mounted, pin_file, template, validate
from tests.kube import kit
from tests.kube.kit import Manifest, sidecar_of

FOLDER = EXAMPLES / "kustomize"
FROM_LIBRARY = """
kind: PodTemplate
metadata: {name: x}
template:
  {{- include "model-sidecar.pod" (dict "root" $ "pod" .Values.pod) | nindent 2 }}
"""


@pytest.fixture(scope="module")
def production() -> list[Manifest]:
    return build(FOLDER / "overlays" / "production")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The example, to change it."""
    return Path(shutil.copytree(FOLDER, tmp_path / "kustomize"))


@pytest.mark.parametrize("overlay", ["staging", "production"])
@pytest.mark.parametrize("version", NATIVE)
def test_an_overlay_is_valid(overlay: str, version: str) -> None:
    validate(build(FOLDER / "overlays" / overlay), version)


def test_the_overlays_differ_in_their_pins() -> None:
    live = [
        pin_file(kit.one(build(FOLDER / "overlays" / overlay), "ConfigMap", "model-sidecar-pins"))
        for overlay in ("staging", "production")
    ]
    assert live[0]["generation"] != live[1]["generation"]


def test_what_pods_mount_is_what_the_overlay_makes(production: list[Manifest]) -> None:
    pod = template(production)
    live, previous = mounted(production, pod), mounted(production, pod, "model-sidecar-last-good")
    assert live["metadata"]["name"] == "model-sidecar-pins"
    assert previous["metadata"]["name"] == "model-sidecar-pins-previous"
    assert live["metadata"]["labels"] == {"model-sidecar.io/pins": "live"}
    assert pin_file(previous)["generation"] < pin_file(live)["generation"]
    assert "sidecar.yaml" in mounted(production, pod, "model-sidecar-config")["data"]


def test_a_changed_pin_file_changes_no_pod(copy: Path, production: list[Manifest]) -> None:
    pins = copy / "overlays" / "production" / "pins.yaml"
    pins.write_text(pins.read_text().replace("generation: 7", "generation: 9"))
    changed = build(pins.parent)
    assert pin_file(kit.one(changed, "ConfigMap", "model-sidecar-pins"))["generation"] == 9
    assert kit.one(changed, "Deployment") == kit.one(production, "Deployment")


def test_the_container_is_the_library_charts(production: list[Manifest], tmp_path: Path) -> None:
    chart = kit.app_chart(tmp_path / "web", {"pod.yaml": FROM_LIBRARY})
    (theirs,) = kit.render({"pod": kit.pod(), "modelSidecar": {}}, chart=chart)
    theirs, ours = theirs["template"], template(production)
    image = sidecar_of(theirs["spec"]).pop("image")
    assert image.endswith(f":{__version__}")
    assert sidecar_of(ours["spec"])["image"] == f"registry.example.com/model-sidecar:{__version__}"
    container = {key: value for key, value in sidecar_of(ours["spec"]).items() if key != "image"}
    assert container == sidecar_of(theirs["spec"])
    assert ours["spec"]["volumes"] == theirs["spec"]["volumes"]
    assert ours["spec"]["containers"][0]["envFrom"] == theirs["spec"]["containers"][0]["envFrom"]
    assert ours["metadata"]["annotations"].items() <= theirs["metadata"]["annotations"].items()
    assert ours["metadata"]["labels"]["model-sidecar.io/injected"] == "true"


def test_settings_and_variables_are_the_charts(production: list[Manifest]) -> None:
    chart = kit.render()
    ours, theirs = (
        kit.documents(kit.one(each, "ConfigMap", "model-sidecar-config")["data"]["sidecar.yaml"])[0]
        for each in (production, chart)
    )
    assert ours == theirs
    assert (
        kit.one(production, "ConfigMap", "model-sidecar-env")["data"]
        == kit.one(chart, "ConfigMap", "model-sidecar-env")["data"]
    )


def test_the_sidecar_runs_before_the_apps_own_init_containers(copy: Path) -> None:
    app = copy / "base" / "deployment.yaml"
    migrate = "initContainers: [{name: migrate, image: registry.example.com/chat:1.4.0}]\n      containers:"
    app.write_text(app.read_text().replace("containers:", migrate, 1))
    spec = template(build(copy / "overlays" / "staging"))["spec"]
    assert [container["name"] for container in spec["initContainers"]] == ["model-sidecar", "migrate"]


def test_an_apps_own_sources_of_variables_are_never_lost(copy: Path) -> None:
    app, overlay = copy / "base" / "deployment.yaml", copy / "overlays" / "staging"
    own = "envFrom: [{configMapRef: {name: chat}}]\n          env:"
    app.write_text(app.read_text().replace("env:", own, 1))
    failed = kustomize(overlay)
    assert failed.returncode != 0
    assert "envFrom" in failed.stderr
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("components/env", "components/env-first"))
    (container,) = template(build(overlay))["spec"]["containers"]
    names = [source["configMapRef"]["name"] for source in container["envFrom"]]
    assert names == ["model-sidecar-env", "chat"]


def test_a_deployment_without_the_label_is_left_alone(copy: Path) -> None:
    app = copy / "base" / "deployment.yaml"
    other = (
        app.read_text().replace("name: chat\n", "name: other\n").replace('    model-sidecar.io/inject: "true"\n', "")
    )
    app.write_text(app.read_text() + "---\n" + other)
    manifests = build(copy / "overlays" / "staging")
    assert "initContainers" not in template(manifests, "other")["spec"]
    assert "initContainers" in template(manifests, "chat")["spec"]
