"""Injection by admission policy, on a real API server: what it stores is what the library's `include` makes.

The server is Kubernetes 1.36, so this is `v1`; that `v1beta1` means the same is only known from its schema.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from sidecar.kube.injection.decide import decide
from sidecar.kube.injection.template import read
from tests.cluster.cluster import Cluster, adding_policy, until
from tests.cluster.policy_kit import ASK, OPT_OUT, answer, dry, installed, names, pod
from tests.kube.injection_cases import (
    FIT,
    UNFIT,
    Json,
    comparable,
    container,
    env,
    included,
    injection,
    policy_values,
)


@pytest.fixture(scope="module")
def native(cluster: Cluster) -> Iterator[Cluster]:
    with installed(cluster, policy_values(excludedNamespaces=["untouched"])):
        yield cluster


@pytest.mark.parametrize("case", FIT)
def test_the_stored_pod_is_what_the_include_makes(native: Cluster, case: str) -> None:
    namespace = native.namespace()
    asked = dry(native, pod(namespace, FIT[case], ASK))
    bare = dry(native, included(FIT[case], metadata={"name": "web", "namespace": namespace}))
    assert asked["metadata"]["annotations"]["model-sidecar.io/injected-by"] == "policy"
    assert comparable(asked) == comparable(bare)


def test_a_namespace_asks_for_its_pods(native: Cluster) -> None:
    by_namespace = dry(native, pod(native.namespace(**ASK), FIT["plain"]))
    by_itself = dry(native, pod(native.namespace(), FIT["plain"], ASK))
    assert names(by_namespace) == ["model-sidecar"]
    assert comparable(by_namespace) == comparable(by_itself)


def test_the_label_injected_is_set_where_a_pod_had_no_labels(native: Cluster) -> None:
    stored = dry(native, pod(native.namespace(**ASK), FIT["plain"]))
    assert stored["metadata"]["labels"] == {"model-sidecar.io/injected": "true"}


def test_a_pod_that_nobody_asked_for_stays_as_it_is(native: Cluster) -> None:
    assert names(dry(native, pod(native.namespace(), FIT["plain"]))) == []


def test_a_pod_opts_out_of_what_its_namespace_asks(native: Cluster) -> None:
    assert names(dry(native, pod(native.namespace(**ASK), FIT["plain"], OPT_OUT))) == []


def test_a_pod_that_asks_in_a_namespace_that_asks_gets_one_sidecar(native: Cluster) -> None:
    assert names(dry(native, pod(native.namespace(**ASK), FIT["plain"], ASK))) == ["model-sidecar"]


@pytest.mark.parametrize("case", UNFIT)
def test_a_pod_that_asks_and_cant_have_it_is_refused_with_the_webhooks_sentence(native: Cluster, case: str) -> None:
    spec, words = UNFIT[case]
    namespace = native.namespace()
    sentence = decide(pod(namespace, spec, ASK), read(*injection()), "pod").reason
    assert words in sentence
    assert f"denied request: {sentence}" in answer(native, pod(namespace, spec, ASK))


@pytest.mark.parametrize("case", UNFIT)
def test_a_pod_whose_namespace_asks_and_cant_have_it_starts_without(native: Cluster, case: str) -> None:
    stored = dry(native, pod(native.namespace(**ASK), UNFIT[case][0]))
    assert "model-sidecar" not in names(stored)
    assert "labels" not in stored["metadata"]


def test_what_was_included_is_not_injected_again(native: Cluster) -> None:
    namespace = native.namespace(**ASK)
    stored = dry(native, included(FIT["plain"], metadata={"name": "web", "namespace": namespace, "labels": dict(ASK)}))
    assert names(stored) == ["model-sidecar"]
    assert stored["metadata"]["annotations"]["model-sidecar.io/injected-by"] == "include"


def test_a_container_of_that_name_is_somebodys_own_sidecar(native: Cluster) -> None:
    stored = dry(native, pod(native.namespace(), {"containers": [container(), container("model-sidecar")]}, ASK))
    assert names(stored) == []


def test_what_the_policy_made_stays_the_same_when_it_is_made_again(native: Cluster) -> None:
    namespace = native.namespace()
    first = dry(native, pod(namespace, FIT["proxy and NO_PROXY"], ASK))
    marks = first["metadata"]
    again = dry(native, pod(namespace, first["spec"], marks["labels"], annotations=marks["annotations"]))
    assert comparable(again) == comparable(first)


def test_a_container_that_came_later_gets_the_variables(native: Cluster) -> None:
    namespace = native.namespace()
    first = dry(native, pod(namespace, FIT["plain"], ASK))
    late = copy.deepcopy(first["spec"])
    late["containers"].append(container("late", env=env(HTTP_PROXY="http://proxy:3128")))
    stored = dry(native, pod(namespace, late, ASK, annotations=first["metadata"]["annotations"]))
    assert names(stored) == ["model-sidecar"]
    added = stored["spec"]["containers"][1]
    assert added["envFrom"] == [{"configMapRef": {"name": "model-sidecar-env"}}]
    assert [entry["name"] for entry in added["env"]] == ["HTTP_PROXY", "NO_PROXY", "no_proxy"]
    assert stored["spec"]["containers"][0] == first["spec"]["containers"][0]


LATE = adding_policy(
    "zz-late",
    "late=yes",
    '[JSONPatch{op: "add", path: "/spec/containers/-", value: Object.spec.containers{name: "late", image: "late:1"}}]',
)


def test_the_api_server_asks_again_when_another_policy_adds_a_container(native: Cluster) -> None:
    namespace = native.namespace(late="yes")
    native.apply(LATE)
    try:
        spec = until(lambda: _with(dry(native, pod(namespace, FIT["plain"], ASK))["spec"], "late"))
    finally:
        native.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", "zz-late")
    assert [c["name"] for c in spec["initContainers"]] == ["model-sidecar"]
    assert {c["name"]: len(c["envFrom"]) for c in spec["containers"]} == {"web": 1, "late": 1}


def _with(spec: Json, name: str) -> Json | None:
    return spec if any(c["name"] == name for c in spec["containers"]) else None


def test_pods_of_kube_system_and_of_excluded_namespaces_are_left_alone(native: Cluster) -> None:
    native.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "untouched"}})
    for namespace in ("kube-system", "untouched"):
        assert names(dry(native, pod(namespace, FIT["plain"], ASK))) == []


def test_the_mirror_of_a_static_pod_is_left_alone(native: Cluster) -> None:
    mirror = {"kubernetes.io/config.mirror": "0", "kubernetes.io/config.source": "file"}
    static = pod(native.namespace(), {**FIT["plain"], "nodeName": "node-1"}, ASK, annotations=mirror)
    assert names(dry(native, static)) == []


def test_a_pod_of_many_containers_and_variables_is_within_the_cost_that_cel_may_have(native: Cluster) -> None:
    variables = env(**{f"VARIABLE_{n}": "v" * 200 for n in range(150)})
    variables += env(HTTPS_PROXY="http://proxy:3128", NO_PROXY=",".join(["host.example"] * 200))
    many = {"containers": [container(f"app-{n}", env=variables) for n in range(30)]}
    stored = dry(native, pod(native.namespace(), many, ASK))
    assert all(len(c["env"]) == 153 for c in stored["spec"]["containers"])
