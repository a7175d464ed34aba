"""For the webhook's tests: certificates, a template, the real process, reviews over TLS, and RFC 6902 of our own."""

from __future__ import annotations

import base64
import contextlib
import copy
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sidecar.kube.injection.template import Template, read
from tests.process.kit import Answer, Process, call, command, listening, wait

REVIEWS = Path(__file__).with_name("reviews")
Json = dict[str, Any]

CONTAINER: Json = {
    "name": "model-sidecar",
    "image": "model-sidecar:0.3.0",
    "args": ["serve", "--config", "/etc/model-sidecar/config/sidecar.yaml"],
    "restartPolicy": "Always",
    "ports": [{"name": "sidecar-probe", "containerPort": 4012, "protocol": "TCP"}],
    "startupProbe": {"httpGet": {"path": "/readyz", "port": "sidecar-probe"}, "periodSeconds": 1},
    "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "volumeMounts": [
        {"name": "model-sidecar-config", "mountPath": "/etc/model-sidecar/config", "readOnly": True},
        {"name": "model-sidecar-pins", "mountPath": "/etc/model-sidecar/pins", "readOnly": True},
        {"name": "model-sidecar-last-good", "mountPath": "/etc/model-sidecar/last-good", "readOnly": True},
    ],
}
LOOPBACK = ["127.0.0.1", "localhost", "::1"]


def template_data(*, native: bool = True) -> Json:
    """injection.yaml as the chart means it."""
    container = copy.deepcopy(CONTAINER)
    if not native:
        del container["restartPolicy"]
    return {
        "version": 1,
        "native": native,
        "container": container,
        "volumes": [
            {"name": "model-sidecar-config", "configMap": {"name": "model-sidecar-config"}},
            {"name": "model-sidecar-pins", "configMap": {"name": "model-sidecar-pins"}},
            {"name": "model-sidecar-last-good", "configMap": {"name": "model-sidecar-pins-previous", "optional": True}},
        ],
        "envFrom": {"configMapRef": {"name": "model-sidecar-env"}},
        "noProxy": list(LOOPBACK),
        "labels": {"model-sidecar.io/injected": "true"},
        "annotations": {"model-sidecar.io/injected-by": "webhook", "model-sidecar.io/version": "0.3.0"},
    }


def template_of(data: Json) -> Template:
    return read(yaml.safe_dump(data).encode(), Path("injection.yaml"))


NATIVE = template_of(template_data())
CLASSIC = template_of(template_data(native=False))


def review(name: str) -> Json:
    """A review as an API server 1.36 sent it: `reviews/NAME.json`."""
    found: Json = json.loads((REVIEWS / f"{name}.json").read_text())
    return found


def pod_of(name: str) -> Json:
    found: Json = review(name)["request"]["object"]
    return found


def applied(document: Json, ops: list[Json]) -> Json:
    """RFC 6902 `add`, `replace` and `remove`, as strict as the RFC is."""
    result = copy.deepcopy(document)
    for op in ops:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
        at: Any = result
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at[part]
        value = copy.deepcopy(op.get("value"))
        if isinstance(at, list):
            index = len(at) if last == "-" else int(last)
            assert 0 <= index <= len(at) - (op["op"] != "add"), op
            if op["op"] == "add":
                at.insert(index, value)
            elif op["op"] == "replace":
                at[index] = value
            else:
                del at[index]
        else:
            assert isinstance(at, dict), op
            assert op["op"] == "add" or last in at, op
            if op["op"] == "remove":
                del at[last]
            else:
                at[last] = value
    return result


