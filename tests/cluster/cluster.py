"""A real Kubernetes API server on this machine: admission, RBAC and schemas as a cluster has them, and no nodes.

`tests/cluster/build` makes the binary (kube-apiserver with an etcd inside). No controller runs beside it: a Deployment
makes no pods, a deleted namespace stays `Terminating`, a new namespace has no `default` service account. So the
ServiceAccount admission plugin is off, and tests create the pods themselves, in a namespace of their own.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from tests.kube.tools import tool

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
USERS: Mapping[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    "operator": ("operators",),
    "developer": ("developers",),
    "nobody": (),
}
"""Users and their groups. RBAC grants all but `admin` nothing until a test binds a role."""
T = TypeVar("T")
START_LIMIT_S = 90.0
CALL_LIMIT_S = 60.0


class Failed(AssertionError):
    """A command or the API server said no; the message is what it said."""


def server_binary() -> Path:
    """Where `tests/cluster/build` puts the API server."""
    path = subprocess.run([HERE / "build", "--path"], check=True, capture_output=True, text=True, timeout=10).stdout
    return Path(path.strip())


def until(attempt: Callable[[], T | None], limit_s: float = 20.0) -> T:
    """The first true answer of `attempt`: policies and webhooks take effect a second after they were written."""
    ends = time.monotonic() + limit_s
    while not (answer := attempt()):
        if time.monotonic() > ends:
            raise Failed(f"it did not happen in {limit_s:g} s")
        time.sleep(0.1)
    return answer


class Cluster:
    """The API server, from `with` to the end of the block."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        self.port = 0
        self._namespaces = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary = tempfile.TemporaryDirectory(prefix="model-sidecar-cluster-")
        self.folder = Path(self._temporary.name)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """What the API server's certificate is checked with. The server writes it itself."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def log(self) -> str:
        """What the API server has logged so far."""
        return (self.folder / "server.log").read_text(errors="replace")

    def token(self, user: str) -> str:
        """What a user proves itself with."""
        assert user in USERS
        return f"token-of-{user}"

    def kubeconfig(self, user: str = "admin") -> Path:
        """A kubeconfig file for one of `USERS`."""
        path = self.folder / f"{user}.kubeconfig"
        if not path.exists():
            server = {"server": self.url, "certificate-authority": str(self.ca)}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": server}],
                "users": [{"name": user, "user": {"token": self.token(user)}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                "current-context": "test",
            }
            path.write_text(json.dumps(config))
            path.chmod(0o600)
        return path

    def environment(self, user: str = "admin") -> dict[str, str]:
        """For kubectl, its plugins and helm: this cluster, and nothing read from or left in the home folder."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        ours = {"KUBECONFIG": str(self.kubeconfig(user)), "KUBECACHEDIR": str(home / "cache"), "HOME": str(home)}
        return {**os.environ, **ours}

    def run(self, *command: str, user: str = "admin", stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Any command with `environment`, whatever its exit code."""
        return subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            env=self.environment(user),
            capture_output=True,
            text=True,
            timeout=CALL_LIMIT_S,
            check=False,
        )

    def kubectl(self, *args: str, user: str = "admin", stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The real kubectl, whatever its exit code."""
        kubectl = tool("kubectl")
        assert kubectl
        return self.run(kubectl, *args, user=user, stdin=stdin)

    def helm(self, *args: str, user: str = "admin", stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The real helm, whatever its exit code."""
        helm = tool("helm")
        assert helm
        return self.run(helm, *args, user=user, stdin=stdin)

    def get(self, *args: str, user: str = "admin") -> Any:
        """`kubectl get … -o json`, read."""
        return json.loads(_good(self.kubectl("get", *args, "-o", "json", user=user)))

    def apply(self, documents: str | Mapping[str, Any], *args: str, user: str = "admin") -> str:
        """`kubectl apply` of YAML, or of one object; answers what kubectl prints."""
        text = documents if isinstance(documents, str) else json.dumps(documents)
        return _good(self.kubectl("apply", "-f", "-", *args, user=user, stdin=text))

    def create(self, document: str | Mapping[str, Any], *args: str, user: str = "admin") -> Any:
        """One object made, as the API server stored it; `--dry-run=server` only shows what admission does to it."""
        text = document if isinstance(document, str) else json.dumps(document)
        return json.loads(_good(self.kubectl("create", "-f", "-", "-o", "json", *args, user=user, stdin=text)))

    def namespace(self, **labels: str) -> str:
        """A new namespace with these labels (`__` stands for `-`); answers its name."""
        self._namespaces += 1
        name = f"test-{self._namespaces}"
        metadata = {"name": name, "labels": {key.replace("__", "-"): value for key, value in labels.items()}}
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        return name

    def stop(self) -> None:
        """End the process, at once: nothing it holds is worth a slow goodbye."""
        if self._process:
            assert self._process.stdin
            self._process.stdin.close()  # it ends with its standard input
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None
        self._temporary.cleanup()

    def _start(self) -> None:
        tokens = (f'{self.token(user)},{user},{user},"{",".join(groups)}"\n' for user, groups in USERS.items())
        (self.folder / "tokens.csv").write_text("".join(tokens))
        key = self.folder / "service-accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True, timeout=60)
        self.port = _free_port()
        with (self.folder / "server.log").open("wb") as log:
            self._process = self._spawn(log, key)
        ends = time.monotonic() + START_LIMIT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > ends:
                raise Failed(f"the API server did not start:\n{self.log[-4000:]}")
            time.sleep(0.1)

    def _spawn(self, log: IO[bytes], key: Path) -> subprocess.Popen[bytes]:
        flags = {
            "embedded-etcd-dir": self.folder / "etcd",
            "cert-dir": self.ca.parent,
            "bind-address": "127.0.0.1",
            "secure-port": self.port,
            "token-auth-file": self.folder / "tokens.csv",
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": "10.96.0.0/24",
            "enable-admission-plugins": "MutatingAdmissionPolicy,MutatingAdmissionWebhook,PodSecurity",
            "disable-admission-plugins": "ServiceAccount",
            # A webhook's Service is followed to the addresses in its EndpointSlices: no kube-proxy routes its IP here.
            "enable-aggregator-routing": "true",
        }
        command = [str(self.binary), *(f"--{name}={value}" for name, value in flags.items())]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder)

    def _ready(self) -> bool:
        """Whether it serves, its own roles and priority classes being there."""
        if not self.ca.exists():
            return False
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token('admin')}"}
        )
        try:
            trust = ssl.create_default_context(cafile=str(self.ca))
            with urllib.request.urlopen(request, timeout=5, context=trust) as answer:
                return bool(answer.status == 200)
        except (OSError, ssl.SSLError):  # an HTTPError is an OSError
            return False


def adding_policy(name: str, label: str, expression: str, *, reinvocation: str = "Never") -> dict[str, Any]:
    """A mutating policy beside ours, with its binding: for pods in namespaces with this label (`key=value`)."""
    key, _, value = label.partition("=")
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": reinvocation,
        "matchConstraints": {"namespaceSelector": {"matchLabels": {key: value}}, "resourceRules": [pods]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    policy = {**head, "kind": "MutatingAdmissionPolicy", "spec": spec}
    binding = {**head, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}}
    return {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}


def _good(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise Failed(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
