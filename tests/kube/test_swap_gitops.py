"""Argo CD and Flux own a pin file: nothing is changed behind their back, and git goes back instead."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.kube.owners import owner_of
from tests.kube.swap_kit import BIN, Done, pins, stage

OBJECT = {"name": "model-sidecar-pins", "namespace": "shop"}
ARGO = {"annotations": {"argocd.argoproj.io/tracking-id": "shop-app:/ConfigMap:shop/model-sidecar-pins"}}
ANYWHERE = {"annotations": {"argocd.argoproj.io/tracking-id": "apps_shop:/ConfigMap:shop/model-sidecar-pins"}}
FLUX = {"labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}
WHO = {
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip


# --- who owns it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "what"),
    [
        (ARGO, "Argo CD's application shop-app"),
        ({"labels": {"argocd.argoproj.io/instance": "shop-app"}}, "Argo CD's application shop-app"),
        (ANYWHERE, "Argo CD's application apps/shop"),
        (FLUX, "Flux's kustomization shop"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "shop"}}, "Flux's helmrelease shop"),
        ({"labels": {"app.kubernetes.io/managed-by": "argocd"}}, "Argo CD"),
        ({"labels": {"app.kubernetes.io/managed-by": "flux"}}, "Flux"),
        ({"managedFields": [{"manager": "argocd-controller", "fieldsV1": {"f:data": {}}}]}, "Argo CD"),
        ({"managedFields": [{"manager": "kustomize-controller", "fieldsV1": {"f:data": {}}}]}, "Flux"),
        ({"ownerReferences": [{"kind": "PinSet", "name": "shop", "controller": True}]}, "PinSet shop"),
    ],
)  # fmt: skip
def test_marks_of_an_owner(marks: dict[str, Any], what: str) -> None:
    owner = owner_of({**OBJECT, **marks})
    assert owner is not None
    assert owner.what == what


@pytest.mark.parametrize(
    "marks",
    [
        {},
        {"labels": {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "shop"}},
        {"annotations": {"argocd.argoproj.io/tracking-id": "shop-app:/ConfigMap:shop/another"}},
        {"labels": FLUX["labels"], "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}},
        {"labels": FLUX["labels"], "annotations": {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}},
        {"managedFields": [{"manager": "argocd-controller", "fieldsV1": {"f:metadata": {}}}]},
        {"managedFields": [{"manager": "helm", "fieldsV1": {"f:data": {}}}]},
    ],
)
def test_no_owner(marks: dict[str, Any]) -> None:
    assert owner_of({**OBJECT, **marks}) is None


# --- what is said ----------------------------------------------------------------------------------------------------


def test_apply_says_what_to_do_in_git(tmp_path: Path) -> None:
    with stage(tmp_path, **ARGO) as at:
        before = dict(at.api.configmaps)
        file = at.file(pins(8))
        done = at.run("apply", file, "--yes")
        assert (done.code, at.api.configmaps) == (3, before)
        assert "Argo CD's application shop-app keeps ConfigMap shop/model-sidecar-pins as git has it" in done.err
        assert f"put {file} in the place of the file" in done.err
        assert "argocd app sync shop-app" in done.err
        assert "`argocd app set shop-app --sync-policy none`, then the same command with --despite-gitops" in done.err


def test_rollback_says_what_to_do_in_git(tmp_path: Path) -> None:
    with stage(tmp_path, **FLUX) as at:
        done = at.run("rollback")
        assert done.code == 3
        assert "git checkout THAT_COMMIT^ -- PATH/TO/pins.yaml" in done.err
        assert "flux reconcile kustomization shop -n flux-system --with-source" in done.err


def test_who_insists_changes_the_cluster(tmp_path: Path) -> None:
    with stage(tmp_path, **ARGO) as at:
        assert at.run("apply", at.file(pins(8)), "--yes", "--despite-gitops").code == 0
        assert at.content() == pins(8)
        assert at.run("rollback", "--despite-gitops").code == 0
        assert at.content() == pins(7)


def test_a_file_that_git_has_brought_already_is_only_waited_for(tmp_path: Path) -> None:
    with stage(tmp_path, **ARGO) as at:
        done = at.run("apply", at.file(pins(7)), "--yes")
        assert (done.code, "nothing to do" in done.out) == (0, True)


# --- the revert ------------------------------------------------------------------------------------------------------


Git = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def git(repository: Path) -> Iterator[Git]:
    """A repository with generations 1 and 2 of shop/pins.yaml, and another commit on top."""

    def run(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(repository), *words], env={**os.environ, **WHO}, capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    (repository / "shop").mkdir(parents=True)
    run("init", "-q", "-b", "main")
    for generation in (1, 2):
        (repository / "shop" / "pins.yaml").write_text(pins(generation))
        (repository / "other.txt").write_text(f"{generation}")
        run("add", ".")
        run("commit", "-qm", f"Pins {generation}")
    (repository / "other.txt").write_text("later")
    run("commit", "-qam", "Something else")
    yield run


def rollback(repository: Path, *words: str) -> Done:
    done = subprocess.run(
        [BIN / "kubectl-model_sidecar", "rollback", "--git", repository, *words],
        env={**os.environ, **WHO, "KUBECTL": "/nowhere"}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def test_git_goes_back_by_one_commit_that_touches_one_file(repository: Path, git: Git) -> None:
    done = rollback(repository, "--file", "shop/pins.yaml", "--why", "it rambles")
    assert done.code == 0, done.err
    assert (repository / "shop" / "pins.yaml").read_text() == pins(1)
    assert git("show", "--name-only", "--format=%B").split("\n") == [
        f"Roll back shop/pins.yaml to {git('rev-parse', 'HEAD~2^').strip()[:10]}", "", "it rambles", "", "",
        "shop/pins.yaml", "",
    ]  # fmt: skip
    assert git("status", "--porcelain") == ""
    assert (repository / "other.txt").read_text() == "later"
    assert f"git -C {repository} push" in done.out
    assert "nothing is live yet" in done.out


def test_git_goes_back_to_a_generation(repository: Path, git: Git) -> None:
    for generation in (3, 4):
        (repository / "shop" / "pins.yaml").write_text(pins(generation))
        git("commit", "-qam", f"Pins {generation}")
    assert rollback(repository, "--file", "shop/pins.yaml", "--to", "2").code == 0
    assert (repository / "shop" / "pins.yaml").read_text() == pins(2)
    done = rollback(repository, "--file", "shop/pins.yaml", "--to", "9")
    assert (done.code, "no commit of shop/pins.yaml has generation 9" in done.err) == (1, True)


def test_of_a_merge_the_whole_is_taken_back(repository: Path, git: Git) -> None:
    """What was live is what the branch had before the merge, not what the other branch had half-way."""
    git("checkout", "-qb", "work")
    for generation in (3, 4):
        (repository / "shop" / "pins.yaml").write_text(pins(generation))
        git("commit", "-qam", f"Pins {generation}")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "Pins 4", "work")
    assert rollback(repository, "--file", "shop/pins.yaml").code == 0
    assert (repository / "shop" / "pins.yaml").read_text() == pins(2)


def test_a_shallow_clone_is_told_as_such(repository: Path, git: Git, tmp_path: Path) -> None:
    (repository / "shop" / "pins.yaml").write_text(pins(3))
    git("commit", "-qam", "Pins 3")
    clone = tmp_path / "a clone"
    git("clone", "-q", "--depth=1", f"file://{repository}", str(clone))
    assert "`git fetch --unshallow` first" in rollback(clone, "--file", "shop/pins.yaml").err


def test_a_path_with_spaces(repository: Path, git: Git) -> None:
    git("mv", "shop", "my shop")
    git("commit", "-qm", "Moved")
    done = rollback(repository, "--file", "my shop/pins.yaml")
    assert (done.code, "git log --follow -- 'my shop/pins.yaml'" in done.err) == (1, True)
    (repository / "my shop" / "pins.yaml").write_text(pins(3))
    git("commit", "-qam", "Pins 3")
    assert rollback(repository, "--file", "my shop/pins.yaml").code == 0
    assert (repository / "my shop" / "pins.yaml").read_text() == pins(2)


def test_what_else_is_staged_stays_staged(repository: Path, git: Git) -> None:
    (repository / "other.txt").write_text("staged")
    git("add", "other.txt")
    assert rollback(repository, "--file", "shop/pins.yaml").code == 0
    assert git("status", "--porcelain") == "M  other.txt\n"


def test_a_file_that_was_edited_is_not_lost(repository: Path, git: Git) -> None:
    (repository / "shop" / "pins.yaml").write_text("mine")
    done = rollback(repository, "--file", "shop/pins.yaml")
    assert (done.code, "has changes that are not committed" in done.err) == (1, True)
    assert (repository / "shop" / "pins.yaml").read_text() == "mine"


def test_a_commit_that_a_hook_refuses_leaves_the_file(repository: Path, git: Git) -> None:
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no rollback on a Friday >&2\nexit 1\n")
    hook.chmod(0o755)
    done = rollback(repository, "--file", "shop/pins.yaml")
    assert (done.code, "no rollback on a Friday" in done.err) == (2, True)
    assert (repository / "shop" / "pins.yaml").read_text() == pins(2)
    assert git("status", "--porcelain") == ""


def test_nothing_before_the_first_commit(repository: Path, git: Git) -> None:
    (repository / "new.yaml").write_text(pins(1))
    git("add", "new.yaml")
    git("commit", "-qm", "New")
    assert "there is nothing before it to go back to" in rollback(repository, "--file", "new.yaml").err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--file", "none.yaml"), "git knows no commit of none.yaml"),
        (("--file", "../elsewhere.yaml"), "is not in the repository"),
        ((), "--git and --file belong together"),
        (("--file", "shop/pins.yaml", "--raise"), "--raise changes the file"),
    ],
)
def test_what_is_refused(repository: Path, git: Git, words: tuple[str, ...], sentence: str) -> None:
    done = rollback(repository, *words)
    assert (done.code, sentence in done.err) == (1, True), done.err


def test_no_repository_there(tmp_path: Path) -> None:
    done = rollback(tmp_path, "--file", "pins.yaml")
    assert (done.code, "not a git repository" in done.err) == (2, True)
