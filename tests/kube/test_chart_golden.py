"""Whole renderings as people review them. A difference is no fault by itself: read it; UPDATE_GOLDEN=1 writes it."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar import __version__
from tests.kube import kit
from tests.kube.kit import EXAMPLE, MONITORING, Manifest
from tests.kube.test_chart_values import COMMON

OURS = ("configmaps", "networkpolicy", "podmonitor", "rbac", "first-request")
"""Templates that these files show: alert rules, the dashboard and injection have tests of their own."""


def shown(values: dict[str, Any]) -> list[Manifest]:
    """The manifests of `OURS`; the files of the test's pod have a test of their own."""
    files = kit.files(values, api_versions=[MONITORING])
    texts = [text for path, text in sorted(files.items()) if any(f"/{name}.yaml" in path for name in OURS)]
    manifests = [manifest for text in texts for manifest in kit.documents(text)]
    return [m for m in manifests if (m["kind"], m["metadata"]["name"]) != ("ConfigMap", "model-sidecar-test")]


def written(manifests: list[Manifest]) -> str:
    """As text, with the version of the charts taken out."""
    return kit.as_text(manifests).replace(__version__, "VERSION")


def test_the_chart() -> None:
    kit.golden("chart-defaults.yaml", written(shown({})))


@pytest.mark.parametrize("name", ["keys-by-reference", "own-roles", "network-restrict", "classic", "json-pins"])
def test_what_other_values_change(name: str) -> None:
    defaults = shown({})
    kit.golden(f"chart-{name}.yaml", written([m for m in shown(COMMON[name]) if m not in defaults]))


@pytest.mark.parametrize("version", ["1.28", "1.36"])
def test_the_example_app(version: str) -> None:
    deployment = kit.one(kit.render(chart=EXAMPLE, kube_version=version), "Deployment")
    kit.golden(f"app-{version}.yaml", written([deployment]))


@pytest.mark.parametrize(("mode", "version"), [("none", "1.36"), ("none", "1.28"), ("policy", "1.36")])
def test_the_notes(mode: str, version: str) -> None:
    values = {"injection": {"mode": mode}}
    kit.golden(f"notes-{mode}-{version}.txt", kit.notes(values, kube_version=version).replace(__version__, "VERSION"))
