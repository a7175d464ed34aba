"""injection.mode: policy, as rendered: versions, who is asked for, and the conditions on pods.

What the patch makes of a pod only an API server can say: tests/cluster/test_policy.py.
"""

from __future__ import annotations

import copy
from typing import Any

import celpy
import pytest
from celpy.adapter import json_to_cel

from sidecar.kube.injection.decide import decide
from sidecar.kube.injection.template import Template, read
from tests.kube import kit
from tests.kube.injection_cases import FIT, UNFIT, VALUES, Json, container, injection, policy_values

CEL = celpy.Environment()
MUTATING = "MutatingAdmissionPolicy"
VALIDATING = "ValidatingAdmissionPolicy"
JOB = [{"apiVersion": "batch/v1", "kind": "Job", "name": "nightly", "uid": "4711"}]
INJECT = "model-sidecar.io/inject"


def rendered(kind: str, **options: Any) -> list[kit.Manifest]:
    values = options.pop("values", policy_values())
    return [m for m in kit.render(values, **options) if m["kind"] == kind]


def policy(kind: str, **options: Any) -> kit.Manifest:
    return kit.one(rendered(kind, **options), kind)


def holds(expression: str, pod: Json, **variables: Any) -> Any:
    """What a condition says about a pod."""
    activation = {"object": json_to_cel(pod), "variables": json_to_cel(variables)}
    return CEL.program(CEL.compile(expression)).evaluate(activation)


def unmet(pod: Json, kind: str = MUTATING, **options: Any) -> list[str]:
    """The names of the match conditions that a pod doesn't meet."""
    conditions = policy(kind, **options)["spec"]["matchConditions"]
    return [c["name"] for c in conditions if not holds(c["expression"], pod)]


def refusals(pod: Json, **options: Any) -> list[str]:
    """The sentences of the validations that a pod fails, in their order."""
    spec = policy(VALIDATING, **options)["spec"]
    asked = holds(spec["variables"][0]["expression"], pod)
    failed = [v for v in spec["validations"] if not holds(v["expression"], pod, askedItself=bool(asked))]
    return [str(holds(v["messageExpression"], pod)) if "messageExpression" in v else v["message"] for v in failed]


def template(**options: Any) -> Template:
    return read(*injection(**options))


def pod_of(spec: Json, labels: dict[str, str] | None = None, **metadata: Any) -> Json:
    """With what the API server has filled in before it asks a policy."""
    spec = copy.deepcopy(spec)
    for each in kit.containers(spec):
        for port in each.get("ports", []):
            port.setdefault("protocol", "TCP")
    about = {"name": "web", **({"labels": labels} if labels else {}), **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}


V1 = [("1.36", False), ("1.37", False), ("1.37", True)]
V1BETA1 = [("1.34", True), ("1.35", True)]


@pytest.mark.parametrize(("version", "beta"), V1 + V1BETA1)
def test_the_policies_are_valid_where_kubernetes_has_them(version: str, beta: bool) -> None:
    manifests = kit.render(policy_values(beta=beta), kube_version=version)
    ours = [m for m in manifests if "AdmissionPolicy" in m["kind"]]
    kit.validate(ours, version)
    found = {m["apiVersion"] for m in ours if m["kind"].startswith("Mutating")}
    assert found == {f"admissionregistration.k8s.io/{'v1' if (version, beta) in V1 else 'v1beta1'}"}
    assert len(ours) == 6


@pytest.mark.parametrize("version", ["1.28", "1.29", "1.33"])
def test_older_kubernetes_is_refused_with_the_way_out(version: str) -> None:
    with pytest.raises(
        kit.RenderError, match=rf"needs Kubernetes 1\.36.*this is v{version}\.0\. Use injection\.mode: webhook"
    ):
        kit.render(policy_values(beta=True), kube_version=version)


@pytest.mark.parametrize("version", ["1.34", "1.35"])
def test_the_beta_must_be_asked_for(version: str) -> None:
    with pytest.raises(kit.RenderError, match=r"switched off by default.*set injection\.policy\.beta: true; else use"):
        kit.render(policy_values(), kube_version=version)


def test_without_a_mode_there_is_nothing() -> None:
    assert not [m for m in kit.render(VALUES) if "Admission" in m["kind"] or "Webhook" in m["kind"]]


def test_a_policy_that_fails_lets_nothing_through() -> None:
    for kind in (MUTATING, VALIDATING):
        assert policy(kind)["spec"]["failurePolicy"] == "Fail"
    assert policy(MUTATING)["spec"]["reinvocationPolicy"] == "IfNeeded"
    assert {tuple(b["spec"]["validationActions"]) for b in rendered(f"{VALIDATING}Binding")} == {("Deny",)}


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize("in_namespace", [None, "true", "false"])
@pytest.mark.parametrize("on_pod", [None, "true", "false", "yes"])
def test_exactly_one_binding_picks_a_pod_that_is_asked_for(
    kind: str, in_namespace: str | None, on_pod: str | None
) -> None:
    asked = on_pod == "true" or (on_pod != "false" and in_namespace == "true")
    found = [b["spec"]["matchResources"] for b in rendered(f"{kind}Binding")]
    picked = [
        r
        for r in found
        if selects(r.get("namespaceSelector"), in_namespace) and selects(r.get("objectSelector"), on_pod)
    ]
    assert len(picked) == asked


