"""Pods for the tests of injection, and what the library's `include` makes of them: the policy and the webhook must too.

The values are unkind on purpose: each has to survive YAML, Go templates, CEL and JSON on its way into a pod.
"""

from __future__ import annotations

import copy
import io
import json
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

from tests.kube import kit

Json = dict[str, Any]

UNKIND = (
    "\"double\" 'single' `back` \\back <b>&amp; {{ .Values }} $(HOME) $$ %s # no: comment\n"
    "\tsecond line \u0085 \u2028 é 😀 "
)
VALUES: Json = {
    "image": {"registry": "example.test:5000/team", "pullSecrets": [{"name": "registry-key"}]},
    "sidecar": {
        "env": [
            {"name": "UNKIND", "value": UNKIND},
            {"name": "EMPTY", "value": ""},
            {"name": "YES", "value": "yes"},
            {"name": "NUMBER", "value": "017"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "extraArgs": ["--exact-tokens"],
        "resources": {"requests": {"cpu": "0.5"}, "limits": {"memory": "256Mi", "example.com/things": "2"}},
        "secrets": [
            {"provider": "openai", "secretName": "openai", "secretKey": "api-key"},
            {"provider": "anthropic", "secretName": "llm", "secretKey": "key", "env": "ANTHROPIC_KEY"},
        ],
    },
}
"""For the chart; an app has the same under `modelSidecar`."""

MARKS = {
    "labels": ["model-sidecar.io/inject"],
    "annotations": ["model-sidecar.io/injected-by", "model-sidecar.io/settings-sha256"],
}
"""What is another one for each way in."""


def env(**values: str) -> list[Json]:
    """The `env` of a container."""
    return [{"name": name, "value": value} for name, value in values.items()]


def container(name: str = "web", **fields: Any) -> Json:
    """A container of an app."""
    return {"name": name, "image": f"{name}:1", **fields}


PROXY = "http://proxy:3128"
_OWN = [{"secretRef": {"name": "keys"}}]
_ELSEWHERE = {"configMapKeyRef": {"name": "corporate", "key": "no-proxy"}}

FIT: dict[str, Json] = {
    "plain": {"containers": [container()]},
    "several containers": {"containers": [container(), container("worker", env=env(A="1"))]},
    "init containers": {
        "containers": [container()],
        "initContainers": [container("migrate"), container("mesh", restartPolicy="Always")],
    },
    "volumes": {"containers": [container()], "volumes": [{"name": "own", "emptyDir": {}}]},
    "own base URL": {"containers": [container(env=env(OPENAI_BASE_URL="https://llm.example.test/v1"))]},
    "own sources": {
        "containers": [container(envFrom=[{"secretRef": {"name": "keys"}}, {"configMapRef": {"name": "own"}}])]
    },
    "our source again": {"containers": [container(envFrom=[{"configMapRef": {"name": "model-sidecar-env"}}])]},
    "our source with a prefix": {
        "containers": [container(envFrom=[{"prefix": "X_", "configMapRef": {"name": "model-sidecar-env"}}])]
    },
    "pull secrets": {"containers": [container()], "imagePullSecrets": [{"name": "theirs"}, {"name": "registry-key"}]},
    "UDP on our port": {"containers": [container(ports=[{"containerPort": 4010, "protocol": "UDP"}])]},
    "a port nearby": {"containers": [container(ports=[{"containerPort": 4013}])]},
    "Linux": {"containers": [container()], "os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "linux"}},
    "proxy": {"containers": [container(env=env(HTTPS_PROXY=PROXY))]},
    "proxy in small letters": {"containers": [container(env=env(all_proxy=PROXY))]},
    "proxy of an init container": {
        "containers": [container()],
        "initContainers": [container("fetch", env=env(http_proxy=PROXY, no_proxy="internal"))],
    },
    "proxy and NO_PROXY": {
        "containers": [container(env=env(HTTP_PROXY=PROXY, NO_PROXY="internal, .svc", Z="$(NO_PROXY)"))]
    },
    "proxy and no_proxy": {"containers": [container(env=env(no_proxy=".svc,", HTTP_PROXY=PROXY))]},
    "proxy and both": {
        "containers": [container(env=env(HTTP_PROXY=PROXY, no_proxy="small", NO_PROXY="LOCALHOST capital"))]
    },
    "all is there": {
        "containers": [container(env=env(HTTP_PROXY=PROXY, NO_PROXY="::1,localhost;,127.0.0.1,localhost"))]
    },
    "every host": {"containers": [container(env=env(HTTP_PROXY=PROXY, NO_PROXY=" * "))]},
    "an empty NO_PROXY": {"containers": [container(env=env(HTTP_PROXY=PROXY, NO_PROXY=""))]},
    "NO_PROXY alone": {"containers": [container(env=env(NO_PROXY="internal"))]},
    "NO_PROXY from elsewhere": {
        "containers": [
            container(env=[*env(HTTPS_PROXY=PROXY), {"name": "NO_PROXY", "valueFrom": _ELSEWHERE}, *env(Z="1")])
        ]
    },
    "both from elsewhere": {
        "containers": [
            container(env=[{"name": name, "valueFrom": _ELSEWHERE} for name in ("no_proxy", "NO_PROXY")])
        ]
    },
    "proxy and own sources": {"containers": [container(env=env(HTTP_PROXY=PROXY), envFrom=_OWN)]},
    "NO_PROXY and own sources": {"containers": [container(env=env(NO_PROXY="internal", Z="1"), envFrom=_OWN)]},
    "no_proxy and own sources": {"containers": [container(env=env(no_proxy="", Z="1"), envFrom=_OWN)]},
    "every host and own sources": {"containers": [container(env=env(NO_PROXY="*"), envFrom=_OWN)]},
    "NO_PROXY from elsewhere and own sources": {
        "containers": [container(env=[{"name": "NO_PROXY", "valueFrom": _ELSEWHERE}], envFrom=_OWN)]
    },
    "proxy and our source again": {
        "containers": [
            container(env=env(HTTP_PROXY=PROXY), envFrom=[{"configMapRef": {"name": "model-sidecar-env"}}])
        ]
    },
}  # fmt: skip
"""Specs of pods that get a sidecar."""

UNFIT: dict[str, tuple[Json, str]] = {
    "host network": ({"containers": [container()], "hostNetwork": True}, "hostNetwork"),
    "Windows by os": ({"containers": [container()], "os": {"name": "windows"}}, "Windows"),
    "Windows by node": ({"containers": [container()], "nodeSelector": {"kubernetes.io/os": "windows"}}, "Windows"),
    "our port": (
        {"containers": [container(), container("api", ports=[{"containerPort": 80}, {"containerPort": 4011}])]},
        "container api declares port 4011",
    ),
    "our port in an init container": (
        {"containers": [container()], "initContainers": [container("other", ports=[{"containerPort": 4012}])]},
        "container other declares port 4012",
    ),
    "our volume": (
        {"containers": [container()], "volumes": [{"name": "model-sidecar-pins", "emptyDir": {}}]},
        "a volume named model-sidecar-pins",
    ),
}
"""Specs of pods that can't have one, and words of the reason."""

APP = """\
apiVersion: v1
kind: Pod
{{ include "model-sidecar.pod" (dict "root" $ "pod" (dict "metadata" .Values.metadata "spec" .Values.podSpec)) }}
"""


def app_values(chart_values: Mapping[str, Any] = VALUES) -> Json:
    """The same values as an app's chart has them. The ConfigMaps are there already."""
    return {"modelSidecar": {**copy.deepcopy(dict(chart_values)), "existing": True}}


def chart_of(templates: Mapping[str, str]) -> Chart:
    """An app's chart with these templates, which depends on the library."""
    dependency = {"name": "model-sidecar-lib", "alias": "modelSidecar", "version": ">=0-0", "repository": ""}
    about = {"apiVersion": "v2", "name": "app", "version": "1.0.0", "dependencies": [dependency]}
    files = {"app/Chart.yaml": yaml.safe_dump(about).encode()}
    files |= {f"app/templates/{name}": text.encode() for name, text in templates.items()}
    for path in sorted(kit.LIBRARY.rglob("*")):
        if path.is_file():
            files[f"app/charts/model-sidecar-lib/{path.relative_to(kit.LIBRARY)}"] = path.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return Chart.load_archive(buffer.getvalue())


@cache
def _app() -> Chart:
    return chart_of({"pod.yaml": APP})


def included(
    spec: Json, kube_version: str = "1.36", metadata: Json | None = None, values: Mapping[str, Any] = VALUES
) -> Json:
    """The pod that an app's own chart makes of this spec. Raises kit.RenderError."""
    own = app_values(values) | {"podSpec": spec, "metadata": metadata or {"name": "web"}}
    return kit.one(kit.render(own, chart=_app(), kube_version=kube_version), "Pod")


def injection(kube_version: str = "1.36", values: Mapping[str, Any] = VALUES) -> tuple[bytes, Path]:
    """The webhook's template as the chart renders it, and its name."""
    manifests = kit.render(webhook_values(values), kube_version=kube_version, namespace="model-sidecar")
    data = kit.one(manifests, "ConfigMap", "model-sidecar-injection")["data"]
    return data["injection.yaml"].encode(), Path("injection.yaml")


def webhook_values(values: Mapping[str, Any] = VALUES, **webhook: Any) -> Json:
    """The chart's values for injection by the webhook."""
    return {**values, "namespaces": ["shop"], "injection": {"mode": "webhook"}, "webhook": webhook}


def policy_values(values: Mapping[str, Any] = VALUES, *, beta: bool = False, **injection: Any) -> Json:
    """The chart's values for injection by the policy."""
    return {**values, "injection": {"mode": "policy", "policy": {"beta": beta}, **injection}}


def comparable(pod: Json) -> Json:
    """The pod without what the API server adds to each, and without the marks of the way in."""
    pod = json.loads(json.dumps(pod))
    metadata = pod["metadata"]
    for field, keys in MARKS.items():
        for key in keys:
            metadata.get(field, {}).pop(key, None)
    return {"labels": metadata.get("labels"), "annotations": metadata.get("annotations"), "spec": pod["spec"]}
