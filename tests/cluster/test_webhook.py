"""The chart's webhook from end to end: `helm install`, the certificate that it made, the Service, the real process.

The API server follows the Service to this machine by an EndpointSlice that the test writes: no controller runs here. So
what it checks is all the chart's own: name, authority and certificate, paths, selectors, template.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import Cluster, until
from tests.cluster.policy_kit import ASK, OPT_OUT, answer, dry, names, pod
from tests.kube import kit
from tests.kube.injection_cases import FIT, UNFIT, Json, comparable, included, webhook_values
from tests.kube.tools import needed, own_address
from tests.process.kit import command, listening, wait

NAME = "model-sidecar-injection"
OWN = "model-sidecar"


@dataclass
class Installed:
    """The chart in a cluster, and the webhook's process."""

    cluster: Cluster
    folder: Path
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def values(self) -> Path:
        return self.folder / "values.yaml"

    def helm(self, verb: str, *words: str) -> None:
        done = self.cluster.helm(verb, "demo", *words, "--namespace", OWN)
        assert done.returncode == 0, done.stderr

    def upgrade(self, *words: str) -> None:
        self.helm("upgrade", str(kit.CHART), "--values", str(self.values), *words)

    def secret(self) -> dict[str, bytes]:
        data = self.cluster.get("secret", f"{NAME}-certificate", "-n", OWN)["data"]
        return {name: base64.b64decode(text) for name, text in data.items()}

    def trusted(self) -> set[bytes]:
        found = self.cluster.get("mutatingwebhookconfiguration", NAME)["webhooks"]
        return {base64.b64decode(hook["clientConfig"]["caBundle"]) for hook in found}

    def template(self) -> str:
        text: str = self.cluster.get("configmap", NAME, "-n", OWN)["data"]["injection.yaml"]
        return text

    def start(self) -> None:
        """The process as its Deployment has it, but for the ports, which are free ones; and the way to it."""
        deployment = self.cluster.get("deployment", NAME, "-n", OWN)
        words = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        files = {"injection/injection.yaml": self.template().encode()}
        files |= {f"certificate/{name}": data for name, data in self.secret().items()}
        for name, data in files.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(data)
        here = [word.replace("/etc/model-sidecar", str(self.folder)) for word in words]
        ports = [f"--listen={own_address()}:0", "--health-listen=127.0.0.1:0"]
        process = self.running.enter_context(command(self.folder, *here, *ports))
        host, _, port = wait(lambda: listening(process))["listen"][0].rpartition(":")
        self.cluster.apply(endpoints(host, int(port)))
        namespace = self.cluster.namespace()
        until(lambda: names(dry_or_none(self.cluster, pod(namespace, FIT["plain"], ASK))))


def dry_or_none(cluster: Cluster, document: Json) -> Json:
    """An empty pod where the webhook can't be reached yet."""
    return {"spec": {}} if answer(cluster, document) else dry(cluster, document)


@pytest.fixture(scope="module")
def installed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    needed("helm")
    own_address()
    chart = Installed(cluster, tmp_path_factory.mktemp("webhook"))
    chart.values.write_text(yaml.safe_dump(webhook_values() | {"namespaces": [cluster.namespace()]}))
    chart.helm("install", str(kit.CHART), "--create-namespace", "--values", str(chart.values))
    try:
        with chart.running:
            chart.start()
            yield chart
    finally:
        chart.helm("uninstall")


