"""The schemas of custom resources reject what an API server with strict field validation rejects."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.kube.schemas import check, problems


def rule(**changes: Any) -> dict[str, Any]:
    alert = {"alert": "A", "expr": "up == 0", "for": "5m", "labels": {"severity": "info"}} | changes
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {"groups": [{"name": "g", "interval": "30s", "rules": [alert]}]},
    }


def test_a_good_manifest_passes() -> None:
    check(rule(keep_firing_for="5m"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"fro": "5m"}, "'fro' was unexpected"), ({"labels": {"a": 1}}, "1 is not of type 'string'")],
)
def test_unknown_keys_and_wrong_types_are_told_with_their_place(changes: dict[str, Any], said: str) -> None:
    (problem,) = problems(rule(**changes))
    assert problem.startswith("$.spec.groups[0].rules[0]")
    assert said in problem


def test_a_missing_key_is_told() -> None:
    manifest = rule()
    del manifest["spec"]["groups"][0]["rules"][0]["expr"]
    assert problems(manifest) == ["$.spec.groups[0].rules[0]: 'expr' is a required property"]


def test_metadata_is_checked_too() -> None:
    manifest = rule()
    manifest["metadata"]["lables"] = {}
    assert "'lables' was unexpected" in problems(manifest)[0]


def test_an_unknown_version_is_no_reason_to_skip() -> None:
    check(rule())  # skips where there are no schemas at all
    manifest = deepcopy(rule())
    manifest["apiVersion"] = "monitoring.coreos.com/v9"
    with pytest.raises(AssertionError, match="no such version"):
        problems(manifest)


@pytest.mark.parametrize(
    "manifest",
    [
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": "x"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "x"}},
                "strategy": {"canary": {"maxSurge": "25%", "steps": [{"setWeight": 20}, {"pause": {}}]}},
                "template": {"metadata": {"labels": {"a": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        },
        {
            "apiVersion": "helm.toolkit.fluxcd.io/v2",
            "kind": "HelmRelease",
            "metadata": {"name": "x"},
            "spec": {
                "interval": "5m",
                "chart": {"spec": {"chart": "x", "sourceRef": {"kind": "GitRepository", "name": "x"}}},
                "values": {"any": {"thing": [1, "two"]}},
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "x"},
            "spec": {
                "hosts": ["x"],
                "http": [{"route": [{"destination": {"host": "x", "subset": "canary"}, "weight": 10}]}],
            },
        },
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": "x"},
            "spec": {
                "project": "default",
                "source": {"repoURL": "x", "path": "y", "helm": {"valuesObject": {"a": [1]}}},
                "destination": {"namespace": "x", "server": "y"},
            },
        },
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": {"name": "x"},
            "spec": {"secretName": "x", "dnsNames": ["x"], "issuerRef": {"name": "x", "kind": "Issuer"}},
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": {"name": "x"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "namespaceSelector": {"any": True},
                "podMetricsEndpoints": [{"port": "sidecar-probe", "path": "/metrics", "interval": "30s"}],
            },
        },
    ],
    ids=lambda manifest: str(manifest["kind"]),
)  # fmt: skip
def test_what_others_publish_passes_and_a_typo_in_it_does_not(manifest: dict[str, Any]) -> None:
    check(manifest)
    manifest["spec"]["no_such_key"] = 1
    assert problems(manifest)
