"""Who runs the operators' commands, and with what: terminals, rights, kubeconfigs, kubectls, and both front ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.kube.arguments import KubeError, Target
from sidecar.kube.kubectl import Kubectl
from tests.kube.swap_kit import BIN, NAMESPACE, Stage, applied, configmap, pins, refused, stage
from tests.process.kit import wait

NOTE = "model-sidecar.io"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Stage]:
    """Generation 7 is live; there are no pods."""
    with stage(tmp_path) as at:
        yield at


# --- people ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "code", "live"), [("y\n", 0, 8), ("\n", 1, 7), ("n\n", 1, 7)])
def test_a_person_at_a_terminal_is_asked(shop: Stage, answer: str, code: int, live: int) -> None:
    ours, theirs = pty.openpty()
    words = [shop.kubectl, "model-sidecar", "apply", str(shop.file(pins(8)))]
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            words, env=shop.env(), stdin=theirs, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done
    assert "Swap it for 0 pods in namespace shop? [y/N]" in done.stderr
    assert shop.content() == pins(live)


def test_ctrl_c_at_the_question_changes_nothing(shop: Stage) -> None:
    ours, theirs = pty.openpty()
    words = [shop.kubectl, "model-sidecar", "apply", str(shop.file(pins(8)))]
    with subprocess.Popen(words, env=shop.env(), stdin=theirs, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "[y/N]" not in said:
            said += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, "Traceback" in err, shop.content()) == (130, False, pins(7))


@pytest.mark.parametrize(
    ("denied", "words", "sentence", "role"),
    [
        (("get", "configmaps"), ("history",), "may not get configmaps", "viewer"),
        (("list", "pods"), ("status",), "may not list pods", "viewer"),
        (("update", "configmaps"), ("apply", "FILE", "--yes"), "may not update configmaps", "operator"),
        (("create", "configmaps"), ("apply", "FILE", "--yes"), "may not create configmaps", "operator"),
    ],
)  # fmt: skip
def test_who_may_not_is_told_which_role_to_ask_for(
    shop: Stage, denied: tuple[str, str], words: tuple[str, ...], sentence: str, role: str
) -> None:
    shop.api.denied["vera"] = {denied}
    file = str(shop.file(pins(8)))
    said = refused(shop, *(file if word == "FILE" else word for word in words), code=2, user="vera")
    assert f"vera {sentence} in namespace shop: ask for the chart's Role model-sidecar-{role}" in said


def test_who_may_not_annotate_pods_swaps_all_the_same(shop: Stage) -> None:
    shop.api.denied["alice"] = {("list", "pods"), ("patch", "pods")}
    done = shop.run("apply", shop.file(pins(8)), "--yes")
    assert done.code == 2  # it may not see pods either, so it stops before it writes
    assert shop.content() == pins(7)


def test_an_old_cluster_knows_nobody_and_the_kubeconfig_does(shop: Stage) -> None:
    shop.api.denied["alice"] = {("create", "selfsubjectreviews")}
    applied(shop, pins(8))
    assert shop.live()["metadata"]["annotations"][f"{NOTE}/changed-by"] == "alice"


# --- no cluster, no kubectl ------------------------------------------------------------------------------------------


def trouble(at: Stage, *words: str, **env: str) -> str:
    """What a command says when it can't even begin."""
    done = subprocess.run(
        [BIN / "kubectl-model_sidecar", *words], env=at.env(**env), capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_no_kubectl(shop: Stage) -> None:
    assert "install kubectl 1.28 or later, or name it by the variable KUBECTL" in trouble(
        shop, "status", KUBECTL="nope"
    )


def test_no_cluster(shop: Stage) -> None:
    shop.api.port = 1
    assert "the cluster cannot be reached" in trouble(shop, "status")


def test_no_such_context(shop: Stage) -> None:
    assert "`kubectl config get-contexts` lists those that exist" in trouble(shop, "status", "--context", "nope")


def test_no_kubeconfig(shop: Stage) -> None:
    env = {**shop.env(), "KUBECONFIG": os.devnull}
    done = shop.run("status", env=env)
    assert (done.code, "the cluster cannot be reached" in done.err) == (2, True)


def test_a_kubectl_that_is_too_old(shop: Stage) -> None:
    old = shop.folder / "old-kubectl"
    old.write_text("#!/bin/sh\necho 'Error: unknown flag: --show-managed-fields' >&2\nexit 1\n")
    old.chmod(0o755)
    assert "this kubectl is too old" in trouble(shop, "history", KUBECTL=str(old))


def test_a_kubectl_that_never_ends_is_ended(shop: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = shop.folder / "slow-kubectl"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(slow))
    with pytest.raises(KubeError, match=r"did not end within 0\.2 s"):
        asyncio.run(Kubectl(Target()).run(["get", "pods"], limit_s=0.2))


def test_ctrl_c_while_kubectl_runs(shop: Stage) -> None:
    slow = shop.folder / "slow-kubectl"
    slow.write_text("#!/bin/sh\ntouch $0.runs\nexec sleep 60\n")
    slow.chmod(0o755)
    words = [BIN / "kubectl-model_sidecar", "status"]
    with subprocess.Popen(words, env=shop.env(KUBECTL=str(slow)), stderr=subprocess.PIPE, text=True) as process:
        wait((shop.folder / "slow-kubectl.runs").exists)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


# --- both front ends -------------------------------------------------------------------------------------------------


def test_sidecar_pins_runs_the_same_commands(shop: Stage) -> None:
    words = [BIN / "sidecar", "pins", "history", "-n", NAMESPACE]
    done = subprocess.run(words, env=shop.env(), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == shop.run("history").out


def test_flags_may_stand_before_the_verb(shop: Stage) -> None:
    assert shop.run("-n", NAMESPACE, "history").out == shop.run("history", "-n", NAMESPACE).out


def test_check_is_the_offline_one(shop: Stage) -> None:
    done = shop.run("check", shop.file(pins(8)))
    assert (done.code, "good, generation 8" in done.out) == (0, True)


@pytest.mark.parametrize("verb", ["diff", "check", "apply", "status", "rollback", "stop", "history"])
def test_each_verb_has_help(verb: str) -> None:
    words = [BIN / "kubectl-model_sidecar", verb, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith(f"usage: kubectl model-sidecar {verb} ")


def test_the_fake_server_refuses_what_a_real_one_does(tmp_path: Path) -> None:
    """A stale version, and a changed copy: else the tests above would prove nothing."""
    with stage(tmp_path) as at:
        api = at.api
        words = [at.kubectl, "replace", "-f", "-", "--validate=false"]
        stale = {**at.live(), "metadata": {**at.live()["metadata"], "resourceVersion": "1"}}
        done = subprocess.run(
            words, env=at.env(), input=json.dumps(stale), capture_output=True, text=True, timeout=60, check=False
        )
        assert "Error from server (Conflict)" in done.stderr
        api.put({**configmap("frozen", {"pins.yaml": "x"}), "immutable": True})
        changed = {**at.live("frozen"), "data": {"pins.yaml": "y"}}
        done = subprocess.run(
            words, env=at.env(), input=json.dumps(changed), capture_output=True, text=True, timeout=60, check=False
        )
        assert "field is immutable" in done.stderr
