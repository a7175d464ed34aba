"""The workflow: valid by schema and linters, least privilege, no script from outside; its scripts are run for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples.kit import EXAMPLES, ROOT
from tests.kube.tools import needed

FOLDER = EXAMPLES / "github-actions"
WORKFLOW = FOLDER / ".github" / "workflows" / "pins.yml"
BIN = Path(sys.executable).parent
BODY = yaml.safe_load(WORKFLOW.read_text())
JOBS: dict[str, Any] = BODY["jobs"]
STEPS = [(job, step) for job, body in JOBS.items() for step in body["steps"]]
SCRIPTS = {f"{job}: {step['name']}": step["run"] for job, step in STEPS if "run" in step}


def script(name: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs one step as the runner does: `bash -e`, in the checkout, with the workflow's variables."""
    path = os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]])
    found = {**os.environ, **BODY["env"], "PATH": path, "RUNNER_TEMP": str(folder / "temp"), **env}
    found["GITHUB_STEP_SUMMARY"] = str(folder / "summary.md")
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SCRIPTS[name]]
    return subprocess.run(
        command, cwd=folder / "repo", env=found, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the example's files, and folders for the runner's things."""
    shutil.copytree(FOLDER, tmp_path / "repo")
    (tmp_path / "temp").mkdir()
    (tmp_path / "bin").mkdir()
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *words], cwd=folder / "repo", capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def test_the_schema_of_workflows() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint() -> None:
    if shutil.which("actionlint") is None:
        pytest.skip("no actionlint on PATH")
    done = subprocess.run(["actionlint", str(WORKFLOW)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck(name: str) -> None:
    command = [needed("shellcheck"), "--shell=bash", "-"]
    done = subprocess.run(command, input=SCRIPTS[name], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_has_an_expression_in_it(name: str) -> None:
    assert "${{" not in SCRIPTS[name]


def test_no_token_by_default_and_little_in_each_job() -> None:
    assert BODY["permissions"] == {}
    assert {job: body["permissions"] for job, body in JOBS.items()} == {
        "check": {"contents": "read"},
        "live": {"contents": "read"},
        "comment": {"pull-requests": "write"},
        "apply": {"contents": "read", "pull-requests": "read"},
    }


def test_it_never_runs_with_rights_for_a_strangers_code() -> None:
    assert set(BODY[True]) == {"pull_request", "push"}  # YAML 1.1 reads `on` as true
    ours = "github.event.pull_request.head.repo.full_name == github.repository"
    for job, body in JOBS.items():
        secret = "secrets." in yaml.safe_dump(body) or "write" in body["permissions"].values()
        if secret:
            assert ours in body["if"] or "github.event_name == 'push'" in body["if"], job
        if "secrets." in yaml.safe_dump(body):
            assert body["environment"] in ("pins-check", "production"), job


def test_actions_are_pinned_by_commit_and_bounded_in_time() -> None:
    for line in re.findall(r"uses: .*", WORKFLOW.read_text()):
        assert re.fullmatch(r"uses: actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
    assert all(body["timeout-minutes"] <= 15 for body in JOBS.values())
    checkouts = [step for _, step in STEPS if "actions/checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_check_passes_as_it_stands(checkout: Path) -> None:
    done = script("check: Check", {}, checkout)
    assert done.returncode == 0, done.stderr
    assert "good, generation 7" in done.stdout


def test_a_change_is_told_in_words(checkout: Path) -> None:
    base = git(checkout, "rev-parse", "HEAD")
    pins = checkout / "repo" / "pins" / "pins.yaml"
    pins.write_text(pins.read_text().replace("percent: 10", "percent: 25").replace("generation: 7", "generation: 8"))
    commit(checkout)
    done = script("check: Say what changes", {"BASE": base}, checkout)
    assert done.returncode == 0, done.stderr
    told = (checkout / "repo" / "told.md").read_text()
    assert "    generation 7 → 8\n" in told
    assert "25" in told
    assert told == (checkout / "summary.md").read_text()
    assert all(line.startswith("    ") for line in told.splitlines()[2:])


def test_no_change_is_told_too_and_trouble_fails(checkout: Path) -> None:
    base = git(checkout, "rev-parse", "HEAD")
    assert script("check: Say what changes", {"BASE": base}, checkout).returncode == 0
    assert "nothing changes" in (checkout / "repo" / "told.md").read_text()
    (checkout / "repo" / "pins" / "pins.yaml").write_text("nonsense")
    assert script("check: Say what changes", {"BASE": base}, checkout).returncode == 2


def test_keys_go_where_the_base_branch_says(checkout: Path) -> None:
    settings = checkout / "repo" / "pins" / "sidecar.yaml"
    settings.write_text(settings.read_text().replace("https://api.openai.com/v1", "http://127.0.0.1:9/base"))
    base = commit(checkout)
    settings.write_text(settings.read_text().replace("127.0.0.1:9/base", "127.0.0.1:9/stolen"))
    commit(checkout)
    done = script("live: Ask the providers for the models", {"BASE": base, "OPENAI_API_KEY": "k"}, checkout)
    assert "openai could not be reached" in done.stderr
    used = (checkout / "temp" / "sidecar.yaml").read_text()
    assert "/base" in used
    assert "stolen" not in used


def test_a_title_cannot_run_anything(checkout: Path) -> None:
    title = 'PR #7: "; touch stolen; $(touch stolen) `touch stolen`'
    for name, says in {
        "gh": 'printf "%s\\n" "$TITLE"',
        "kubectl": 'printf "%s\\n" "$@" > "$RUNNER_TEMP/words"',
    }.items():
        tool = checkout / "bin" / name
        tool.write_text(f"#!/bin/sh\n{says}\n")
        tool.chmod(0o755)
    env = {"TITLE": title, "REPO": "a/b", "COMMIT": "c0ffee", "CLUSTER": "apiVersion: v1", "NAMESPACE": "chat"}
    done = script("apply: Apply", env, checkout)
    assert done.returncode == 0, done.stderr
    words = (checkout / "temp" / "words").read_text().splitlines()
    assert words[:3] == ["model-sidecar", "apply", "pins/pins.yaml"]
    assert words[words.index("--why") + 1] == title
    assert not list(checkout.rglob("stolen"))
    kubeconfig = checkout / "temp" / "kubeconfig"
    assert kubeconfig.stat().st_mode & 0o077 == 0
    assert script("apply: Forget the kubeconfig", {}, checkout).returncode == 0
    assert not kubeconfig.exists()


def test_a_push_without_a_pull_request_says_its_commit(checkout: Path) -> None:
    for name, says in {"gh": ":", "kubectl": 'printf "%s\\n" "$@" > "$RUNNER_TEMP/words"'}.items():
        tool = checkout / "bin" / name
        tool.write_text(f"#!/bin/sh\n{says}\n")
        tool.chmod(0o755)
    env = {"REPO": "a/b", "COMMIT": "c0ffee", "CLUSTER": "", "NAMESPACE": "chat"}
    assert script("apply: Apply", env, checkout).returncode == 0
    assert "commit c0ffee" in (checkout / "temp" / "words").read_text()


def test_the_settings_are_those_of_the_fleet() -> None:
    fleet = EXAMPLES / "kustomize" / "components" / "sidecar" / "sidecar.yaml"
    assert yaml.safe_load((FOLDER / "pins" / "sidecar.yaml").read_text()) == yaml.safe_load(fleet.read_text())
    assert (ROOT / "docs" / "integrations.md").exists()