def endpoints(host: str, port: int) -> Json:
    """Where the Service leads, as a cluster's controller would write it."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": OWN, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
        "ports": [{"name": "webhook", "port": port, "protocol": "TCP"}],
    }


CASES = (
    "plain",
    "several containers",
    "init containers",
    "own base URL",
    "proxy and NO_PROXY",
    "proxy and own sources",
)


@pytest.mark.parametrize("case", CASES)
def test_the_stored_pod_is_what_the_include_makes(installed: Installed, case: str) -> None:
    namespace = installed.cluster.namespace()
    asked = dry(installed.cluster, pod(namespace, FIT[case], ASK))
    bare = dry(installed.cluster, included(FIT[case], metadata={"name": "web", "namespace": namespace}))
    assert asked["metadata"]["annotations"]["model-sidecar.io/injected-by"] == "webhook"
    assert comparable(asked) == comparable(bare)


def test_a_namespace_asks_for_its_pods_and_a_pod_opts_out(installed: Installed) -> None:
    asking = installed.cluster.namespace(**ASK)
    assert names(dry(installed.cluster, pod(asking, FIT["plain"]))) == ["model-sidecar"]
    assert names(dry(installed.cluster, pod(asking, FIT["plain"], OPT_OUT))) == []
    assert names(dry(installed.cluster, pod(asking, FIT["plain"], ASK))) == ["model-sidecar"]


def test_a_pod_that_asks_and_cant_have_it_is_refused(installed: Installed) -> None:
    said = answer(installed.cluster, pod(installed.cluster.namespace(), UNFIT["host network"][0], ASK))
    assert (
        f'admission webhook "pod.injection.model-sidecar.io" denied the request: {"The pod uses hostNetwork"}' in said
    )


def test_a_pod_whose_namespace_asks_and_cant_have_it_says_so(installed: Installed) -> None:
    asking = installed.cluster.namespace(**ASK)
    done = installed.cluster.kubectl(
        "create", "-f", "-", "-o", "json", stdin=json.dumps(pod(asking, UNFIT["host network"][0]))
    )
    assert "The pod uses hostNetwork" in json.loads(done.stdout)["metadata"]["annotations"]["model-sidecar.io/skipped"]
    assert "Warning: The pod uses hostNetwork" in done.stderr


def test_its_own_namespace_and_kube_system_are_left_alone(installed: Installed) -> None:
    for namespace in (OWN, "kube-system"):
        assert names(dry(installed.cluster, pod(namespace, FIT["plain"], ASK))) == []


def test_its_own_pods_may_run_where_pod_security_is_restricted(installed: Installed) -> None:
    strict = installed.cluster.namespace(**{"pod-security.kubernetes.io/enforce": "restricted", **ASK})
    template = installed.cluster.get("deployment", NAME, "-n", OWN)["spec"]["template"]
    stored = dry(installed.cluster, pod(strict, template["spec"], template["metadata"]["labels"]))
    assert names(stored) == []


def test_injected_pods_may_run_where_pod_security_is_restricted(installed: Installed) -> None:
    strict = installed.cluster.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    context["seccompProfile"] = {"type": "RuntimeDefault"}
    spec: Json = {"containers": [{"name": "web", "image": "web:1", "securityContext": context}]}
    assert names(dry(installed.cluster, pod(strict, spec, ASK))) == ["model-sidecar"]


def test_an_upgrade_keeps_the_certificate_and_changes_the_template(installed: Installed) -> None:
    before = installed.secret()
    installed.upgrade("--set", "image.tag=next")
    assert installed.secret() == before
    assert installed.trusted() == {before["ca.crt"]}
    assert "model-sidecar:next" in installed.template()
    installed.upgrade()


def test_a_deleted_secret_is_made_anew_by_an_upgrade(installed: Installed) -> None:
    before = installed.secret()
    installed.cluster.kubectl("delete", "secret", f"{NAME}-certificate", "-n", OWN)
    try:
        installed.upgrade()
        after = installed.secret()
        assert after["ca.crt"] != before["ca.crt"]
        assert installed.trusted() == {after["ca.crt"]}
    finally:
        data = {name: base64.b64encode(text).decode() for name, text in before.items()}
        installed.cluster.kubectl("patch", "secret", f"{NAME}-certificate", "-n", OWN, "-p", json.dumps({"data": data}))
        installed.upgrade()
    assert installed.trusted() == {before["ca.crt"]}


def test_while_it_is_gone_pods_that_ask_are_refused_and_no_others(installed: Installed) -> None:
    cluster, plain = installed.cluster, FIT["plain"]
    asking, silent = cluster.namespace(**ASK), cluster.namespace()
    installed.running.close()
    try:
        said = answer(cluster, pod(silent, plain, ASK))
        assert 'failed calling webhook "pod.injection.model-sidecar.io"' in said
        assert f"https://{NAME}.{OWN}.svc:443/inject/pod?timeout=5s" in said
        assert 'failed calling webhook "namespace.injection.model-sidecar.io"' in answer(cluster, pod(asking, plain))
        for unasked in (pod(silent, plain), pod(asking, plain, OPT_OUT), pod(OWN, plain, ASK)):
            assert answer(cluster, unasked) == ""
    finally:
        installed.start()
