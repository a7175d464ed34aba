"""`apply`, `rollback`, `diff` and `history` at the API server: what is written, in which order, and what never is."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube.swap_kit import BIN, Stage, applied, configmap, pins, refused, sha, stage

NOTE = "model-sidecar.io"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Stage]:
    """Generation 7 is live; there are no pods."""
    with stage(tmp_path) as at:
        yield at


# --- what is written -------------------------------------------------------------------------------------------------


def test_a_swap_writes_who_when_why_and_what(shop: Stage) -> None:
    applied(shop, pins(8), "--why", "smaller")
    live = shop.live()
    assert shop.content() == pins(8)
    assert live["metadata"]["labels"] == {f"{NOTE}/pins": "live"}
    notes = live["metadata"]["annotations"]
    assert notes.pop(f"{NOTE}/changed-at").endswith("Z")
    assert notes == {
        f"{NOTE}/changed-by": "alice",
        f"{NOTE}/why": "smaller",
        f"{NOTE}/generation": "8",
        f"{NOTE}/sha256": sha(pins(8)),
    }


def test_what_was_live_is_kept_as_previous_and_both_as_immutable_copies(shop: Stage) -> None:
    applied(shop, pins(8))
    assert shop.content("model-sidecar-pins-previous") == pins(7)
    assert shop.live("model-sidecar-pins-previous")["metadata"]["labels"] == {f"{NOTE}/pins": "previous"}
    for text in (pins(7), pins(8)):
        copy = shop.live(f"model-sidecar-pins-{text[12]}-{sha(text)[:8]}")
        assert copy["data"] == {"pins.yaml": text}
        assert copy["immutable"] is True
        assert copy["metadata"]["labels"] == {f"{NOTE}/pins": "history"}


def test_previous_and_history_are_right_after_each_step(shop: Stage) -> None:
    for generation in (8, 9):
        applied(shop, pins(generation))
        assert shop.content("model-sidecar-pins-previous") == pins(generation - 1)
    assert shop.run("rollback").code == 0
    assert (shop.content(), shop.content("model-sidecar-pins-previous")) == (pins(8), pins(9))
    assert shop.run("rollback", "--to", "7").code == 0
    assert (shop.content(), shop.content("model-sidecar-pins-previous")) == (pins(7), pins(8))
    kept = shop.run("history", "--format", "json").json()["generations"]
    assert [(one["generation"], one["state"]) for one in kept] == [(7, "live"), (8, "previous"), (9, "")]


def test_the_order_leaves_a_way_back_whatever_breaks(shop: Stage) -> None:
    applied(shop, pins(8))
    writes = [line for line in shop.api.requests if not line.startswith("GET")]
    assert writes == [
        "PUT configmaps/model-sidecar-pins?dryRun=All",
        "POST configmaps/",
        "POST configmaps/",
        "PUT configmaps/model-sidecar-pins",
        "POST configmaps/",
    ]


def test_what_else_the_live_object_holds_stays(tmp_path: Path) -> None:
    mine = {"labels": {"team": "chat"}, "annotations": {"note": "x", f"{NOTE}/stopped": "[]", f"{NOTE}/why": "old"}}
    with stage(tmp_path, **mine) as at:
        at.api.put({**at.live(), "data": {**at.live()["data"], "pins.yaml.sig": "s"}})
        applied(at, pins(8))
        live = at.live()
    assert live["data"]["pins.yaml.sig"] == "s"
    assert live["metadata"]["labels"]["team"] == "chat"
    assert live["metadata"]["annotations"]["note"] == "x"
    assert not {f"{NOTE}/stopped", f"{NOTE}/why"} & set(live["metadata"]["annotations"])


def test_bytes_arrive_as_they_are(shop: Stage) -> None:
    text = "# ä € \t\r\n" + pins(8).replace("\n", "\r\n") + "\n\n"
    path = shop.folder / "odd.yaml"
    path.write_bytes(text.encode())
    assert shop.run("apply", path, "--yes").code == 0
    assert shop.live()["metadata"]["annotations"][f"{NOTE}/sha256"] == sha(shop.content()) == sha(text)


def test_the_same_file_again_changes_nothing(shop: Stage) -> None:
    done = shop.run("apply", shop.file(pins(7)), "--yes")
    assert (done.code, "nothing to do" in done.out) == (0, True)
    assert not [line for line in shop.api.requests if line.startswith(("PUT", "POST"))]


def test_another_name_has_other_configmaps(shop: Stage) -> None:
    shop.api.put(configmap("eu-pins", {"pins.yaml": pins(1)}))
    done = shop.run("apply", shop.file(pins(2)), "--yes", "--name", "eu")
    assert done.code == 0, done.err
    assert "eu has no sidecar.yaml" in done.err.replace("eu-config", "eu")
    assert (shop.content("eu-pins"), shop.content("eu-pins-previous"), shop.content()) == (pins(2), pins(1), pins(7))


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_bad_file_touches_nothing(shop: Stage) -> None:
    said = refused(shop, "apply", shop.file(pins(8).replace("stable: gpt-a", "stable: gpt-z")), "--yes")
    assert "new.yaml:8: pins.chat.core.stable: there is no model" in said
    assert shop.api.requests == []  # not even asked


def test_a_file_that_is_not_there(shop: Stage) -> None:
    assert "cannot be read: No such file" in refused(shop, "apply", shop.folder / "none.yaml", "--yes", code=2)


def test_a_provider_that_the_fleet_does_not_have(shop: Stage) -> None:
    text = pins(8, model="claude-a-20260101", provider="anthropic")
    assert "provider 'anthropic' is not configured" in refused(shop, "apply", shop.file(text), "--yes")


def test_other_content_under_the_same_generation(shop: Stage) -> None:
    said = refused(shop, "apply", shop.file(pins(7, percent=5)), "--yes")
    assert "generation 7 is live with other content: raise `generation` to 8 in the file" in said


def test_json_where_the_sidecars_read_yaml(shop: Stage) -> None:
    text = '{"generation": 8, "unlisted": "reject", "models": {"a-002": {"provider": "openai"}}}'
    assert "is JSON, but the sidecars mount pins.yaml" in refused(shop, "apply", shop.file(text, "new.json"), "--yes")


def test_nobody_to_ask(shop: Stage) -> None:
    assert "give --yes" in refused(shop, "apply", shop.file(pins(8)))
    assert "give --yes" in refused(shop, "apply", shop.file(pins(8)), "--format", "json")


def test_too_large_a_file(shop: Stage) -> None:
    large = shop.file(pins(8) + "# " + "x" * 1024 * 1024)
    assert "is too large: more than 1024 KiB" in refused(shop, "apply", large, "--yes", code=2)


def test_too_long_a_reason(shop: Stage) -> None:
    assert "--why is longer than" in refused(shop, "apply", shop.file(pins(8)), "--yes", "--why", "x" * 2000)


def test_an_immutable_live_file(shop: Stage) -> None:
    shop.api.put({**shop.live(), "immutable": True})
    assert "ConfigMap model-sidecar-pins is immutable" in refused(shop, "apply", shop.file(pins(8)), "--yes", code=2)


def test_no_configmap(shop: Stage) -> None:
    said = refused(shop, "apply", shop.file(pins(8)), "--yes", "-n", "elsewhere", code=2)
    assert "there is no ConfigMap model-sidecar-pins in namespace elsewhere: name the namespace (-n)" in said


def test_a_configmap_that_holds_no_pin_file(shop: Stage) -> None:
    shop.api.put(configmap("model-sidecar-pins", {"other": "x"}))
    assert "ConfigMap model-sidecar-pins holds other: it must hold `pins.yaml`" in refused(shop, "history")


def test_monotonic_sidecars_take_no_older_generation(tmp_path: Path) -> None:
    with stage(tmp_path, monotonic=True) as at:
        assert "raise `generation` to 8 in the file" in refused(at, "apply", at.file(pins(6)), "--yes")
        applied(at, pins(8, percent=5))
        assert "`kubectl model-sidecar rollback --raise`" in refused(at, "rollback")
        assert at.run("rollback", "--raise").code == 0
        assert at.content() == pins(9)


def test_an_older_generation_is_told_as_what_it_is(shop: Stage) -> None:
    done = shop.run("apply", shop.file(pins(6)), "--yes")
    assert (done.code, "generation 7 → 6 (back to an older one)" in done.out) == (0, True)


# --- two people ------------------------------------------------------------------------------------------------------


def test_a_change_in_between_is_not_overwritten(shop: Stage) -> None:
    def meanwhile(line: str) -> None:
        if line.startswith("POST"):  # kubectl looks at what it replaces: the change must come before it does
            shop.api.put({**shop.live(), "data": {"pins.yaml": pins(20)}})

    shop.api.before_write = meanwhile
    done = shop.run("apply", shop.file(pins(8)), "--yes")
    assert done.code == 2
    assert "somebody changed model-sidecar-pins meanwhile, so nothing was swapped" in done.err
    assert shop.content() == pins(20)


def test_of_two_at_once_one_wins_and_its_previous_is_right(shop: Stage) -> None:
    both = threading.Barrier(2, timeout=30)

    def together(line: str) -> None:
        if line.endswith("dryRun=All"):
            both.wait()

    shop.api.before_write = together
    one = shop.popen("apply", shop.file(pins(8), "a.yaml"), "--yes")
    two = shop.popen("apply", shop.file(pins(9), "b.yaml"), "--yes", user="bob")
    with one, two:
        said = [process.communicate(timeout=60)[1] for process in (one, two)]
    assert sorted((one.returncode, two.returncode)) == [0, 2], said
    winner, loser = ((pins(8), said[1]), (pins(9), said[0]))[two.returncode == 0]
    assert "meanwhile" in loser
    assert (shop.content(), shop.content("model-sidecar-pins-previous")) == (winner, pins(7))


def test_two_swaps_in_between_leave_their_own_previous_file(shop: Stage) -> None:
    applied(shop, pins(8))

    def twice(line: str) -> None:
        if line.startswith("POST"):
            for name, text in (("model-sidecar-pins-previous", pins(9)), ("model-sidecar-pins", pins(10))):
                shop.api.put({**shop.live(name), "data": {"pins.yaml": text}})

    shop.api.before_write = twice
    assert "meanwhile" in shop.run("apply", shop.file(pins(11)), "--yes").err
    assert (shop.content(), shop.content("model-sidecar-pins-previous")) == (pins(10), pins(9))


def test_a_swap_that_broke_off_before_the_live_file_loses_nothing(shop: Stage) -> None:
    def gone(line: str) -> None:
        if line == "PUT configmaps/model-sidecar-pins":
            shop.api.denied["alice"] = {("update", "configmaps")}

    applied(shop, pins(8))
    shop.api.before_write = gone
    shop.run("apply", shop.file(pins(9)), "--yes")
    shop.api.denied["alice"] = {("patch", "pods")}
    shop.api.before_write = None
    applied(shop, pins(10))
    assert shop.content("model-sidecar-pins-previous") in (pins(8), pins(9))


# --- rolling back ----------------------------------------------------------------------------------------------------


def test_nothing_to_go_back_to(shop: Stage) -> None:
    assert "there is no ConfigMap model-sidecar-pins-previous" in refused(shop, "rollback")
    assert "no generation 3 is kept: `kubectl model-sidecar history` lists" in refused(shop, "rollback", "--to", "3")


def test_a_generation_that_was_there_twice_must_be_named_exactly(shop: Stage) -> None:
    for text in (pins(8), pins(9), pins(8, percent=5), pins(10)):
        applied(shop, text)
    said = refused(shop, "rollback", "--to", "8")
    assert f"8-{sha(pins(8))[:8]}" in said
    assert shop.run("rollback", "--to", f"8-{sha(pins(8))[:8]}").code == 0
    assert shop.content() == pins(8)


def test_a_rollback_brings_the_old_bytes_back(tmp_path: Path) -> None:
    old = "# a comment\n" + pins(7) + "\n\n"
    with stage(tmp_path, old) as at:
        applied(at, pins(8))
        done = at.run("rollback", "--why", "worse")
        assert (done.code, at.content()) == (0, old)
        notes = at.live()["metadata"]["annotations"]
    assert (notes[f"{NOTE}/why"], notes[f"{NOTE}/changed-by"]) == ("worse", "alice")


def test_a_rollback_of_a_chart_warns_of_the_next_upgrade(tmp_path: Path) -> None:
    with stage(tmp_path, labels={"app.kubernetes.io/managed-by": "Helm"}) as at:
        applied(at, pins(8))
        assert "a `helm upgrade` whose values hold generation 8 would bring it back" in at.run("rollback").err


def test_odd_objects_beside_the_live_file_hide_nothing(shop: Stage) -> None:
    for name, label in (("model-sidecar-pins-previous", "previous"), ("model-sidecar-pins-6-01234567", "history")):
        shop.api.put(configmap(name, {}, labels={f"{NOTE}/pins": label}))
    done = shop.run("history")
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    assert "holds nothing: it must hold `pins.yaml`" in refused(shop, "rollback")


# --- comparing -------------------------------------------------------------------------------------------------------


def test_diff_with_what_is_live(shop: Stage) -> None:
    done = shop.run("diff", shop.file(pins(8, percent=5)))
    assert done.code == 1
    assert done.out.splitlines()[:2] == ["generation 7 → 8", "chat.core: canary added, gpt-b-2026-01-01 5%"]
    assert "risk: chat.core: canary: input price higher by 50 %" in done.out
    assert shop.run("diff", shop.file(pins(7))).code == 0


def test_diff_says_what_apply_would_refuse(shop: Stage) -> None:
    said = shop.run("diff", shop.file(pins(7, percent=5)), "--format", "json").json()
    assert said["refused"].startswith("generation 7 is live with other content")


def test_diff_of_two_files_needs_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pins(1))
    (tmp_path / "b.yaml").write_text(pins(2))
    env = {**os.environ, "KUBECTL": "/nowhere/kubectl"}
    for command in ([BIN / "sidecar", "pins", "diff"], [BIN / "kubectl-model_sidecar", "diff"]):
        words = [*command, tmp_path / "a.yaml", tmp_path / "b.yaml"]
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (1, "generation 1 → 2\n")