def selects(selector: Json | None, value: str | None) -> bool:
    """A label selector over the one label `inject`."""
    for key, wanted in (selector or {}).get("matchLabels", {}).items():
        assert key == INJECT
        if value != wanted:
            return False
    for expression in (selector or {}).get("matchExpressions", []):
        assert (expression["key"], expression["operator"]) == (INJECT, "NotIn")
        if value in expression["values"]:
            return False
    return True


def test_kube_system_and_named_namespaces_are_left_alone() -> None:
    for kind in (MUTATING, VALIDATING):
        found = policy(kind, values=policy_values(excludedNamespaces=["vault", "kube-system"]))
        (expression,) = found["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
        assert expression["operator"] == "NotIn"
        assert expression["values"] == ["kube-system", "vault"]


@pytest.mark.parametrize("case", FIT)
def test_pods_that_can_have_a_sidecar_meet_all_conditions(case: str) -> None:
    assert unmet(pod_of(FIT[case])) == []


UNMET = {
    "host network": "not-on-the-host-network",
    "Windows by os": "not-on-windows",
    "Windows by node": "not-on-windows",
    "our port": "ports-are-free",
    "our port in an init container": "ports-are-free",
    "our volume": "volumes-are-free",
}


@pytest.mark.parametrize("case", UNFIT)
def test_pods_that_cant_have_one_are_not_touched(case: str) -> None:
    assert unmet(pod_of(UNFIT[case][0])) == [UNMET[case]]


@pytest.mark.parametrize("case", UNFIT)
def test_pods_that_asked_and_cant_have_one_are_refused_with_the_webhooks_sentence(case: str) -> None:
    pod = pod_of(UNFIT[case][0], {INJECT: "true"})
    assert refusals(pod) == [decide(pod, template(), "pod").reason]


@pytest.mark.parametrize("case", UNFIT)
def test_pods_whose_namespace_asked_and_cant_have_one_are_let_through(case: str) -> None:
    assert refusals(pod_of(UNFIT[case][0])) == []


@pytest.mark.parametrize("labels", [None, {INJECT: "true"}])
def test_a_pod_that_should_have_got_one_and_did_not_is_refused(labels: dict[str, str] | None) -> None:
    (sentence,) = refusals(pod_of(FIT["plain"], labels))
    assert "the MutatingAdmissionPolicy model-sidecar-injection has put none in" in sentence


def test_a_pod_that_has_a_sidecar_is_not_looked_at_again() -> None:
    for field in ("containers", "initContainers"):
        spec = copy.deepcopy(FIT["init containers"])
        spec[field].append(container("model-sidecar"))
        assert unmet(pod_of(spec)) == ["no-sidecar-or-ours"]
        assert unmet(pod_of(spec), VALIDATING) == ["no-sidecar"]


def test_a_pod_that_the_policy_injected_is_looked_at_again() -> None:
    ours = container("model-sidecar", ports=[{"containerPort": 4012}])
    spec = {"containers": [container()], "initContainers": [ours], "volumes": [{"name": "model-sidecar-pins"}]}
    assert unmet(pod_of(spec, annotations={"model-sidecar.io/injected-by": "policy"})) == []
    assert unmet(pod_of(spec, annotations={"model-sidecar.io/injected-by": "include"})) == ["no-sidecar-or-ours"]


def test_the_mirror_of_a_static_pod_is_left_alone() -> None:
    pod = pod_of(FIT["plain"], annotations={"kubernetes.io/config.mirror": "0"})
    assert unmet(pod) == unmet(pod, VALIDATING) == ["not-a-static-pod"]


def test_the_pod_of_a_job_can_have_a_native_sidecar_only() -> None:
    classic = policy_values({**VALUES, "nativeSidecar": "false"})
    pod = pod_of(FIT["plain"], {INJECT: "true"}, ownerReferences=JOB)
    assert unmet(pod) == []
    assert unmet(pod, values=classic) == ["not-of-a-job"]
    webhooks = template(values={**VALUES, "nativeSidecar": "false"})
    assert refusals(pod, values=classic) == [decide(pod, webhooks, "pod").reason]


def test_an_init_container_that_ends_may_have_used_a_port_of_a_classic_sidecar() -> None:
    classic = policy_values({**VALUES, "nativeSidecar": "false"})
    first, always = (
        {"name": "first", "ports": [{"containerPort": 4010}]} | more for more in ({}, {"restartPolicy": "Always"})
    )
    assert unmet(pod_of({"containers": [container()], "initContainers": [first]}), values=classic) == []
    assert unmet(pod_of({"containers": [container()], "initContainers": [always]}), values=classic) == [
        "ports-are-free"
    ]


def test_two_releases_by_other_names_have_other_policies() -> None:
    other = kit.named(kit.render(policy_values() | {"fullnameOverride": "other"}))
    assert f"{MUTATING}/other-injection" in other
    assert not {name for name in other if "model-sidecar-injection" in name}
