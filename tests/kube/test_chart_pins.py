"""Which pin file is live after an upgrade: `model-sidecar.pins.decide`, which takes what a lookup would find."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.kube import names
from tests.kube import kit
from tests.kube.kit import Manifest, RenderError

DECIDE = """
decision: {{ include "model-sidecar.pins.decide" .Values.ask | toJson }}
"""
DOMAIN = "model-sidecar.io/"
Decide = Callable[..., Manifest]


def pins(generation: int, unlisted: str = "pass") -> str:
    return f"version: 1\ngeneration: {generation}\nunlisted: {unlisted}\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def live(text: str, key: str = "pins.yaml", **annotations: str) -> Manifest:
    """A ConfigMap as a lookup finds it."""
    named = {DOMAIN + name.replace("_", "-"): value for name, value in annotations.items()}
    return {"kind": "ConfigMap", "metadata": {"annotations": named | {"other": "x"}}, "data": {key: text}}


@pytest.fixture(scope="module")
def decide(tmp_path_factory: pytest.TempPathFactory) -> Decide:
    chart = kit.app_chart(tmp_path_factory.mktemp("app") / "web", {"decide.yaml": DECIDE})

    def run(content: str, **ask: Any) -> Manifest:
        defaults = {
            "format": "yaml",
            "before": "",
            "live": {},
            "previous": {},
            "by": "helm/web",
            "why": "test",
            "now": "NOW",
        }
        (rendered,) = kit.render({"ask": {**defaults, "content": content, **ask}}, chart=chart)
        decision: Manifest = json.loads(rendered["decision"])
        return decision

    return run


def data(part: Manifest) -> str:
    return "".join(part["data"].values())


def test_a_first_install_is_live_and_its_own_previous_one(decide: Decide) -> None:
    decision = decide(pins(1))
    assert (data(decision["live"]), data(decision["previous"])) == (pins(1), pins(1))
    assert decision["live"]["annotations"] == {
        DOMAIN + "changed-by": "helm/web",
        DOMAIN + "why": "test",
        DOMAIN + "generation": "1",
        DOMAIN + "sha256": sha256(pins(1)),
        DOMAIN + "values-sha256": sha256(pins(1)),
    }
    assert decision["history"]["suffix"] == f"1-{sha256(pins(1))[:8]}"


def test_a_higher_generation_replaces_and_keeps_what_was_live(decide: Decide) -> None:
    decision = decide(pins(8), live=live(pins(7), changed_by="jo"), previous=live(pins(6)))
    assert (data(decision["live"]), data(decision["previous"])) == (pins(8), pins(7))
    assert decision["previous"]["annotations"][DOMAIN + "changed-by"] == "jo"
    assert decision["live"]["annotations"][DOMAIN + "changed-at"] == "NOW"
    assert decision["replaced"] and not decision["ignored"]


@pytest.mark.parametrize("generation", [6, 7])
def test_a_generation_that_is_not_higher_changes_nothing(decide: Decide, generation: int) -> None:
    decision = decide(pins(generation, "reject"), live=live(pins(7), changed_by="jo"), previous=live(pins(5)))
    assert (data(decision["live"]), data(decision["previous"])) == (pins(7), pins(5))
    assert decision["live"]["annotations"][DOMAIN + "changed-by"] == "jo"
    assert decision["ignored"] and not decision["replaced"]


def test_the_same_file_once_more_is_nothing_to_tell(decide: Decide) -> None:
    decision = decide(pins(7), live=live(pins(7)))
    assert not decision["ignored"] and not decision["replaced"]


def test_an_unrelated_upgrade_does_not_undo_a_rollback(decide: Decide) -> None:
    rolled_back = live(pins(7), values_sha256=sha256(pins(8)))
    decision = decide(pins(8), live=rolled_back, previous=live(pins(8)))
    assert data(decision["live"]) == pins(7)
    assert decision["ignored"]
    assert data(decide(pins(9), live=rolled_back)["live"]) == pins(9)


def test_what_annotations_say_of_another_file_is_not_taken_over(decide: Decide) -> None:
    edited = live(pins(5), generation="1", sha256=sha256(pins(1)), changed_by="jo", values_sha256=sha256(pins(1)))
    decision = decide(pins(1), live=edited)
    assert (data(decision["live"]), decision["generation"]) == (pins(5), "5")
    said = decision["live"]["annotations"]
    assert (said[DOMAIN + "sha256"], said[DOMAIN + "why"]) == (sha256(pins(5)), "edited by hand")
    assert DOMAIN + "changed-by" not in said
    assert said[DOMAIN + "values-sha256"] == sha256(pins(1))


def test_a_live_file_that_nobody_can_read_is_replaced_and_not_kept_as_the_previous_one(decide: Decide) -> None:
    decision = decide(pins(1), live=live("generation: ["), previous=live(pins(5)))
    assert (data(decision["live"]), data(decision["previous"])) == (pins(1), pins(5))


@pytest.mark.parametrize("generation", [1, 9])
def test_only_annotations_of_a_swap_are_rendered(decide: Decide, generation: int) -> None:
    decision = decide(pins(generation), live=live(pins(7), stopped="[]"))
    for part in (decision["live"], decision["previous"]):
        assert not {"other", names.STOPPED} & part["annotations"].keys()


def test_a_live_file_keeps_its_format(decide: Decide) -> None:
    text = '{"version": 1, "generation": 9, "unlisted": "pass"}'
    decision = decide(pins(1), live=live(text, "pins.json"))
    assert decision["live"]["data"] == {"pins.json": text}


def test_a_renderer_without_a_cluster_can_be_told_what_was_before(decide: Decide) -> None:
    decision = decide(pins(8), before=pins(7))
    assert (data(decision["live"]), data(decision["previous"])) == (pins(8), pins(7))


def test_generations_are_compared_as_numbers(decide: Decide) -> None:
    assert decide(pins(10), live=live(pins(9)))["replaced"]
    assert decide(pins(20260112001), live=live(pins(20260112000)))["history"]["suffix"].startswith("20260112001-")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: [", "pins.content is not YAML"),
        ("- 1", "pins.content is not YAML"),
        ("version: 1", "pins.content has no generation: add"),
        ("generation: '7'", "pins.content has a generation that is no whole number: 7"),
        ("generation: 1.5", "pins.content has a generation that is no whole number"),
        ("generation: -1", "pins.content has a generation that is no whole number"),
    ],
)
def test_a_file_without_a_generation_is_refused(decide: Decide, content: str, sentence: str) -> None:
    with pytest.raises(RenderError, match=sentence) as error:
        decide(content)
    assert "sidecar pins check" in str(error.value)


def test_json_must_be_json(decide: Decide) -> None:
    with pytest.raises(RenderError, match="not JSON"):
        decide(pins(1), format="json")


def test_the_file_stays_as_it_is_to_the_byte() -> None:
    text = "# a comment, ünïcode, trailing spaces  \nversion: 1\n\ngeneration: 3   # now\nunlisted: pass\n\n\n"
    manifests = kit.render({"pins": {"content": text}})
    config_map = kit.one(manifests, "ConfigMap", "model-sidecar-pins")
    assert config_map["data"] == {"pins.yaml": text}
    assert config_map["metadata"]["annotations"][DOMAIN + "sha256"] == sha256(text)


def test_the_history_is_immutable_and_survives_the_release() -> None:
    manifests = kit.render({"pins": {"content": pins(3)}})
    copy = kit.one(manifests, "ConfigMap", f"model-sidecar-pins-3-{sha256(pins(3))[:8]}")
    assert copy["immutable"] is True
    assert copy["data"] == {"pins.yaml": pins(3)}
    assert copy["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "immutable" not in kit.one(manifests, "ConfigMap", "model-sidecar-pins")


def test_the_three_kinds_have_their_labels() -> None:
    labels = [m["metadata"]["labels"].get(DOMAIN + "pins") for m in kit.render() if m["kind"] == "ConfigMap"]
    assert sorted(filter(None, labels)) == ["history", "live", "previous"]


def test_the_commands_find_what_the_chart_makes() -> None:
    manifests = kit.render()
    found = kit.one(manifests, "ConfigMap", f"{names.NAME}-pins")["metadata"]
    assert found["labels"][names.PINS] == "live"
    assert {names.GENERATION, names.SHA256, names.CHANGED_BY, names.WHY} <= found["annotations"].keys()
    template = kit.one(kit.render(chart=kit.EXAMPLE), "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"][names.INJECTED] == "true"
    assert {names.INJECTED_BY, names.VERSION} <= template["metadata"]["annotations"].keys()
    container = kit.sidecar_of(template["spec"])
    assert (container["name"], container["ports"][0]["containerPort"]) == (names.CONTAINER, names.PROBE_PORT)


def test_something_else_may_own_the_pins() -> None:
    made = kit.named(kit.render({"pins": {"create": False}}))
    assert not any("pins" in name for name in made)


def test_each_namespace_gets_all_of_them() -> None:
    manifests = [m for m in kit.render({"namespaces": ["a", "b"]}) if m["metadata"]["namespace"] in ("a", "b")]
    per_namespace = {ns: kit.named(m for m in manifests if m["metadata"]["namespace"] == ns) for ns in ("a", "b")}
    assert per_namespace["a"] == per_namespace["b"] >= {"ConfigMap/model-sidecar-pins", "ConfigMap/model-sidecar-env"}
