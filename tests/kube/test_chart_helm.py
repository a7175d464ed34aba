"""The charts in the real helm's hands, without a cluster: as typed from a clone, and packaged."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.kube import kit
from tests.kube.kit import CHART, EXAMPLE
from tests.kube.tools import needed


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([needed("helm"), *args], capture_output=True, text=True, timeout=60, check=False)


def test_lint_is_content() -> None:
    done = run("lint", "--strict", str(CHART), str(kit.LIBRARY), str(EXAMPLE))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("chart", [CHART, EXAMPLE], ids=lambda chart: chart.name)
def test_a_clone_renders_without_fetching_anything(chart: Path) -> None:
    done = run("template", "demo", str(chart), "--kube-version", "1.33.0")
    assert done.returncode == 0, done.stderr
    assert "name: model-sidecar-pins" in done.stdout


def test_an_older_kubernetes_is_refused() -> None:
    done = run("template", "demo", str(CHART), "--kube-version", "1.27.0")
    assert done.returncode == 1
    assert ">=1.28.0-0" in done.stderr and "1.27.0" in done.stderr


def test_a_package_holds_the_library_itself(tmp_path: Path) -> None:
    assert run("package", str(CHART), "-d", str(tmp_path)).returncode == 0
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        files = {member.name: member for member in archive.getmembers()}
    assert files["model-sidecar/charts/model-sidecar-lib/templates/_pod.tpl"].isfile()
    rendered = run("template", "demo", str(package))
    assert rendered.returncode == 0, rendered.stderr


def test_the_pin_file_may_come_from_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "pins.yaml"
    file.write_text("version: 1\ngeneration: 12\nunlisted: reject\n")
    done = run("template", "demo", str(CHART), "--set-file", f"pins.content={file}")
    live = kit.one(kit.documents(done.stdout), "ConfigMap", "model-sidecar-pins")
    assert live["data"] == {"pins.yaml": file.read_text()}
