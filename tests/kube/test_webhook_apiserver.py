"""A real API server asks the real webhook: what is in the pods that it then stores."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, Failed, adding_policy, server_binary, until
from tests.kube.tools import tool
from tests.kube.webhook_kit import Injector, Json, injector

INJECT = "model-sidecar.io/inject"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Injector]:
    with injector(tmp_path_factory.mktemp("injector")) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(running: Injector) -> Iterator[Cluster]:
    if not server_binary().exists() or not tool("kubectl"):
        pytest.skip("no API server, or no kubectl: run tests/cluster/build")
    with Cluster(server_binary()) as found:
        found.create(configuration(running))
        namespace = found.namespace()
        until(lambda: "model-sidecar" in names(found.create(pod("probe", {INJECT: "true"}), *at(namespace, dry=True))))
        yield found


def configuration(running: Injector) -> Json:
    """Two webhooks, as the chart has them: pods that ask, and namespaces that ask."""
    bundle = base64.b64encode(running.authority.certificate.read_bytes()).decode()

    def hook(path: str, **selectors: Any) -> Json:
        return {
            "name": f"{path}.model-sidecar.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "reinvocationPolicy": "IfNeeded",
            "failurePolicy": "Fail",
            "clientConfig": {"url": f"https://{running.listen}/inject/{path}", "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            **selectors,
        }

    absent = {"matchExpressions": [{"key": INJECT, "operator": "NotIn", "values": ["true", "false"]}]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "model-sidecar"},
        "webhooks": [
            hook("pod", objectSelector={"matchLabels": {INJECT: "true"}}),
            hook("namespace", namespaceSelector={"matchLabels": {INJECT: "true"}}, objectSelector=absent),
        ],
    }


def pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> Json:
    container = {"name": "app", "image": "app:1", "env": [{"name": "HTTP_PROXY", "value": "http://proxy:1"}]}
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def at(namespace: str, *, dry: bool = False) -> list[str]:
    return ["-n", namespace, *(["--dry-run=server"] if dry else [])]


def names(stored: Json) -> list[str]:
    return [c["name"] for c in stored["spec"].get("initContainers", []) + stored["spec"]["containers"]]


def test_a_pod_that_asks_is_stored_with_the_sidecar(cluster: Cluster) -> None:
    init = [{"name": "migrate", "image": "app:1"}]
    stored = cluster.create(pod("asks", {INJECT: "true"}, initContainers=init), *at(cluster.namespace()))
    assert names(stored) == ["model-sidecar", "migrate", "app"]
    assert stored["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    app = stored["spec"]["containers"][0]
    assert app["envFrom"] == [{"configMapRef": {"name": "model-sidecar-env"}}]
    assert [entry["name"] for entry in app["env"]] == ["HTTP_PROXY", "NO_PROXY", "no_proxy"]
    assert stored["metadata"]["labels"]["model-sidecar.io/injected"] == "true"
    assert stored["metadata"]["annotations"]["model-sidecar.io/injected-by"] == "webhook"


def test_a_namespace_that_asks_gets_it_for_all_but_those_that_opt_out(cluster: Cluster) -> None:
    namespace = cluster.namespace(**{INJECT: "true"})
    assert "model-sidecar" in names(cluster.create(pod("one"), *at(namespace)))
    assert names(cluster.create(pod("two", {INJECT: "false"}), *at(namespace))) == ["app"]


def test_nobody_asked(cluster: Cluster) -> None:
    assert names(cluster.create(pod("plain"), *at(cluster.namespace()))) == ["app"]


def test_a_pod_that_cannot_have_it_is_refused_in_words(cluster: Cluster) -> None:
    asks = pod("host", {INJECT: "true"}, hostNetwork=True)
    with pytest.raises(Failed, match=r"denied the request: The pod uses hostNetwork.*: remove it, or opt out"):
        cluster.create(asks, *at(cluster.namespace()))


def test_where_the_namespace_asked_it_goes_through_with_a_warning(cluster: Cluster) -> None:
    namespace = cluster.namespace(**{INJECT: "true"})
    done = cluster.kubectl("apply", "-f", "-", *at(namespace), stdin=json.dumps(pod("host", hostNetwork=True)))
    assert done.returncode == 0, done.stderr
    assert "Warning: The pod uses hostNetwork" in done.stderr
    stored = cluster.get("pod", "host", *at(namespace))
    assert names(stored) == ["app"]
    assert "hostNetwork" in stored["metadata"]["annotations"]["model-sidecar.io/skipped"]


def test_what_the_webhook_says_when_it_answers_no_review_reaches_the_user(cluster: Cluster, running: Injector) -> None:
    wrong = configuration(running)
    wrong["metadata"]["name"] = "wrong"
    wrong["webhooks"] = wrong["webhooks"][:1]
    wrong["webhooks"][0] |= {"name": "wrong.example.com", "namespaceSelector": {"matchLabels": {"wrong": "true"}}}
    wrong["webhooks"][0]["clientConfig"]["url"] = f"https://{running.listen}/nowhere"
    cluster.create(wrong)
    namespace = cluster.namespace(wrong="true")

    def refusal() -> str:
        return cluster.kubectl("create", "-f", "-", *at(namespace, dry=True), stdin=json.dumps(asks)).stderr

    asks = pod("lost", {INJECT: "true"})
    assert "There is nothing here: reviews go to /inject/pod or" in until(refusal)


MESH = adding_policy(
    "mesh.example.com",
    "mesh=true",
    'has(object.spec.initContainers) && !object.spec.containers.exists(c, c.name == "mesh") ? '
    '[JSONPatch{op: "add", path: "/spec/containers/0", '
    'value: Object.spec.containers{name: "mesh", image: "mesh:1"}}] : []',
    reinvocation="IfNeeded",
)


def test_a_container_that_comes_later_gets_the_environment(cluster: Cluster, running: Injector) -> None:
    """The policy adds its container after our webhook, so the API server asks our webhook once more."""
    cluster.apply(MESH)
    namespace = cluster.namespace(mesh="true")
    asks = pod("twice", {INJECT: "true"})
    until(lambda: "mesh" in names(cluster.create(asks, *at(namespace, dry=True))))
    stored = cluster.create(asks, *at(namespace))
    assert names(stored) == ["model-sidecar", "mesh", "app"]
    assert stored["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": "model-sidecar-env"}}]
    said = until(lambda: told(running, namespace) if len(told(running, namespace)) > 1 else None)
    assert said == ["injected", "topped_up"]


def told(running: Injector, namespace: str) -> list[str]:
    """What the log says of the namespace's pods that were really made."""
    lines = [line for line in running.process.log() if line.get("namespace") == namespace]
    return [line["result"] for line in lines if not line["dry_run"]]
