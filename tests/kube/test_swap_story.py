"""The story of a swap, told to real sidecars by the real kubectl: apply, watch, stop, roll back, and what fails."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.swap_kit import RealPod, Stage, fleet, pins, sha, stage
from tests.process.kit import command, wait

FIVE_S = 5.0
"""What a rollback may take. Measured on two busy cores: 2.5 s."""


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("provider")
    with command(folder, "provider", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE) as provider:
        assert provider.popen.stdout is not None
        yield provider.popen.stdout.readline().decode().rpartition(" ")[2].strip() + "/v1"


@pytest.fixture
def shop(tmp_path: Path, base_url: str) -> Iterator[Stage]:
    """Two pods on generation 7."""
    with stage(tmp_path) as at, fleet(at, ("shop-1", "shop-2"), base_url):
        yield at


def status(at: Stage, *words: str) -> Any:
    return at.run("status", "--format", "json", *words).json()


def pod(said: Any, name: str) -> Any:
    return next(one for one in said["pods"] if one["pod"] == name)


def row(said: Any, name: str, variant: str) -> Any:
    return next(one for one in pod(said, name)["names"] if (one["name"], one["variant"]) == ("chat.core", variant))


def test_from_apply_to_rollback(tmp_path: Path, base_url: str) -> None:
    names = ("shop-1", "shop-2", "shop-3")
    with stage(tmp_path) as at, fleet(at, names, base_url) as pods:
        done = at.run("apply", at.file(pins(8, percent=50)), "--yes", "--why", "try b")
        assert done.code == 0, done.err
        assert f"3 of 3 pods serve by generation 8 ({sha(pins(8, percent=50))[:8]}), after" in done.out
        assert [one.label() for one in pods] == ["8", "8", "8"]

        assert set(pods[0].chat(20)) == {200}
        said = status(at)
        assert said["summary"].startswith("3 of 3 pods on generation 8")
        assert row(said, "shop-1", "stable")["requests"] + row(said, "shop-1", "canary")["requests"] == 20
        assert row(said, "shop-1", "canary")["requests"] > 0
        assert row(said, "shop-2", "canary") | {"requests": 0, "percent": 50.0} == row(said, "shop-2", "canary")

        done = at.run("stop", "chat.core", "--why", "it rambles")
        assert done.code == 0, done.err
        assert "chat.core canary: stopped in 3 of 3 pods, by alice" in done.out
        assert [one.label() for one in pods] == ["8+stop"] * 3
        assert row(status(at), "shop-1", "canary")["percent"] == 0
        assert "stopped since: chat.core canary, by alice" in at.run("history").out

        began = time.monotonic()
        done = at.run("rollback", "--why", "back to a")
        assert (done.code, time.monotonic() - began < 10 * FIVE_S) == (0, True)
        assert "chat.core: canary removed" in done.out
        assert [one.label() for one in pods] == ["7", "7", "7"]
        lines = at.run("history").out.splitlines()
        assert [line.split()[:3:2] for line in lines[1:]] == [["7", "live"], ["8", "previous"]]


# --- pods that don't follow ------------------------------------------------------------------------------------------


def test_a_pod_that_rejects_the_file_is_named_with_its_reason_and_not_waited_for(shop: Stage) -> None:
    """Its sidecar was started before the fleet's settings got the provider that the file needs."""
    settings = shop.live("model-sidecar-config")["data"]["sidecar.yaml"]
    more = settings.replace("providers:", "providers:\n  extra: {dialect: openai, base_url: http://127.0.0.1:1/v1}")
    more = more.replace("extra: {", "extra: {api_key_env: EXTRA, ")
    shop.api.put({**shop.live("model-sidecar-config"), "data": {"sidecar.yaml": more}})
    began = time.monotonic()
    done = shop.run("apply", shop.file(pins(8, provider="extra")), "--yes", "--wait", "60s")
    assert done.code == 4, done
    assert time.monotonic() - began < 50
    assert "0 of 2 pods serve by generation 8" in done.out
    assert "shop-1: rejected the file, serves by generation 7: " in done.out
    assert "provider 'extra' is not configured" in done.out
    assert "take it back: `kubectl model-sidecar rollback`" in done.out
    assert pod(status(shop), "shop-1")["note"] == "has rejected a file, is not on the live one"
    assert shop.run("rollback").code == 0


def test_a_pod_that_is_late(shop: Stage) -> None:
    shop.pods[1].kubelet = False
    done = shop.run("apply", shop.file(pins(8)), "--yes", "--wait", "2s", "--format", "json")
    assert done.code == 4
    said = done.json()
    assert (said["ok"], said["pods"]["took"]) == (False, ["shop-1"])
    assert said["pods"]["late"] == [{"pod": "shop-2", "why": "not yet, serves by generation 7"}]


