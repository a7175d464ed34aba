"""The release workflow, which runs nowhere but at a tag: valid, of least privilege, and of scripts that are sound."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yaml"
TEXT = WORKFLOW.read_text()
BODY = yaml.load(TEXT, Loader=yaml.BaseLoader)  # strings only: `on` stays `on`
JOBS: dict[str, Any] = BODY["jobs"]
SCRIPTS = {
    f"{job}: {step['name']}": step["run"] for job, body in JOBS.items() for step in body["steps"] if "run" in step
}


def run(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60, **more)


def test_it_fits_the_schema_of_workflows() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = run(tool, "--builtin-schema", "vendor.github-workflows", WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_tag_alone_starts_it() -> None:
    assert BODY["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+*"]}}


def test_nothing_is_published_before_the_tests_have_passed() -> None:
    assert "bash .ci/run" in SCRIPTS["test: All tests"]
    assert {name: body.get("needs") for name, body in JOBS.items()} == {
        "test": None,
        "image": "test",
        "charts": "image",
    }


def test_each_job_has_the_rights_it_needs_and_no_others() -> None:
    publish = {"contents": "read", "packages": "write", "id-token": "write"}
    assert BODY["permissions"] == {}
    assert {name: body["permissions"] for name, body in JOBS.items()} == {
        "test": {"contents": "read"}, "image": publish, "charts": publish,
    }  # fmt: skip


def test_actions_are_pinned_by_commit_and_tell_their_version() -> None:
    uses = re.findall(r"uses: (.*)", TEXT)
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in uses)


def test_no_registry_is_written_down() -> None:
    assert not re.search(r"\b(docker|ghcr|quay|gcr|pypi)\.(io|org)\b", TEXT)


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_expression_is_put_into_a_script(name: str) -> None:
    assert "${{" not in SCRIPTS[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_bash(name: str) -> None:
    assert run("bash", "-n", "-c", SCRIPTS[name]).returncode == 0


def versions(folder: Path, tag: str) -> subprocess.CompletedProcess[str]:
    """The step that compares the tag, run as the runner does."""
    script = SCRIPTS["test: The tag is the version of the package and of the charts"]
    return run(
        "bash", "-eo", "pipefail", "-c", script, cwd=folder, env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {
        "sidecar/__init__.py": '"""Doc."""\n\n__version__ = "1.2.3"\n',
        "helm/model-sidecar/Chart.yaml": 'version: 1.2.3\nappVersion: "1.2.3"\n',
        "helm/model-sidecar-lib/Chart.yaml": "version: 1.2.3\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_tag_that_is_the_version_goes_on(checkout: Path) -> None:
    assert versions(checkout, "v1.2.3").returncode == 0


@pytest.mark.parametrize(
    "file", ["sidecar/__init__.py", "helm/model-sidecar/Chart.yaml", "helm/model-sidecar-lib/Chart.yaml"]
)
def test_a_version_that_was_forgotten_stops_the_release(checkout: Path, file: str) -> None:
    path = checkout / file
    path.write_text(path.read_text().replace("1.2.3", "1.2.2", 1))
    assert versions(checkout, "v1.2.3").returncode != 0


def test_versions_stand_where_the_release_looks_for_them() -> None:
    version = re.search(r'(?m)^__version__ = "(.*)"$', (ROOT / "sidecar/__init__.py").read_text())
    assert version
    assert versions(ROOT, f"v{version[1]}").returncode == 0
