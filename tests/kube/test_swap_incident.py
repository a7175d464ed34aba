"""The commands in an incident: typed twice, mistyped, broken off, interrupted, and with pods that hang."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.kube.arguments import KubeError, Target
from sidecar.kube.fleet import Fleet, Pod, Standing
from sidecar.kube.kubectl import Kubectl
from sidecar.kube.store import Store
from tests.kube.swap_kit import RealPod, Stage, applied, fleet, pins, refused, sha, stage
from tests.process.kit import call, wait

PREVIOUS = "model-sidecar-pins-previous"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Stage]:
    """Generation 7 is live; there are no pods."""
    with stage(tmp_path) as at:
        yield at


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Stage]:
    """One pod on generation 8, which has a canary; generation 7 was live before."""
    with stage(tmp_path) as at, fleet(at, ("shop-1",), "http://127.0.0.1:9/v1"):
        applied(at, pins(8, percent=50))
        yield at


# --- rolled back twice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [(), ("--raise",)])
def test_a_second_rollback_does_not_bring_the_bad_file_back(empty: Stage, how: tuple[str, ...]) -> None:
    applied(empty, pins(8))
    assert empty.run("rollback", *how).code == 0
    once = empty.content()
    done = empty.run("rollback", *how)
    assert (done.code, empty.content()) == (0, once)
    assert f"generation 8-{sha(pins(8))[:8]} was taken back already, by alice at " in done.out
    assert "rollback --to" in done.out


def test_a_second_rollback_waits_for_the_pods(shop: Stage) -> None:
    shop.pods[0].kubelet = False
    done = shop.run("rollback", "--wait", "1s")
    assert done.code == 4
    assert "watch: `kubectl model-sidecar status --watch`" in done.out
    assert "take it back" not in done.out  # which would have been the bad file
    shop.pods[0].kubelet = True
    done = shop.run("rollback")
    assert (done.code, shop.pods[0].label()) == (0, "7")


def test_what_was_taken_back_can_be_brought_again(empty: Stage) -> None:
    applied(empty, pins(8))
    assert empty.run("rollback").code == 0
    assert empty.run("rollback", "--to", "8").code == 0
    assert empty.content() == pins(8)


def test_a_swap_after_a_rollback_can_be_rolled_back(empty: Stage) -> None:
    applied(empty, pins(8))
    assert empty.run("rollback").code == 0
    applied(empty, pins(9))
    assert empty.run("rollback").code == 0
    assert empty.content() == pins(7)


def test_a_file_that_another_brought_since_can_be_rolled_back(empty: Stage) -> None:
    """Helm leaves annotations that it does not know."""
    applied(empty, pins(8))
    assert empty.run("rollback").code == 0
    empty.api.put({**empty.live(), "data": {"pins.yaml": pins(9)}})
    empty.api.put({**empty.live(PREVIOUS), "data": {"pins.yaml": pins(7)}})
    assert empty.run("rollback").code == 0
    assert empty.content() == pins(7)


def test_a_rollback_that_breaks_off_ends_with_the_next_one(empty: Stage) -> None:
    """The old file goes live before the previous one is written, so what is previous is never what to get away from."""
    applied(empty, pins(8))

    def broken(line: str) -> None:
        if line == f"PUT configmaps/{PREVIOUS}":
            empty.api.denied["alice"] = {("update", "configmaps")}
            empty.api.put(empty.live(PREVIOUS))

    empty.api.before_write = broken
    done = empty.run("rollback")
    assert (done.code, empty.content()) == (0, pins(7))
    assert "generation 7 (" in done.err
    assert "is live, but not all is kept" in done.err
    empty.api.before_write = None
    empty.api.denied.clear()
    assert (empty.run("rollback").code, empty.content()) == (0, pins(7))
    assert (empty.run("rollback", "--to", "8").code, empty.content()) == (0, pins(8))


# --- broken off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        ("PUT configmaps/model-sidecar-pins?dryRun=All", "nothing was swapped"),
        ("POST configmaps/", "nothing was swapped"),
        ("PUT configmaps/model-sidecar-pins", "the same command again finds out and ends it"),
    ],
)
def test_ctrl_c_at_each_write_says_what_is_sure(empty: Stage, at: str, sentence: str) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold(line: str) -> None:
        if line == at:
            reached.set()
            over.wait(30)

    empty.api.before_write = hold
    with empty.popen("apply", empty.file(pins(8)), "--yes", "--format", "json") as process:
        try:
            assert reached.wait(30)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to kubectl, too
            out, err = process.communicate(timeout=30)
        finally:
            over.set()
    assert (process.returncode, sentence in err) == (130, True), err
    assert '"error": "interrupted"' in out


def test_a_connection_that_breaks_leaves_a_doubt_only_where_there_is_one(empty: Stage) -> None:
    cut = empty.folder / "cut-kubectl"
    words = '*"$BREAK"*) echo \'error when replacing "STDIN": Put "https://k/x?y=z": EOF\' >&2; exit 1'
    cut.write_text(f'#!/bin/sh\ncase "$*" in {words};; esac\nexec {empty.kubectl} "$@"\n')
    cut.chmod(0o755)
    apply = ("apply", empty.file(pins(8)), "--yes")
    done = empty.run(*apply, env=empty.env(KUBECTL=str(cut), BREAK="--dry-run"))
    assert "error: the cluster cannot be reached: EOF: check --context and network; nothing was swapped" in done.err
    done = empty.run(*apply, env=empty.env(KUBECTL=str(cut), BREAK="replace -f - -o json"))
    assert (done.code, "is not known: the same command again finds out" in done.err) == (2, True)
    assert empty.run(*apply).code == 0


# --- mistyped --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("chat.core", "--variant", "canari"), "has no variant 'canari', in the live file or in any pod: did you mean"),
        (("chat.cor", "--variant", "canary"), "has no pin 'chat.cor': did you mean `chat.core`"),
        (("chat.core", "--variant=--admin=x"), "has no variant '--admin=x'"),
        (("$(reboot)",), "has no pin '$(reboot)'"),
    ],
)
def test_a_stop_that_stops_nothing_is_refused(shop: Stage, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused(shop, "stop", *words)
    assert shop.pods[0].label() == "8"


def test_a_variant_of_an_earlier_file_can_be_stopped_where_it_still_is(shop: Stage) -> None:
    shop.pods[0].kubelet = False
    applied(shop, pins(9), "--wait", "0")
    done = shop.run("stop", "chat.core", "--variant", "canary")
    assert (done.code, shop.pods[0].label()) == (0, "8+stop")


def test_status_of_a_name_that_nobody_has(shop: Stage) -> None:
    assert "no pod pins 'chat.cor'" in shop.run("status", "chat.cor").err
    assert shop.run("status", "chat.core").err == ""


def test_what_was_stopped_stays_so_under_the_same_file(shop: Stage) -> None:
    assert shop.run("stop", "chat.core").code == 0
    done = shop.run("apply", shop.file(pins(8, percent=50)), "--yes")
    assert (done.code, "chat.core: canary was stopped and stays so" in done.out) == (0, True)


# --- odd fleets ------------------------------------------------------------------------------------------------------


def test_a_pod_that_ends_makes_no_status_bad(shop: Stage) -> None:
    shop.add(RealPod("shop-2", shop.folder, ending=True))
    done = shop.run("status")
    assert (done.code, "1 of 1 pods on generation 8" in done.out) == (0, True)


def test_pods_that_hang_hold_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "kubectl"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(slow))
    pods = [Pod(f"p-{at}", "shop", 4012, "running", ready=True) for at in range(40)]

    async def look() -> list[str | None]:
        async with asyncio.timeout(8):
            return [one.trouble for one in await Fleet(Kubectl(Target())).look(pods, 1)]

    assert asyncio.run(look()) == ["unreachable: no answer within 1 s"] * 40


def test_a_silent_pod_is_asked_last_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    silent = tmp_path / "kubectl"
    silent.write_text(f'#!/bin/sh\necho "$*" >>{asked}\ncase "$*" in *p-1:*) exec sleep 60;; esac\n')
    silent.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(silent))
    monkeypatch.setattr("sidecar.kube.fleet.SCRAPE_LIMIT_S", 0.5)
    monkeypatch.setattr("sidecar.kube.kubectl.AT_ONCE", 1)
    pods = [Pod(f"p-{at}", "shop", 4012, "running", ready=True) for at in (1, 2, 3)]

    async def twice() -> list[Standing]:
        shop = Fleet(Kubectl(Target()))
        await shop.look(pods)
        return await shop.look(pods)

    found = asyncio.run(twice())
    assert [one.pod.name for one in found] == ["p-1", "p-2", "p-3"]
    assert "may the API server reach its port 4012? (NetworkPolicy)" in (found[0].trouble or "")
    assert [line.split("p-")[1][0] for line in asked.read_text().splitlines()] == ["1", "2", "3", "2", "3", "1"]


def test_a_pod_that_was_not_asked_before_is_not_said_to_have_refused(shop: Stage) -> None:
    """It may have refused another file, long ago."""
    shop.pods[0].kubelet = False
    process = shop.pods[0].process
    assert process is not None
    shop.pods[0]._mounts["pins"].swap("no pins: at all")
    wait(lambda: call(f"{process.admin}/pins").json()["last_error"])
    shop.api.denied["alice"] = {("get", "pods/proxy")}

    def allow(line: str) -> None:
        if line == "PUT configmaps/model-sidecar-pins":
            shop.api.denied.clear()

    shop.api.before_write = allow
    done = shop.run("apply", shop.file(pins(9)), "--yes", "--wait", "1s")
    assert "shop-1: not yet, serves by generation 8: " in done.out  # and its own words for what it has
    assert "rejected the file" not in done.out


# --- words -----------------------------------------------------------------------------------------------------------


def test_another_s_words_do_not_steer_the_terminal(empty: Stage) -> None:
    applied(empty, pins(8), "--why", "one\ntwo \x1b[2J 'quoted' ünï \u202egnp")
    assert "one two [2J 'quoted' ünï gnp" in empty.run("history").out


def test_commands_to_type_next_name_the_same_pods() -> None:
    target = Target(namespace="my shop", selector="app in (a, b)")
    assert target.again == " -n 'my shop' -l 'app in (a, b)'"


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: str) -> str:
        raise KubeError("no")

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    kubectl = Kubectl(Target())
    monkeypatch.setattr(kubectl, "ask", ask)
    monkeypatch.setattr(getpass, "getuser", nobody)
    assert asyncio.run(Store(kubectl).stamp(None)).by == f"uid {os.getuid()}"
