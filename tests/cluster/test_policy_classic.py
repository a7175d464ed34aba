"""Classic sidecars by admission policy: a container among the others, where init containers and Jobs are special."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.policy_kit import ASK, answer, dry, installed, pod
from tests.kube.injection_cases import FIT, VALUES, Json, comparable, container, included, policy_values

CLASSIC = {**VALUES, "nativeSidecar": "false"}
CASES = ("plain", "init containers", "own sources", "proxy and NO_PROXY", "proxy of an init container", "pull secrets")
JOB = [{"apiVersion": "batch/v1", "kind": "Job", "name": "nightly", "uid": "4711"}]


@pytest.fixture(scope="module")
def classic(cluster: Cluster) -> Iterator[Cluster]:
    with installed(cluster, policy_values(CLASSIC)):
        yield cluster


@pytest.mark.parametrize("case", CASES)
def test_the_stored_pod_is_what_the_include_makes(classic: Cluster, case: str) -> None:
    namespace = classic.namespace()
    asked = dry(classic, pod(namespace, FIT[case], ASK))
    made = included(FIT[case], metadata={"name": "web", "namespace": namespace}, values=CLASSIC)
    assert asked["spec"]["containers"][0]["name"] == "model-sidecar"
    assert comparable(asked) == comparable(dry(classic, made))


def test_the_pod_of_a_job_is_refused_since_it_would_never_end(classic: Cluster) -> None:
    spec = {**FIT["plain"], "restartPolicy": "Never"}
    said = answer(classic, pod(classic.namespace(), spec, ASK, ownerReferences=JOB))
    assert "The pod is a Job's, which would never end" in said


def test_the_pod_of_a_job_starts_without_where_its_namespace_asked(classic: Cluster) -> None:
    spec = {**FIT["plain"], "restartPolicy": "Never"}
    stored = dry(classic, pod(classic.namespace(**ASK), spec, ownerReferences=JOB))
    assert [c["name"] for c in stored["spec"]["containers"]] == ["web"]


def test_ports_of_an_init_container_that_ends_are_free_again(classic: Cluster) -> None:
    spec: Json = {**FIT["plain"], "initContainers": [container("first", ports=[{"containerPort": 4010}])]}
    stored = dry(classic, pod(classic.namespace(), spec, ASK))
    assert stored["spec"]["containers"][0]["name"] == "model-sidecar"
