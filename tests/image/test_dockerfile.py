"""What can be said of the image without building it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.strip() for line in re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines() if line.strip()
]
LOCKS = sorted(
    [ROOT / "requirements/runtime.lock", ROOT / "requirements/image.lock", *ROOT.glob("requirements/extra-*.lock")]
)
HADOLINT = Path(sys.executable).with_name("hadolint")
LARGE = {".git", ".venv", ".mypy_cache", ".hypothesis", ".ruff_cache", ".pytest_cache"}
LABELS = ("title", "description", "licenses", "version", "revision", "source", "created", "base.name")


def instructions(word: str) -> list[str]:
    return [line.removeprefix(word).strip() for line in INSTRUCTIONS if line.startswith(f"{word} ")]


def ignored(path: str) -> bool:
    """Does .dockerignore keep it out? The last pattern that fits decides; one fits all that is below it, too."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern, keeps = line.removeprefix("!").rstrip("/"), line.startswith("!")
        if line and not line.startswith("#") and fits(path, pattern):
            out = not keeps
    return out


def fits(path: str, pattern: str) -> bool:
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    short = pattern.removeprefix("**/")
    return any(fnmatch(p, pattern) or (short != pattern and fnmatch(p.rsplit("/", 1)[-1], short)) for p in above)


def context() -> set[str]:
    """The files that a build may see."""
    found = set()
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in LARGE]
        found |= {str((Path(folder) / name).relative_to(ROOT)) for name in names}
    return {name for name in found if not ignored(name)}


def run(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True, **more)


def test_hadolint_has_nothing_to_say() -> None:
    done = run(HADOLINT, ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_runs_here_and_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE + "\nRUN cd /tmp\nENTRYPOINT sidecar\n")
    done = run(HADOLINT, wrong)
    assert "DL3003" in done.stdout
    assert "DL3025" in done.stdout


def test_the_base_is_an_argument_of_both_stages() -> None:
    assert instructions("FROM") == ["${PYTHON_IMAGE} AS build", "scratch AS sbom", "${PYTHON_IMAGE}"]


def test_no_digest_and_no_registry_is_written_down() -> None:
    assert "sha256:" not in DOCKERFILE
    assert re.search(r"^ARG PYTHON_IMAGE=[a-z]+:[\w.-]+$", DOCKERFILE, re.MULTILINE)
    assert not re.search(r"https?://|\b(docker|ghcr|quay|gcr|pypi)\.(io|org)\b", DOCKERFILE)


def test_entry_point_and_command_are_in_exec_form() -> None:
    assert [json.loads(line) for line in instructions("ENTRYPOINT")] == [["sidecar"]]
    assert [json.loads(line) for line in instructions("CMD")] == [
        ["serve", "--config", "/etc/model-sidecar/config/sidecar.yaml"]
    ]


def test_it_runs_as_a_numbered_user_that_is_not_root() -> None:
    assert instructions("USER") == ["65532:65532"]


@pytest.mark.parametrize("label", LABELS)
def test_it_bears_the_label(label: str) -> None:
    assert f"org.opencontainers.image.{label}=" in " ".join(instructions("LABEL"))


def test_all_that_is_copied_exists_and_reaches_the_build() -> None:
    seen = context()
    sources = [s for line in instructions("COPY") if not line.startswith("--from") for s in line.split()[:-1]]
    assert sources
    for source in sources:
        assert any(fnmatch(name, source) or name.startswith(source.rstrip("/") + "/") for name in seen), source


def test_the_build_sees_only_what_it_copies() -> None:
    tops = {name.split("/")[0] for name in context()}
    assert tops == {"LICENSE", "README.md", "pyproject.toml", "requirements", "sidecar", "tools"}
    assert not [name for name in context() if "__pycache__" in name or name.endswith((".pyc", "dev.lock", "demo.lock"))]


OUTSIDE = [f"{name}/x" for name in sorted(LARGE)] + [
    ".env", "build/image/x", "config/sidecar.yaml", "sidecar/__pycache__/cli.cpython-311.pyc", "tests/image/kit.py",
    "tools/lock",
]  # fmt: skip


@pytest.mark.parametrize("outside", OUTSIDE)
def test_the_build_does_not_see(outside: str) -> None:
    assert ignored(outside)


def test_every_install_asks_for_hashes_or_takes_no_package_from_outside() -> None:
    installs = [
        part
        for line in instructions("RUN")
        for part in line.split("&&")
        if "pip" in part and "install" in part and "apt-get" not in part
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in part or "--no-index" in part for part in installs)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_each_pin_of_the_lock_has_hashes(lock: Path) -> None:
    pins = re.split(r"(?m)^(?=[a-z])", lock.read_text())[1:]
    assert pins
    assert not [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin]


def test_there_is_a_lock_for_each_extra_that_agrees_with_the_others() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    section = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = re.findall(r"(?m)^(\w+) = \[", section)
    assert extras == [name for name in extras if (ROOT / f"requirements/extra-{name}.lock").exists()]
    runtime = pins_of(ROOT / "requirements/runtime.lock")
    for name in extras:
        assert runtime.items() <= pins_of(ROOT / f"requirements/extra-{name}.lock").items(), name


def pins_of(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", lock.read_text()))


def run_tool(tmp_path: Path, engines: Mapping[str, str] | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """tools/image on a PATH that has no engines but `engines`: name → the program behind it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, program in ({n: n for n in ("sh", "sed", "tr", "dirname", "git")} | dict(engines or {})).items():
        (folder / name).symlink_to(str(shutil.which(program)))
    return run(ROOT / "tools/image", env={"PATH": str(folder), **env})


def test_without_any_engine_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = run_tool(tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "make image: no container engine works here: docker is not installed; podman is not installed; "
        "buildah is not installed. Install one, or repair it.\n"
    )


def test_an_engine_that_does_not_work_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    assert (
        "podman is installed, but `podman info` fails; buildah is not" in run_tool(tmp_path, {"podman": "false"}).stderr
    )


def test_docker_without_buildx_is_told(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = info ]\n')
    docker.chmod(0o755)
    assert "docker is installed, but without buildx" in run_tool(tmp_path, {"docker": str(docker)}).stderr


def test_an_engine_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "ENGINE=kaniko is none of docker, podman, buildah" in run_tool(tmp_path, ENGINE="kaniko").stderr


def test_an_extra_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    said = run_tool(tmp_path, EXTRAS="fleet,telemetry").stderr
    assert said == "make image: EXTRAS: there is no telemetry, only fleet otel tokens\n"


def test_several_platforms_ask_for_one_base(tmp_path: Path) -> None:
    said = run_tool(tmp_path, {"podman": "true"}, PLATFORMS="linux/amd64,linux/arm64").stderr
    assert "several platforms need one base: give it by digest, PYTHON_IMAGE=python:" in said


def test_only_docker_builds_and_pushes_in_one(tmp_path: Path) -> None:
    assert "PUSH=1 needs docker; with podman build first" in run_tool(tmp_path, {"podman": "true"}, PUSH="1").stderr


@pytest.mark.parametrize("script", ["image", "image-tree", "image-bytecode"])
def test_the_script_may_be_run(script: str) -> None:
    assert os.access(ROOT / "tools" / script, os.X_OK)
