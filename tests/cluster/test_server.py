"""The API server of these tests is a real one: versions, schemas, dry runs, RBAC and admission policies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.cluster import Cluster, Failed, server_binary, until
from tests.kube.tools import needed

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: smoke.test}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    namespaceSelector: {matchLabels: {smoke: "yes"}}
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        (has(object.spec.initContainers) ? [] : [JSONPatch{op: "add", path: "/spec/initContainers", value: []}]) +
        [JSONPatch{op: "add", path: "/spec/initContainers/0",
        value: Object.spec.initContainers{name: "first", image: "first:1", restartPolicy: "Always"}}]
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{spec: Object.spec{containers: object.spec.containers.map(c,
        Object.spec.containers{name: c.name, env: [Object.spec.containers.env{name: "ADDED", value: "1"}]})}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: smoke.test}
spec: {policyName: smoke.test}
"""


def pod(namespace: str, **spec: Any) -> dict[str, Any]:
    """The smallest pod."""
    containers = [{"name": "app", "image": "app:1"}]
    metadata = {"name": "app", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers, **spec}}


def test_it_is_the_version_that_go_mod_names(cluster: Cluster) -> None:
    version = cluster.kubectl("get", "--raw", "/version")
    assert f'"{server_binary().name.removeprefix("kube-apiserver-")}"' in version.stdout


def test_it_keeps_what_it_is_given(cluster: Cluster) -> None:
    namespace = cluster.namespace()
    cluster.create(pod(namespace))
    assert cluster.get("pod", "app", "-n", namespace)["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_a_dry_run_keeps_nothing(cluster: Cluster) -> None:
    namespace = cluster.namespace()
    assert cluster.create(pod(namespace), "--dry-run=server")["status"]["phase"] == "Pending"
    assert not cluster.get("pods", "-n", namespace)["items"]


def test_it_refuses_a_field_that_no_schema_has(cluster: Cluster) -> None:
    with pytest.raises(Failed, match=r"unknown field \"spec.initContainer\""):
        cluster.create(pod(cluster.namespace(), initContainer=[]))


def test_pod_security_is_enforced(cluster: Cluster) -> None:
    namespace = cluster.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    with pytest.raises(Failed, match="violates PodSecurity"):
        cluster.create(pod(namespace))


def test_only_the_admin_may_do_anything(cluster: Cluster) -> None:
    assert cluster.kubectl("auth", "can-i", "create", "pods").stdout == "yes\n"
    assert cluster.kubectl("auth", "can-i", "create", "pods", user="developer").stdout == "no\n"


def test_helm_reaches_it(cluster: Cluster) -> None:
    needed("helm")
    done = cluster.helm("list", "--all-namespaces", "-o", "json")
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_an_admission_policy_changes_a_pod(cluster: Cluster) -> None:
    namespace = cluster.namespace(smoke="yes")
    cluster.apply(POLICY)
    try:
        made = until(lambda: _if_changed(cluster.create(pod(namespace), "--dry-run=server")))
    finally:
        cluster.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", "smoke.test")
    assert (
        made["spec"]["initContainers"][0] | {"name": "first", "restartPolicy": "Always"}
        == made["spec"]["initContainers"][0]
    )
    assert made["spec"]["containers"][0]["env"] == [{"name": "ADDED", "value": "1"}]


def _if_changed(made: dict[str, Any]) -> dict[str, Any] | None:
    return made if "initContainers" in made["spec"] else None
