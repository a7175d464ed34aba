"""injection.mode: webhook, as rendered: what it injects, whom it is asked about, and how its pods run."""

from __future__ import annotations

import argparse
import copy
from typing import Any

import pytest

from sidecar.kube.injection import command
from sidecar.kube.injection.decide import decide
from sidecar.kube.injection.template import Template, read
from tests.kube import kit, schemas
from tests.kube.injection_cases import FIT, VALUES, Json, comparable, included, injection, webhook_values
from tests.kube.webhook_kit import applied

INJECT = "model-sidecar.io/inject"
NAME = "model-sidecar-injection"
VERSIONS = ("1.28", "1.29", "1.34", "1.36", "1.37")
OWN = "model-sidecar"


def rendered(values: Json | None = None, **options: Any) -> list[kit.Manifest]:
    return kit.render(values or webhook_values(), **{"namespace": OWN, **options})


def template(version: str = "1.36") -> Template:
    return read(*injection(version))


def hooks(**options: Any) -> dict[str, Json]:
    """The webhooks of the configuration by their path."""
    found = kit.one(rendered(**options), "MutatingWebhookConfiguration", NAME)["webhooks"]
    return {hook["clientConfig"]["service"]["path"]: hook for hook in found}


def pod_spec(**options: Any) -> Json:
    spec: Json = kit.one(rendered(**options), "Deployment", NAME)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_is_valid(version: str) -> None:
    manifests = rendered(webhook_values(hostNetwork=True), kube_version=version)
    kit.validate(manifests, version)
    kit.validate(rendered(kube_version=version), version)
    kinds = {m["kind"] for m in manifests if m["metadata"]["name"].startswith(NAME)}
    assert kinds == {
        "ConfigMap", "Deployment", "MutatingWebhookConfiguration", "PodDisruptionBudget", "Secret", "Service",
        "ServiceAccount",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_the_container_is_the_includes(version: str) -> None:
    made = included(FIT["plain"], version)["spec"]
    found = template(version)
    assert found.container == kit.sidecar_of(made)
    assert list(found.volumes) == made["volumes"]
    assert found.envFrom == made["containers"][-1]["envFrom"][0]
    assert found.native == (version != "1.28")


@pytest.mark.parametrize("version", ["1.28", "1.36"])
@pytest.mark.parametrize("case", FIT)
def test_the_patched_pod_is_what_the_include_makes(case: str, version: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": copy.deepcopy(FIT[case])}
    patched = applied(pod, decide(pod, template(version), "namespace").ops)
    assert comparable(patched) == comparable(included(FIT[case], version))


def test_a_pod_says_how_it_was_injected() -> None:
    assert template().annotations["model-sidecar.io/injected-by"] == "webhook"


def test_both_webhooks_fail_closed_and_say_that_they_have_no_side_effects() -> None:
    for hook in hooks().values():
        assert (hook["failurePolicy"], hook["sideEffects"], hook["timeoutSeconds"]) == ("Fail", "None", 5)
        assert (hook["matchPolicy"], hook["reinvocationPolicy"]) == ("Equivalent", "IfNeeded")
        assert hook["admissionReviewVersions"] == ["v1"]


def test_they_are_asked_about_new_pods_only() -> None:
    for hook in hooks().values():
        (rule,) = hook["rules"]
        assert (rule["apiGroups"], rule["resources"], rule["operations"]) == ([""], ["pods"], ["CREATE"])


def test_one_is_asked_about_pods_that_ask_the_other_about_pods_whose_namespace_asks() -> None:
    by_pod, by_namespace = hooks()["/inject/pod"], hooks()["/inject/namespace"]
    assert by_pod["objectSelector"] == {"matchLabels": {INJECT: "true"}}
    assert by_namespace["namespaceSelector"]["matchLabels"] == {INJECT: "true"}
    silent = {"key": INJECT, "operator": "NotIn", "values": ["true", "false"]}
    assert by_namespace["objectSelector"] == {"matchExpressions": [silent]}


def test_neither_is_asked_about_its_own_namespace_kube_system_or_named_ones() -> None:
    values = webhook_values() | {"injection": {"mode": "webhook", "excludedNamespaces": ["vault"]}}
    for hook in hooks(values=values).values():
        (expression,) = hook["namespaceSelector"]["matchExpressions"]
        assert expression == {
            "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", OWN, "vault"]
        }  # fmt: skip


@pytest.mark.parametrize("namespaces", [[], ["web", OWN]])
def test_its_own_namespace_can_have_no_apps(namespaces: list[str]) -> None:
    with pytest.raises(
        kit.RenderError, match=f"leaves its own namespace alone.*{OWN} is among.*in a namespace of its own"
    ):
        rendered(webhook_values() | {"namespaces": namespaces})


def test_they_call_the_service_that_finds_the_pods() -> None:
    manifests = rendered()
    service = kit.one(manifests, "Service", NAME)
    deployment = kit.one(manifests, "Deployment", NAME)
    for path, hook in hooks().items():
        assert hook["clientConfig"]["service"] == {"name": NAME, "namespace": OWN, "port": 443, "path": path}
    assert service["metadata"]["namespace"] == OWN
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    (port,) = service["spec"]["ports"]
    ports = {p["name"]: p["containerPort"] for p in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert ports[port["targetPort"]] == 8443


def test_its_own_pods_are_never_injected() -> None:
    labels = kit.one(rendered(), "Deployment", NAME)["spec"]["template"]["metadata"]["labels"]
    assert labels[INJECT] == "false"
    assert "model-sidecar.io/injected" not in labels


def test_its_arguments_are_those_of_the_command() -> None:
    spec = pod_spec(values=webhook_values(port=9443, healthPort=9080))
    (container,) = spec["containers"]
    assert container["args"][0] == "inject-webhook"
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.configure(parser)
    args = parser.parse_args(container["args"][1:])
    assert (args.listen.port, args.health_listen.port) == (9443, 9080)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(path.parent) for path in (args.template, args.cert_file, args.key_file)} == mounts


def test_the_files_are_mounted_as_directories() -> None:
    spec = pod_spec()
    assert not any("subPath" in mount for mount in spec["containers"][0]["volumeMounts"])
    sources = {
        v["name"]: v.get("configMap", {}).get("name") or v.get("secret", {}).get("secretName") for v in spec["volumes"]
    }
    assert sources == {"injection": NAME, "certificate": f"{NAME}-certificate"}


def test_probes_ask_the_health_port() -> None:
    (container,) = pod_spec()["containers"]
    asked = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {"health"}


def test_it_has_no_token_of_the_cluster() -> None:
    manifests = rendered()
    assert kit.one(manifests, "ServiceAccount", NAME)["automountServiceAccountToken"] is False
    assert pod_spec()["automountServiceAccountToken"] is False


def test_a_rollout_never_takes_a_pod_away_before_another_one_answers() -> None:
    strategy = kit.one(rendered(), "Deployment", NAME)["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}
    assert kit.one(rendered(), "PodDisruptionBudget", NAME)["spec"]["minAvailable"] == 1


def test_a_single_replica_has_no_disruption_budget_which_would_stop_all_drains() -> None:
    kinds = [m["kind"] for m in rendered(webhook_values(replicas=1))]
    assert "PodDisruptionBudget" not in kinds


def test_on_the_host_network_a_rollout_frees_the_ports_first() -> None:
    deployment = kit.one(rendered(webhook_values(hostNetwork=True)), "Deployment", NAME)
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    spec = deployment["spec"]["template"]["spec"]
    assert (spec["hostNetwork"], spec["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")


def test_the_network_policy_opens_its_ports_and_nothing_else() -> None:
    values = webhook_values() | {"networkPolicy": {"enabled": True, "mode": "add"}}
    assert not [m for m in rendered() if m["kind"] == "NetworkPolicy"]
    manifests = rendered(values)
    kit.validate(manifests, "1.36")
    spec = kit.one(manifests, "NetworkPolicy", NAME)["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in spec
    assert [p["port"] for p in spec["ingress"][0]["ports"]] == ["webhook", "health"]


def test_its_metrics_are_scraped_where_the_prometheus_operator_is() -> None:
    assert not [m for m in rendered() if m["kind"] == "PodMonitor"]
    monitor = kit.one(rendered(api_versions=[kit.MONITORING]), "PodMonitor", NAME)
    deployment = kit.one(rendered(), "Deployment", NAME)
    assert monitor["spec"]["selector"] == deployment["spec"]["selector"]
    assert schemas.problems(monitor) == []
    assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == ["health"]


def test_pull_secrets_and_where_it_runs_are_values() -> None:
    asked = {"nodeSelector": {"pool": "system"}, "tolerations": [{"operator": "Exists"}], "priorityClassName": "high"}
    spec = pod_spec(values=webhook_values(VALUES, **asked))
    assert spec["imagePullSecrets"] == [{"name": "registry-key"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "system"}
    assert (spec["tolerations"], spec["priorityClassName"]) == ([{"operator": "Exists"}], "high")


def test_it_listens_in_a_cluster_that_is_ipv6_only() -> None:
    args = pod_spec(values=webhook_values(listenAddress="[::]"))["containers"][0]["args"]
    assert {"--listen=[::]:8443", "--health-listen=[::]:8080"} <= set(args)


def test_its_two_ports_must_differ() -> None:
    with pytest.raises(kit.RenderError, match=r"webhook\.port and webhook\.healthPort are both 9000"):
        rendered(webhook_values(port=9000, healthPort=9000))


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(kit.RenderError, match="replica"):
        rendered(webhook_values(replica=3))