def test_a_second_apply_finishes_a_first_that_was_not_waited_for(shop: Stage) -> None:
    shop.pods[1].kubelet = False
    assert shop.run("apply", shop.file(pins(8)), "--yes", "--wait", "0").code == 0
    shop.pods[1].kubelet = True
    done = shop.run("apply", shop.file(pins(8)), "--yes")
    assert (done.code, "nothing to do" in done.out, shop.pods[1].label()) == (0, True, "8")


def test_pods_are_told_again_within_the_same_second(shop: Stage) -> None:
    """Kubelet hears of a change only; the same annotation again would be none."""
    told = []
    for generation in (8, 9):
        assert shop.run("apply", shop.file(pins(generation)), "--yes", "--wait", "0").code == 0
        told.append(shop.api.pod_annotations["shop", "shop-1"]["model-sidecar.io/refreshed-at"])
    assert told[0] != told[1]
    assert all("." in one for one in told)


def test_a_pod_that_can_not_be_reached(shop: Stage) -> None:
    shop.add(RealPod("shop-9", shop.folder / "shop-9", answers_at=1))
    done = shop.run("apply", shop.file(pins(8)), "--yes", "--wait", "2s")
    assert done.code == 4
    assert "2 of 3 pods serve by generation 8" in done.out
    assert "shop-9: unreachable: error trying to reach service" in done.out
    said = status(shop)
    assert pod(said, "shop-9")["note"].startswith("unreachable")
    assert "not: shop-9 (unreachable)" in said["summary"]


def test_pods_that_start_end_or_have_no_sidecar_hold_nothing_up(shop: Stage) -> None:
    shop.add(RealPod("shop-3", shop.folder, phase="Pending"))
    shop.add(RealPod("shop-4", shop.folder, ending=True))
    shop.add(RealPod("shop-5", shop.folder, phase="Succeeded"))
    done = shop.run("apply", shop.file(pins(8)), "--yes", "--wait", "30s")
    assert done.code == 0, done.out
    assert "1 pod starting" in done.out
    shop.add(RealPod("shop-6", shop.folder, injected=False))
    done = shop.run("apply", shop.file(pins(9)), "--yes", "--wait", "30s")
    assert (done.code, "shop-6: not injected: it has no sidecar" in done.out) == (4, True)


def test_a_degraded_pod_is_told_from_one_that_serves_the_live_file(tmp_path: Path, base_url: str) -> None:
    with stage(tmp_path, "no pins: at all") as at:
        at.api.put({**at.live(), "metadata": {**at.live()["metadata"], "name": "model-sidecar-pins-previous"},
                    "data": {"pins.yaml": pins(6)}})  # fmt: skip
        with fleet(at, ("shop-1",), base_url):
            said = status(at)
            assert pod(said, "shop-1")["note"] == "degraded: the last good copy stands in"
            done = at.run("apply", at.file(pins(7)), "--yes")
            assert (done.code, "the live file can't be read" in done.out) == (0, True)
            assert at.run("status").code == 0


def test_pods_may_not_be_asked(shop: Stage) -> None:
    shop.api.denied["vera"] = {("get", "pods/proxy")}
    done = shop.run("status", user="vera")
    assert done.code == 2
    assert "vera may not get pods/proxy in namespace shop: ask for the chart's Role model-sidecar-viewer" in done.err
    done = shop.run("apply", shop.file(pins(8)), "--yes", user="vera")
    assert (done.code, "is live, but whether the pods have it can't be seen" in done.err) == (2, True)


def test_without_the_right_to_annotate_pods_the_file_comes_later(shop: Stage) -> None:
    shop.api.denied["alice"] = {("patch", "pods")}
    done = shop.run("apply", shop.file(pins(8)), "--yes", "--wait", "1s")
    assert done.code == 4
    assert "alice may not patch pods in namespace shop" in done.err
    assert "within about two minutes" in done.err


# --- stopping --------------------------------------------------------------------------------------------------------


def canary(at: Stage) -> None:
    assert at.run("apply", at.file(pins(8, percent=50)), "--yes").code == 0


def test_stop_names_the_pods_that_it_did_not_reach(shop: Stage) -> None:
    canary(shop)
    process = shop.pods[1].process
    assert process is not None
    process.popen.kill()
    process.popen.wait()
    done = shop.run("stop", "chat.core", "--variant", "canary", "--format", "json")
    said = done.json()
    assert (done.code, said["ok"], said["stopped"]) == (4, False, ["shop-1"])
    assert said["missed"][0]["pod"] == "shop-2"
    assert "no sidecar answers at 127.0.0.1:" in said["missed"][0]["why"]
    assert shop.pods[0].label() == "8+stop"


