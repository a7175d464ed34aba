"""How the reviews of this folder were made: a real API server sends what it would send a webhook, and it is kept.

    python -m tests.kube.reviews.capture

Needs the API server of tests/cluster. It runs without the ServiceAccount admission plugin and without controllers, so
the pods below carry what those put into them; all else in the reviews is the API server's own.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster, server_binary, until
from tests.kube.webhook_kit import REVIEWS, Authority

TOKEN = {
    "name": "kube-api-access-x7k2m",
    "projected": {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {
                "downwardAPI": {
                    "items": [
                        {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                    ]
                }
            },
        ],
    },
}
MOUNT = {"name": TOKEN["name"], "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}


def owned(kind: str, api: str, name: str, labels: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    """A pod as the controller of `kind` makes it."""
    owner = {"apiVersion": api, "kind": kind, "name": name, "uid": "6ac7bd28-3f94-4fd0-9b21-3c2b0c6ad3f1"}
    metadata = {
        "generateName": f"{name}-",
        "labels": {"model-sidecar.io/inject": "true", **labels},
        "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
    }
    shared = {"serviceAccountName": "default", "serviceAccount": "default", "volumes": [TOKEN]}
    containers = [{**container, "volumeMounts": [MOUNT]} for container in spec["containers"]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**spec, **shared, "containers": containers},
    }


PODS = {
    "deployment": owned(
        "ReplicaSet",
        "apps/v1",
        "shop-6d5f8b7c9d",
        {"app": "shop", "pod-template-hash": "6d5f8b7c9d"},
        {
            "containers": [
                {
                    "name": "shop",
                    "image": "shop:2.4.1",
                    "ports": [{"containerPort": 8080, "name": "http"}],
                    "env": [
                        {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "key"}}},
                        {"name": "HTTPS_PROXY", "value": "http://proxy.corp.example:3128"},
                        {"name": "NO_PROXY", "value": ".svc,.cluster.local"},
                    ],
                    "envFrom": [{"secretRef": {"name": "shop-settings"}}],
                    "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}},
                }
            ],
            "initContainers": [{"name": "migrate", "image": "shop:2.4.1", "args": ["migrate"]}],
        },
    ),
    "job": owned(
        "Job",
        "batch/v1",
        "nightly-29391840",
        {"job-name": "nightly-29391840", "batch.kubernetes.io/job-name": "nightly-29391840"},
        {"containers": [{"name": "evals", "image": "evals:1"}], "restartPolicy": "OnFailure"},
    ),
    "daemonset": owned(
        "DaemonSet",
        "apps/v1",
        "log-classifier",
        {"name": "log-classifier", "controller-revision-hash": "86c9b9f8d7", "pod-template-generation": "1"},
        {
            "containers": [{"name": "classifier", "image": "classifier:3"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}
                        ]
                    }
                }
            },
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/disk-pressure", "operator": "Exists", "effect": "NoSchedule"},
            ],
        },
    ),
    "bare": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    },
}
CONTROLLERS = {"deployment": "replicaset-controller", "job": "job-controller", "daemonset": "daemon-set-controller"}


class Capture(BaseHTTPRequestHandler):
    """Keeps each review, and allows what it asks about."""

    kept: list[dict[str, Any]] = []  # noqa: RUF012 - one server, one list

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.kept.append(document)
        response = {"uid": document["request"]["uid"], "allowed": True}
        body = json.dumps({key: document[key] for key in ("apiVersion", "kind")} | {"response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Write the reviews of this folder anew."""
    with tempfile.TemporaryDirectory() as name, Cluster(server_binary()) as cluster:
        folder = Path(name)
        authority = Authority(folder / "ca")
        certificate, key = authority.issue()
        (folder / "pair.pem").write_bytes(certificate + key)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Capture)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pair.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster.create(_configuration(server.server_address[1], authority))
        namespace = cluster.namespace()
        until(lambda: _reached(cluster, namespace))
        time.sleep(1)
        for kept, pod in PODS.items():
            _keep(cluster, namespace, kept, pod)
        bare = ("pod", "bare", "-n", namespace)
        Capture.kept.clear()
        cluster.kubectl("label", *bare, "team=shop")
        _write("update", Capture.kept[0])
        Capture.kept.clear()
        cluster.kubectl("debug", "-n", namespace, "bare", "--image=busybox:1", "--attach=false")
        _write("ephemeral", Capture.kept[0])
        Capture.kept.clear()
        cluster.kubectl("create", "configmap", "settings", "--from-literal=a=b", "-n", namespace)
        _write("configmap", Capture.kept[0])
        Capture.kept.clear()
        cluster.kubectl("delete", *bare, "--wait=false")
        _write("delete", Capture.kept[0])
        server.shutdown()


def _configuration(port: int, authority: Authority) -> dict[str, Any]:
    bundle = base64.b64encode(authority.certificate.read_bytes()).decode()
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"]}
    resources = ["pods", "pods/ephemeralcontainers", "configmaps"]
    hook = {
        "name": "capture.test.example",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/inject/pod", "caBundle": bundle},
        "rules": [rule | {"resources": resources}],
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    return {**kind, "metadata": {"name": "capture"}, "webhooks": [hook]}


def _reached(cluster: Cluster, namespace: str) -> bool:
    cluster.create({**PODS["bare"], "metadata": {"name": "probe"}}, "-n", namespace, "--dry-run=server")
    return bool(Capture.kept)


def _keep(cluster: Cluster, namespace: str, name: str, pod: dict[str, Any]) -> None:
    Capture.kept.clear()
    user = "kubernetes-admin"
    words = ["--as", user, "--as-group", "system:masters"]
    if name in CONTROLLERS:
        user = f"system:serviceaccount:kube-system:{CONTROLLERS[name]}"
        words = ["--as", user, "--as-group", "system:serviceaccounts", "--as-group", "system:masters"]
    cluster.create(pod, "-n", namespace, *words)
    _write(name, Capture.kept[0])


def _write(name: str, document: dict[str, Any]) -> None:
    (REVIEWS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
