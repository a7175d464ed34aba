"""Who gets the sidecar, what is added where, and who is told why not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sidecar.kube.injection.decide import decide
from sidecar.kube.injection.podview import ShapeError
from tests.kube.webhook_kit import (
    CLASSIC,
    CONTAINER,
    NATIVE,
    Json,
    applied,
    pod_of,
    template_data,
    template_of,
    validate,
)

SOURCE = {"configMapRef": {"name": "model-sidecar-env"}}


def pod(*containers: Json, metadata: Json | None = None, **spec: Any) -> Json:
    """A pod with these containers; one plain one by default."""
    named = [{"name": f"app-{i}", "image": "app:1", **c} for i, c in enumerate(containers or ({},))]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata or {}, "spec": {"containers": named, **spec}}


def labelled(value: str | None, **more: Any) -> Json:
    metadata = {} if value is None else {"labels": {"model-sidecar.io/inject": value}}
    return pod(metadata=metadata, **more)


def injected(raw: Json, template: Any = NATIVE) -> Json:
    decision = decide(raw, template, "pod")
    assert decision.result == "injected", decision
    return applied(raw, decision.ops)


def names(containers: list[Json]) -> list[str]:
    return [container["name"] for container in containers]


# --- what is added ---------------------------------------------------------------------------------------------------


def test_a_native_sidecar_is_the_first_init_container() -> None:
    after = injected(pod_of("deployment"))
    assert names(after["spec"]["initContainers"]) == ["model-sidecar", "migrate"]
    assert after["spec"]["initContainers"][0] == CONTAINER


def test_a_classic_sidecar_is_the_first_container() -> None:
    after = injected(pod_of("deployment"), CLASSIC)
    assert names(after["spec"]["containers"]) == ["model-sidecar", "shop"]
    assert names(after["spec"]["initContainers"]) == ["migrate"]


def test_volumes_come_behind_the_apps_own() -> None:
    volumes = [volume["name"] for volume in injected(pod_of("deployment"))["spec"]["volumes"]]
    assert volumes == ["kube-api-access-x7k2m", *(v["name"] for v in template_data()["volumes"])]


@pytest.mark.parametrize(
    ("own", "after"),
    [
        (None, ["registry"]),
        ([{"name": "apps"}], ["apps", "registry"]),
        ([{"name": "registry"}], ["registry"]),
    ],
)
def test_the_secret_for_the_sidecars_image_is_there_once(own: list[Json] | None, after: list[str]) -> None:
    template = template_of(template_data() | {"imagePullSecrets": [{"name": "registry"}]})
    found = injected(pod(imagePullSecrets=own), template)["spec"]["imagePullSecrets"]
    assert [secret["name"] for secret in found] == after


def test_the_variables_come_before_the_apps_own_sources_so_that_those_win() -> None:
    after = injected(pod_of("deployment"))
    assert after["spec"]["containers"][0]["envFrom"] == [SOURCE, {"secretRef": {"name": "shop-settings"}}]


def test_other_init_containers_of_a_native_sidecar_get_the_variables_too() -> None:
    migrate = injected(pod_of("deployment"))["spec"]["initContainers"][1]
    assert migrate["envFrom"] == [SOURCE]


def test_init_containers_before_a_classic_sidecar_are_left_alone() -> None:
    before = pod_of("deployment")
    assert injected(before, CLASSIC)["spec"]["initContainers"] == before["spec"]["initContainers"]


def test_our_own_container_gets_no_variables() -> None:
    assert "envFrom" not in injected(pod())["spec"]["initContainers"][0]


def test_labels_and_annotations_say_what_was_done() -> None:
    metadata = injected(pod_of("deployment"))["metadata"]
    assert metadata["labels"]["model-sidecar.io/injected"] == "true"
    assert metadata["labels"]["app"] == "shop"
    assert metadata["annotations"] == {"model-sidecar.io/injected-by": "webhook", "model-sidecar.io/version": "0.3.0"}


@pytest.mark.parametrize("metadata", [{}, {"labels": None, "annotations": None}, {"labels": {}, "annotations": {}}])
def test_metadata_without_texts(metadata: Json) -> None:
    assert injected(pod(metadata=metadata))["metadata"]["labels"] == {"model-sidecar.io/injected": "true"}


@pytest.mark.parametrize("raw", [{}, {"metadata": None}])
def test_a_pod_without_metadata(raw: Json) -> None:
    raw |= {"spec": pod()["spec"]}
    assert injected(raw)["metadata"]["annotations"]["model-sidecar.io/injected-by"] == "webhook"


@pytest.mark.parametrize("nothing", [None, []])
def test_lists_that_are_null_or_empty(nothing: list[Json] | None) -> None:
    after = injected(
        pod({"env": nothing, "envFrom": nothing, "ports": nothing}, initContainers=nothing, volumes=nothing)
    )
    assert after["spec"]["containers"][0]["envFrom"] == [SOURCE]
    assert names(after["spec"]["initContainers"]) == ["model-sidecar"]
    assert len(after["spec"]["volumes"]) == 3


def test_a_label_that_says_otherwise_is_replaced() -> None:
    after = injected(pod(metadata={"labels": {"model-sidecar.io/injected": "no"}}))
    assert after["metadata"]["labels"] == {"model-sidecar.io/injected": "true"}


def test_a_note_of_having_been_skipped_does_not_outlive_the_reason() -> None:
    after = injected(pod(metadata={"annotations": {"model-sidecar.io/skipped": "hostNetwork", "a~b/c": "kept"}}))
    assert "model-sidecar.io/skipped" not in after["metadata"]["annotations"]
    assert after["metadata"]["annotations"]["a~b/c"] == "kept"


# --- once, and again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deployment", "job", "daemonset", "bare"])
def test_a_second_time_changes_nothing(name: str) -> None:
    decision = decide(injected(pod_of(name)), NATIVE, "pod")
    assert (decision.result, decision.ops) == ("unchanged", [])


@pytest.mark.parametrize("template", [NATIVE, CLASSIC])
def test_a_container_that_came_later_gets_the_variables_and_no_second_sidecar(template: Any) -> None:
    before = injected(pod_of("bare"), template)
    before["spec"]["containers"].insert(0, {"name": "mesh", "image": "mesh:1", "env": [{"name": "all_proxy"}]})
    decision = decide(before, template, "pod")
    assert decision.result == "topped_up"
    after = applied(before, decision.ops)
    assert after["spec"]["containers"][0]["envFrom"] == [SOURCE]
    assert [e["name"] for e in after["spec"]["containers"][0]["env"]] == ["all_proxy", "NO_PROXY", "no_proxy"]
    everybody = names(after["spec"].get("initContainers", []) + after["spec"]["containers"])
    assert sorted(everybody) == ["app", "mesh", "model-sidecar"]
    assert decide(after, template, "pod").result == "unchanged"


@pytest.mark.parametrize("place", ["containers", "initContainers"])
@pytest.mark.parametrize("by", [None, "include", "policy"])
def test_a_sidecar_that_came_another_way_is_left_alone(place: str, by: str | None) -> None:
    raw = pod({}, metadata={"annotations": {"model-sidecar.io/injected-by": by}} if by else {})
    raw["spec"].setdefault(place, []).append({"name": "model-sidecar", "image": "other:1"})
    assert decide(raw, NATIVE, "pod").result == "unchanged"


def test_marks_that_a_pod_template_copied_do_not_pass_for_a_sidecar() -> None:
    after = injected(pod(metadata=injected(pod())["metadata"]))
    assert names(after["spec"]["initContainers"]) == ["model-sidecar"]


# --- who is asked ----------------------------------------------------------------------------------------------------


def test_a_pod_that_opted_out_is_left_alone_whoever_asks() -> None:
    assert decide(labelled("false"), NATIVE, "namespace").result == "unchanged"
    assert decide(labelled("false"), NATIVE, "pod").result == "unchanged"


def test_a_namespace_that_asked_is_served() -> None:
    assert decide(pod(), NATIVE, "namespace").result == "injected"


def test_a_label_of_another_word_is_warned_of() -> None:
    decision = decide(labelled("yes"), NATIVE, "namespace")
    assert decision.result == "injected"
    assert 'is "yes"' in decision.warnings[0]


def test_a_pods_own_label_counts_even_where_its_namespace_asked() -> None:
    decision = decide(labelled("true", hostNetwork=True), NATIVE, "namespace")
    assert (decision.result, decision.asked_by) == ("denied", "pod")


@pytest.mark.parametrize("spec", [{}, {"containers": None}, {"containers": []}])
def test_a_pod_without_containers_is_left_to_the_api_server(spec: Json) -> None:
    for template in (NATIVE, CLASSIC):
        assert decide({"spec": spec}, template, "pod").result == "unchanged"


def test_the_mirror_of_a_static_pod_is_left_alone() -> None:
    raw = pod(metadata={"annotations": {"kubernetes.io/config.mirror": "1f2e"}})
    assert decide(raw, NATIVE, "namespace").result == "unchanged"


# --- what can't be injected ------------------------------------------------------------------------------------------

JOB = {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "n", "uid": "u"}]}
HINDERED = {
    "hostNetwork": (pod(hostNetwork=True), "uses hostNetwork"),
    "windows by os": (pod(os={"name": "windows"}), "Windows"),
    "windows by selector": (pod(nodeSelector={"kubernetes.io/os": "windows"}), "Windows"),
    "proxy port": (pod({"ports": [{"containerPort": 4010}]}), "app-0 declares port 4010"),
    "admin port": (pod({}, {"ports": [{"containerPort": 80}, {"containerPort": 4011}]}), "app-1 declares port 4011"),
    "probe port": (pod({"ports": [{"containerPort": 4012, "protocol": "TCP"}]}), "port 4012"),
    "port of an init container": (
        pod({}, initContainers=[{"name": "warm-up", "image": "w", "ports": [{"containerPort": 4010}]}]),
        "warm-up declares port 4010",
    ),
    "volume": (pod(volumes=[{"name": "model-sidecar-pins", "emptyDir": {}}]), "a volume named model-sidecar-pins"),
}


@pytest.mark.parametrize("name", HINDERED)
def test_a_pod_that_asked_is_denied_with_the_reason_and_the_way_out(name: str) -> None:
    raw, words = HINDERED[name]
    decision = decide(raw, NATIVE, "pod")
    assert decision.result == "denied"
    assert words in decision.reason
    assert 'model-sidecar.io/inject: "false"' in decision.reason
    assert not decision.ops


@pytest.mark.parametrize("name", HINDERED)
def test_a_pod_whose_namespace_asked_goes_through_marked_and_warned_of(name: str) -> None:
    raw, words = HINDERED[name]
    decision = decide(raw, NATIVE, "namespace")
    assert decision.result == "skipped"
    after = applied(raw, decision.ops)
    assert words in after["metadata"]["annotations"]["model-sidecar.io/skipped"]
    assert after["spec"] == raw["spec"]
    assert decision.warnings == (decision.reason,)


def test_a_skipped_pod_is_marked_once() -> None:
    raw = pod(hostNetwork=True)
    after = applied(raw, decide(raw, NATIVE, "namespace").ops)
    assert decide(after, NATIVE, "namespace").ops == []


@pytest.mark.parametrize("free", [{"containerPort": 4010, "protocol": "UDP"}, {"containerPort": 4013}, {}])
def test_ports_that_are_not_ours_are_free(free: Json) -> None:
    assert decide(pod({"ports": [free]}), NATIVE, "pod").result == "injected"


def test_an_init_container_that_ends_before_a_classic_sidecar_may_have_its_ports() -> None:
    ended = {"name": "init", "image": "i", "ports": [{"containerPort": 4010}]}
    assert decide(pod({}, initContainers=[ended]), CLASSIC, "pod").result == "injected"
    stays = ended | {"restartPolicy": "Always"}
    assert decide(pod({}, initContainers=[stays]), CLASSIC, "pod").result == "denied"


def test_linux_may_be_named() -> None:
    raw = pod(os={"name": "linux"}, nodeSelector={"kubernetes.io/os": "linux"}, hostNetwork=False)
    assert decide(raw, NATIVE, "pod").result == "injected"


def test_a_job_takes_a_native_sidecar() -> None:
    assert decide(pod_of("job"), NATIVE, "pod").result == "injected"


def test_a_job_would_never_end_with_a_classic_one() -> None:
    decision = decide(pod_of("job"), CLASSIC, "pod")
    assert decision.result == "denied"
    assert "would never end" in decision.reason
    assert decide(pod(metadata=JOB), CLASSIC, "namespace").result == "skipped"


def test_another_kind_named_job_is_no_job() -> None:
    foreign = {"ownerReferences": [{"apiVersion": "queue.example/v1", "kind": "Job", "name": "n", "uid": "u"}]}
    assert decide(pod(metadata=foreign), CLASSIC, "pod").result == "injected"


def test_a_port_taken_after_the_injection_is_told_too() -> None:
    before = injected(pod_of("bare"))
    before["spec"]["containers"].append({"name": "late", "image": "l", "ports": [{"containerPort": 4010}]})
    assert decide(before, NATIVE, "pod").result == "denied"
    decision = decide(before, NATIVE, "namespace")
    assert (decision.result, decision.ops) == ("skipped", [])


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"spec": 3}, "request.object.spec: "),
        ({"spec": {"containers": {}}}, "request.object.spec.containers: "),
        ({"spec": {"containers": [None]}}, "request.object.spec.containers[0]: "),
        ({"metadata": {"labels": {"a": 1}}}, "request.object.metadata.labels[...]: "),
    ],
)
def test_what_is_no_pod_is_refused_with_its_place(raw: Json, place: str) -> None:
    with pytest.raises(ShapeError) as caught:
        decide(raw, NATIVE, "pod")
    assert str(caught.value).startswith(place)


def test_the_pod_that_came_in_is_not_touched() -> None:
    raw = pod_of("deployment")
    before = copy.deepcopy(raw)
    decide(raw, NATIVE, "pod")
    assert raw == before


@pytest.mark.parametrize("version", ["1.29", "1.36"])
@pytest.mark.parametrize("name", ["deployment", "job", "daemonset", "bare"])
def test_injected_pods_fit_the_schema(name: str, version: str) -> None:
    validate(injected(pod_of(name)), version)
    if name != "job":
        validate(injected(pod_of(name), CLASSIC), version)


def test_a_fault_in_the_template_would_not_fit_the_schema() -> None:
    after = injected(pod_of("bare"))
    after["spec"]["initContainers"][0]["restartpolicy"] = "Always"
    with pytest.raises(Exception, match="restartpolicy"):
        validate(after, "1.36")