def test_stop_reaches_a_pod_that_came_meanwhile(shop: Stage) -> None:
    canary(shop)
    late = shop.pods.pop()
    del shop.api.pods["shop", late.name]
    first = shop.pods[0].command

    def and_another(words: list[str]) -> Any:
        if late not in shop.pods:
            shop.add(late)
        return first(words)

    shop.pods[0].command = and_another  # type: ignore[method-assign]
    assert shop.run("stop", "chat.core").code == 0
    assert late.label() == "8+stop"


def test_stop_where_a_pod_still_has_a_file_without_that_variant(shop: Stage) -> None:
    shop.pods[1].kubelet = False
    assert shop.run("apply", shop.file(pins(8, percent=50)), "--yes", "--wait", "0").code == 0
    done = shop.run("stop", "chat.core")
    assert (done.code, "shop-2: does not have generation 8" in done.out) == (4, True)  # and would take units with it
    shop.pods[1].kubelet = True
    assert shop.run("apply", shop.file(pins(8, percent=50)), "--yes").code == 0
    assert shop.run("stop", "chat.core").code == 0
    assert [one.label() for one in shop.pods] == ["8+stop"] * 2


def test_nothing_to_stop(shop: Stage) -> None:
    done = shop.run("stop", "chat.cor")
    assert (done.code, "has no pin 'chat.cor': did you mean `chat.core`" in done.err) == (1, True)
    done = shop.run("stop", "chat.core")
    assert (done.code, "chat.core has no variants" in done.err) == (1, True)


def test_who_may_not_stop(shop: Stage) -> None:
    canary(shop)
    shop.api.denied["vera"] = {("get", "pods/exec"), ("create", "pods/exec")}
    done = shop.run("stop", "chat.core", user="vera")
    assert done.code == 4
    assert "ask for the chart's Role model-sidecar-operator" in done.out
    assert [one.label() for one in shop.pods] == ["8", "8"]


def test_a_stopped_variant_that_a_new_file_brings_back_is_told(shop: Stage) -> None:
    canary(shop)
    assert shop.run("stop", "chat.core").code == 0
    assert "chat.core: canary was stopped and takes units again" in shop.run("diff", shop.file(pins(9, percent=20))).out
    assert "takes units again" not in shop.run("diff", shop.file(pins(9))).out


def test_what_was_stopped_is_noted_with_who_and_why(shop: Stage) -> None:
    canary(shop)
    assert shop.run("stop", "chat.core", "--why", "it rambles").code == 0
    assert shop.run("stop", "chat.core", "--why", "still", user="bob").code == 0
    noted = json.loads(shop.live()["metadata"]["annotations"]["model-sidecar.io/stopped"])
    assert len(noted) == 1
    told = {"pin": "chat.core", "variant": "canary", "by": "bob", "generation": 8, "why": "still"}
    assert noted[0] | told == noted[0]


# --- watching --------------------------------------------------------------------------------------------------------


def test_errors_are_counted_by_name_and_model(shop: Stage) -> None:
    canary(shop)
    assert set(shop.pods[0].chat(4, name="chat.other")) == {200}
    said = status(shop, "chat.other")
    assert {one["name"] for one in pod(said, "shop-1")["names"]} == {"chat.other"}
    other = pod(said, "shop-1")["names"][0]
    assert (other["requests"], other["errors"], other["error_ratio"], other["failed_ratio"]) == (4, 0, 0.0, 0.0)


def test_a_watch_counts_between_two_looks_and_ends_with_ctrl_c(shop: Stage) -> None:
    shop.pods[0].chat(5)
    with shop.popen("status", "--watch", "--interval", "1s", "--format", "json") as process:
        first, second = json.loads(process.stdout.readline()), json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (130, False)
    assert [row(said, "shop-1", "stable")["requests"] for said in (first, second)] == [5, 0]


def test_a_watch_appends_where_there_is_no_terminal(shop: Stage) -> None:
    with shop.popen("status", "--watch", "--interval", "200ms") as process:
        lines = [process.stdout.readline() for _ in range(15)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert not any("\x1b" in line for line in lines)
    assert any("counts since the last look" in line for line in lines)


def test_a_watch_redraws_a_terminal(shop: Stage) -> None:
    ours, theirs = pty.openpty()
    words = [shop.kubectl, "model-sidecar", "status", "--watch", "--interval", "200ms"]
    with subprocess.Popen(words, env=shop.env(), stdout=theirs, stdin=subprocess.DEVNULL) as process:
        said = b""
        while said.count(b"\x1b[2J") < 2:
            said += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    os.close(ours)
    os.close(theirs)
    assert b"shop-2" in said


def test_ctrl_c_while_waiting_says_what_is_live(shop: Stage) -> None:
    shop.pods[1].kubelet = False
    with shop.popen("apply", shop.file(pins(8)), "--yes") as process:
        wait(lambda: any("1 of 2" in line for line in process.stdout))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "not waited for any longer: generation 8" in err
    assert "Traceback" not in err
    assert shop.content() == pins(8)