# --- certificates ----------------------------------------------------------------------------------------------------


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate, self._key = folder / "ca.crt", folder / "ca.key"
        self._count = 0
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-subj", "/CN=test authority"
        )

    def issue(self, name: str = "injector", days: int = 30) -> tuple[bytes, bytes]:
        """A certificate for this machine and its key, PEM."""
        self._count += 1
        certificate, key = self._folder / f"{self._count}.crt", self._folder / f"{self._count}.key"
        _openssl(
            *("req", "-x509", "-CA", self.certificate, "-CAkey", self._key, *_NEW_KEY, "-days", str(days)),
            *("-keyout", key, "-out", certificate, "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        return certificate.read_bytes(), key.read_bytes()

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Mount:
    """A directory as kubelet mounts a ConfigMap or a Secret: it swaps by renaming `..data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        folder.mkdir(parents=True)

    def write(self, files: dict[str, bytes]) -> None:
        """Swap to these files, all at once."""
        self._count += 1
        fresh = self.folder / f"..{self._count}"
        fresh.mkdir()
        for name, data in files.items():
            (fresh / name).write_bytes(data)
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        pending, data_link = self.folder / "..data_tmp", self.folder / "..data"
        pending.symlink_to(fresh.name)
        old = data_link.resolve() if data_link.exists() else None
        pending.rename(data_link)
        if old is not None:
            shutil.rmtree(old)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


# --- the process -----------------------------------------------------------------------------------------------------


@dataclass
class Injector:
    """A running `sidecar inject-webhook` and what it has mounted."""

    process: Process
    authority: Authority
    certificates: Mount
    template: Mount
    listen: str
    health: str

    def get(self, path: str) -> Answer:
        return call(f"http://{self.health}{path}")

    def metric(self, line: str) -> float | None:
        """The value behind a metric's name and labels as they are printed."""
        for found in self.get("/metrics").body.decode().splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        return None

    def connect(self) -> http.client.HTTPSConnection:
        host, _, port = self.listen.rpartition(":")
        return http.client.HTTPSConnection(host, int(port), timeout=20, context=self.authority.trust())

    def raw(self) -> ssl.SSLSocket:
        """A TLS connection without HTTP."""
        host, _, port = self.listen.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=15)
        return self.authority.trust().wrap_socket(plain, server_hostname="localhost")

    def send(self, body: bytes | Json, path: str = "/inject/pod", method: str = "POST", **headers: str) -> Answer:
        """One request on a connection of its own."""
        with contextlib.closing(self.connect()) as connection:
            return request(connection, body, path, method, **headers)


def request(
    connection: http.client.HTTPSConnection, body: bytes | Json, path: str, method: str = "POST", **headers: str
) -> Answer:
    """As the API server sends it: with its deadline in the query."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"{path}?timeout=10s", payload, own)
    answer = connection.getresponse()
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def ops_of(answer: Answer) -> list[Json]:
    """The patch of an AdmissionReview; empty if there is none."""
    response = answer.json()["response"]
    ops: list[Json] = json.loads(base64.b64decode(response.get("patch", "W10=")))
    return ops


@contextlib.contextmanager
def injector(folder: Path, *words: str, native: bool = True) -> Iterator[Injector]:
    """The real process, ready."""
    authority = Authority(folder / "ca")
    certificates, template = Mount(folder / "certificates"), Mount(folder / "template")
    certificate, key = authority.issue()
    certificates.write({"tls.crt": certificate, "tls.key": key})
    template.write({"injection.yaml": yaml.safe_dump(template_data(native=native)).encode()})
    arguments = (
        *("--template", str(template / "injection.yaml")),
        *("--cert-file", str(certificates / "tls.crt"), "--key-file", str(certificates / "tls.key")),
        *("--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--drain", "200ms", *words),
    )
    with command(folder, "inject-webhook", *arguments) as process:
        addresses = wait(lambda: listening(process))
        yield Injector(process, authority, certificates, template, addresses["listen"][0], addresses["health"][0])


# --- schemas ---------------------------------------------------------------------------------------------------------


@cache
def validator() -> Any:
    import kubernetes_validate

    return kubernetes_validate


def validate(pod: Json, version: str) -> None:
    """Against the strict schema of that Kubernetes version."""
    validator().validate(pod, version, strict=True)
