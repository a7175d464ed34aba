"""Renders our charts with the real Helm engine, checks them by Kubernetes' schemas, compares them with golden files.

Nothing here asks a cluster, so `lookup` finds nothing; tests/cluster has a real API server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart, HelmError, _native, lint
from kubernetes_validate import validate as check_manifest  # type: ignore[import-untyped]

Manifest = dict[str, Any]

HELM = Path(__file__).resolve().parents[2] / "helm"
CHART = HELM / "model-sidecar"
LIBRARY = HELM / "model-sidecar-lib"
EXAMPLE = HELM / "examples" / "app"
GOLDEN = Path(__file__).parent / "golden"
UPDATE = "UPDATE_GOLDEN"
"""With this variable set, golden files and the generated parts of the schemas are written and not compared."""

VERSIONS = ("1.28", "1.29", "1.33", "1.36", "1.37")
MONITORING = "monitoring.coreos.com/v1"
KUBERNETES_GROUPS = ("apps/", "batch/", "policy/", "autoscaling/")


class RenderError(Exception):
    """Helm refused; the message is the whole of what it said."""


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


@cache
def load(chart: Path) -> Chart:
    """The chart in this folder, read once a run."""
    return Chart.load(chart)


def files(
    values: Mapping[str, Any] | None = None,
    *,
    chart: Path | Chart = CHART,
    kube_version: str = "1.36",
    api_versions: Sequence[str] = (),
    name: str = "demo",
    namespace: str = "shop",
    is_upgrade: bool = False,
) -> dict[str, str]:
    """Each template's text by its path, NOTES.txt too. Raises RenderError."""
    loaded = load(chart) if isinstance(chart, Path) else chart
    options = {
        "name": name,
        "namespace": namespace,
        "kube_version": f"v{kube_version}.0" if kube_version.count(".") == 1 else f"v{kube_version}",
        "api_versions": list(api_versions),
        "is_install": not is_upgrade,
        "is_upgrade": is_upgrade,
    }
    try:
        # The wrapper's own `render` can't be told a version of Kubernetes; the engine can.
        text = _native.call_string("helm_render", loaded._raw(), json.dumps(dict(values or {})), json.dumps(options))
    except HelmError as error:
        raise RenderError(str(error)) from None
    rendered: dict[str, str] = json.loads(text)
    return rendered


def render(values: Mapping[str, Any] | None = None, **options: Any) -> list[Manifest]:
    """The manifests, in the order of their templates' paths. Options as in `files`."""
    return [
        document
        for path, text in sorted(files(values, **options).items())
        if path.endswith((".yaml", ".yml"))
        for document in documents(text)
    ]


def documents(text: str) -> list[Manifest]:
    """The objects in a YAML stream."""
    return [document for document in yaml.load_all(text, _Loader) if document]


def notes(values: Mapping[str, Any] | None = None, **options: Any) -> str:
    """What `helm install` prints in the end."""
    return next(text for path, text in files(values, **options).items() if path.endswith("NOTES.txt"))


def findings(chart: Path, values: Mapping[str, Any] | None = None, kube_version: str = "1.36") -> list[str]:
    """What `helm lint --strict` has to say, advice about icons left out."""
    report = lint(chart, dict(values or {}), strict=True, kube_version=f"v{kube_version}.0")
    return [
        f"{message['path']}: {message['error']}"
        for message in report["messages"]
        if message["severity"] >= 2 or "icon is recommended" not in str(message["error"])
    ] + list(report["errors"] or [])


def one(manifests: Iterable[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The only manifest of this kind (and name)."""
    found = [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
    return found[0]


def named(manifests: Iterable[Manifest]) -> set[str]:
    """`Kind/name` of each; with its namespace where it isn't the release's."""
    return {f"{m['kind']}/{m['metadata']['name']}" for m in manifests}


def validate(manifests: Iterable[Manifest], version: str) -> None:
    """Each against the strict schemas of this Kubernetes version. Custom resources have none there and are left out."""
    for manifest in manifests:
        if is_kubernetes(manifest["apiVersion"]):
            check_manifest(manifest, version, strict=True)


def is_kubernetes(api_version: str) -> bool:
    """Whether it is an API of Kubernetes itself."""
    return "/" not in api_version or api_version.startswith(KUBERNETES_GROUPS) or ".k8s.io/" in api_version


def golden(name: str, text: str) -> None:
    """Compares with tests/kube/golden/`name`, or writes it where UPDATE_GOLDEN is set. Read what was written!"""
    file = GOLDEN / name
    if os.environ.get(UPDATE):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.exists(), f"no such golden file: {UPDATE}=1 writes it"
    assert text == file.read_text(), f"{file} differs: read the difference, then {UPDATE}=1 writes it"


def as_text(manifests: Iterable[Manifest]) -> str:
    """Manifests as one readable YAML stream, always the same for the same objects."""
    return "---\n".join(yaml.dump(m, Dumper=_Dumper, width=120, sort_keys=True) for m in manifests)


class _Dumper(yaml.SafeDumper):
    """Text of several lines stands as it is."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def containers(spec: Mapping[str, Any]) -> list[Manifest]:
    """All containers of a pod's spec, init containers first."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def sidecar_of(spec: Mapping[str, Any]) -> Manifest:
    """The sidecar's container."""
    return next(c for c in containers(spec) if c["name"] == "model-sidecar")


def pod(**spec: Any) -> Manifest:
    """A small pod template of an app."""
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}], **spec}}


def app_chart(folder: Path, templates: Mapping[str, str], values: Mapping[str, Any] | None = None) -> Chart:
    """A chart of an app in `folder` that uses our library as its dependency, with these templates."""
    (folder / "templates").mkdir(parents=True)
    (folder / "charts").mkdir()
    (folder / "charts" / LIBRARY.name).symlink_to(LIBRARY)
    dependency = {"name": LIBRARY.name, "alias": "modelSidecar", "version": version_of(LIBRARY)}
    about = {"apiVersion": "v2", "name": "web", "version": "1.0.0", "dependencies": [dependency]}
    (folder / "Chart.yaml").write_text(json.dumps(about))
    (folder / "values.yaml").write_text(json.dumps(dict(values or {})))
    for name, text in templates.items():
        (folder / "templates" / name).write_text(text)
    return Chart.load(folder)


def version_of(chart: Path) -> str:
    """A chart's version."""
    return str(yaml.safe_load((chart / "Chart.yaml").read_text())["version"])
