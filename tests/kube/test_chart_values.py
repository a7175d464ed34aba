"""Values that can't be meant are refused with a sentence that names the place; all others render and validate."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kube import kit, schemas
from tests.kube.kit import CHART, EXAMPLE, LIBRARY, MONITORING, RenderError

OPENAI_KEY = {"provider": "openai", "secretName": "llm", "secretKey": "openai"}
PEER = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
COMMON: dict[str, dict[str, Any]] = {
    "defaults": {},
    "two-namespaces": {"namespaces": ["shop", "search"]},
    "keys-by-reference": {
        "sidecar": {"secrets": [OPENAI_KEY | {"env": "OPENAI_KEY"}, OPENAI_KEY | {"provider": "gemini"}]}
    },
    "own-roles": {
        "rbac": {
            "viewers": [{"kind": "Group", "name": "developers"}],
            "operators": [{"kind": "User", "name": "jo"}, {"kind": "ServiceAccount", "name": "ci", "namespace": "ci"}],
        }
    },
    "network-add": {"networkPolicy": {"enabled": True, "mode": "add"}},
    "network-restrict": {
        "networkPolicy": {"enabled": True, "mode": "restrict", "from": [PEER], "egress": [{"ports": [{"port": 443}]}]}
    },
    "network-nobody": {"networkPolicy": {"enabled": True, "mode": "add", "from": []}},
    "other-name": {"fullnameOverride": "llm-pins"},
    "nothing-extra": {
        "rbac": {"create": False},
        "podMonitor": {"enabled": False},
        "tests": {"enabled": False},
        "pins": {"create": False},
    },
    "json-pins": {"pins": {"content": '{"version": 1, "generation": 4, "unlisted": "pass"}', "format": "json"}},
    "classic": {"nativeSidecar": False},
}


@pytest.mark.parametrize("version", kit.VERSIONS)
@pytest.mark.parametrize("name", COMMON)
def test_common_values_are_valid_kubernetes(name: str, version: str) -> None:
    manifests = kit.render(COMMON[name], kube_version=version, api_versions=[MONITORING])
    kit.validate(manifests, version)
    assert all(m["metadata"]["namespace"] for m in manifests)


@pytest.mark.parametrize("version", kit.VERSIONS)
def test_the_example_app_is_valid_kubernetes(version: str) -> None:
    kit.validate(kit.render(chart=EXAMPLE, kube_version=version), version)


@pytest.mark.parametrize("chart", [CHART, LIBRARY, EXAMPLE], ids=lambda chart: chart.name)
@pytest.mark.parametrize("version", ["1.28", "1.36"])
def test_lint_has_nothing_to_say(chart: Any, version: str) -> None:
    assert kit.findings(chart, kube_version=version) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sidecr": {}}, "additional properties 'sidecr' not allowed"),
        ({"sidecar": {"resource": {}}}, "at '/sidecar': additional properties 'resource' not allowed"),
        ({"sidecar": {"settings": {"pins": "x"}}}, "at '/sidecar/settings': additional properties 'pins' not allowed"),
        ({"sidecar": {"settings": {"limits": {"body": 7.5}}}}, "at '/sidecar/settings/limits/body'"),
        ({"sidecar": {"settings": {"listen": ["127.0.0.1:80"]}}}, "'127.0.0.1:80' does not match pattern ':4010"),
        ({"sidecar": {"settings": {"providers": {"openai": {"base_url": "ftp://x"}}}}}, "providers/openai/base_url"),
        ({"sidecar": {"settings": {"providers": {"x": {"dialect": "openai"}}}}}, "missing property 'base_url'"),
        ({"sidecar": {"secrets": [{"provider": "openai", "secretName": "a"}]}}, "missing property 'secretKey'"),
        ({"model-sidecar-lib": {"sidecar": {"x": 1}}}, "model-sidecar-lib:.*additional properties 'x'"),
        ({"nativeSidecar": "maybe"}, "at '/nativeSidecar': value must be one of 'auto'"),
        ({"injection": {"mode": "magic"}}, "at '/injection/mode'"),
        ({"image": {"digest": "latest"}}, "at '/image/digest'"),
        ({"namespaces": ["A_b"]}, "at '/namespaces/0'"),
        ({"pins": {"content": {"version": 1}}}, "at '/pins/content': got object, want string"),
        ({"image": {"registry": "https://registry.example.com"}}, "at '/image/registry'"),
        (
            {"sidecar": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "llm", "key": True}}}]}},
            "secretKeyRef/key': got boolean, want string",  # YAML's `key: y`
        ),
        ({"image": None}, "missing property 'image'"),
        ({"sidecar": {"settings": None}}, "at '/sidecar': missing property 'settings'"),
        ({"sidecar": {"resources": None}}, "at '/sidecar': missing property 'resources'"),
        ({"pins": {"content": None}}, "at '/pins': missing property 'content'"),
        ({"env": {"noProxy": []}}, "at '/env/noProxy': minItems"),
        ({"webhook": {"port": None}}, "at '/webhook': missing property 'port'"),
        ({"prometheusRule": {"window": None}}, "at '/prometheusRule': missing property 'window'"),
        ({"env": {"baseUrls": {"MY URL": "x"}}}, "at '/env/baseUrls': additional properties 'MY URL'"),
    ],
)
def test_the_schema_refuses(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RenderError, match=f"(?s){sentence}"):
        kit.render(values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kubeVersionOverride": "1.27"}, "Kubernetes 1.27 is too old: Model Sidecar needs 1.28 or later"),
        (
            {"sidecar": {"secrets": [OPENAI_KEY | {"provider": "opnai"}]}},
            r"secrets\[0\]: provider \"opnai\" is not in .*openai\)",
        ),
        ({"sidecar": {"secrets": [OPENAI_KEY, OPENAI_KEY]}}, r"secrets\[1\]: provider \"openai\" has a key already"),
        (
            {
                "sidecar": {
                    "secrets": [OPENAI_KEY],
                    "settings": {"providers": {"openai": {"api_key_env": "K"}}},
                }
            },
            "has a key already, by another entry or by its own api_key_env",
        ),
        (
            {
                "sidecar": {
                    "settings": {"providers": {"eu": {"dialect": "openai", "base_url": "https://eu.example.com"}}}
                }
            },
            "eu and openai both speak openai: set `default: true` on one of them",
        ),
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.enabled needs networkPolicy.mode"),
    ],
)
def test_the_templates_refuse(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RenderError, match=sentence):
        kit.render(values)


def test_a_variable_of_the_sidecar_must_not_stand_twice() -> None:
    env = [{"name": "OPENAI_KEY", "value": "x"}]
    values = {"modelSidecar": {"sidecar": {"env": env, "secrets": [OPENAI_KEY | {"env": "OPENAI_KEY"}]}}}
    with pytest.raises(RenderError, match="variable OPENAI_KEY is set twice"):
        kit.render(values, chart=EXAMPLE)


def test_two_providers_may_share_a_key() -> None:
    secrets = [OPENAI_KEY | {"env": "LLM_KEY"}, OPENAI_KEY | {"provider": "gemini", "env": "LLM_KEY"}]
    deployment = kit.one(kit.render({"modelSidecar": {"sidecar": {"secrets": secrets}}}, chart=EXAMPLE), "Deployment")
    assert [e["name"] for e in kit.sidecar_of(deployment["spec"]["template"]["spec"])["env"]] == ["LLM_KEY"]


def test_a_default_is_taken_out_with_null() -> None:
    values = {
        "sidecar": {"settings": {"providers": {"gemini": None}, "audit": None}},
        "env": {"baseUrls": {"OPENAI_BASE_URL": None, "OPENAI_API_BASE": "http://127.0.0.1:4010/v1"}},
    }
    manifests = kit.render(values)
    settings = kit.one(manifests, "ConfigMap", "model-sidecar-config")["data"]["sidecar.yaml"]
    assert "gemini" not in settings and "audit" not in settings and "anthropic" in settings
    names = kit.one(manifests, "ConfigMap", "model-sidecar-env")["data"].keys()
    assert "OPENAI_BASE_URL" not in names and "OPENAI_API_BASE" in names


def test_a_pod_monitor_where_the_cluster_has_the_api() -> None:
    assert "PodMonitor/model-sidecar" not in kit.named(kit.render())
    manifest = kit.one(
        kit.render({"podMonitor": {"labels": {"release": "p"}}}, api_versions=[MONITORING]), "PodMonitor"
    )
    assert manifest["metadata"]["labels"]["release"] == "p"
    assert schemas.problems(manifest) == []


def test_the_pod_monitor_finds_the_injected_pods() -> None:
    values = {"namespaces": ["shop", "search"]}
    monitor = kit.one(kit.render(values, api_versions=[MONITORING]), "PodMonitor")["spec"]
    template = kit.one(kit.render(chart=EXAMPLE), "Deployment")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert monitor["namespaceSelector"] == {"matchNames": ["shop", "search"]}
    ports = [port["name"] for port in kit.sidecar_of(template["spec"])["ports"]]
    assert [end["port"] for end in monitor["podMetricsEndpoints"]] == ports == ["sidecar-probe"]


def ingress(**values: Any) -> list[Any]:
    policy = kit.one(kit.render({"networkPolicy": {"enabled": True, **values}}), "NetworkPolicy")
    rules: list[Any] = policy["spec"]["ingress"]
    return rules


def test_network_policies_never_touch_other_ports() -> None:
    opened = [{"from": [PEER], "ports": [{"protocol": "TCP", "port": 4012}]}]
    assert ingress(mode="add", **{"from": [PEER]}) == opened
    probe, others = ingress(mode="restrict", **{"from": [PEER]})
    assert [probe] == opened
    tcp = [range(port["port"], port["endPort"] + 1) for port in others["ports"] if port["protocol"] == "TCP"]
    assert {port for ports in tcp for port in ports} == set(range(1, 65536)) - {4012}


def test_a_network_policy_for_nobody_opens_nothing() -> None:
    assert ingress(mode="add", **{"from": []}) == []


def rules_of(role: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = kit.one(kit.render(), "Role", f"model-sidecar-{role}")["rules"]
    return rules


def test_a_viewer_changes_nothing() -> None:
    assert {verb for rule in rules_of("viewer") for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_an_operator_changes_only_the_pins_and_annotations() -> None:
    changes = [r for r in rules_of("operator") if set(r["verbs"]) - {"get", "list", "watch"}]
    assert {(*r["resources"], *r["verbs"], *r.get("resourceNames", [])) for r in changes} == {
        ("configmaps", "create"),
        ("configmaps", "patch", "update", "model-sidecar-pins", "model-sidecar-pins-previous"),
        ("pods", "patch"),
        ("pods/exec", "create", "get"),
    }


def test_the_app_uses_config_maps_that_are_there() -> None:
    kinds = {m["kind"] for m in kit.render({"modelSidecar": {"existing": True}}, chart=EXAMPLE)}
    assert kinds == {"Deployment"}
