"""A fleet to swap pin files in: real `sidecar serve` processes as pods, the fake API server, the real kubectl.

A pod's mounts follow its ConfigMaps the moment it is annotated, as kubelet's do, by the same swap of a symlink; without
an annotation they never do, which is kubelet's slow minute made long.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.kube.api import Api, Document
from tests.kube.tools import needed
from tests.pins.kit import Mount
from tests.process import kit

HERE = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NAMESPACE = "shop"
LIMIT_S = 60.0


def pins(generation: int, *, percent: float = 0, model: str = "gpt-a-2026-01-01", provider: str = "openai") -> str:
    """A small pin file: `chat.core`, where `percent` is above 0 with a canary, and `chat.other`."""
    variants = f", variants: {{canary: {{model: gpt-b-2026-01-01, percent: {percent:g}}}}}" if percent else ""
    return f"""\
generation: {generation}
unlisted: reject
models:
  {model}: {{provider: {provider}, context: 128000, price: {{input: 1.0, output: 2.0}}}}
  gpt-b-2026-01-01: {{provider: openai, context: 64000, price: {{input: 1.5, output: 3.0}}}}
  gpt-c-2026-01-01: {{provider: openai, context: 64000, price: {{input: 1.5, output: 3.0}}}}
pins:
  chat.core: {{stable: {model}{variants}}}
  chat.other: {{stable: gpt-c-2026-01-01}}
"""


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def configmap(name: str, data: Mapping[str, str], **metadata: Any) -> Document:
    about = {"name": name, "namespace": NAMESPACE, **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": dict(data)}


@dataclass
class RealPod:
    """A pod with a sidecar that really serves. `kubelet` False: its mounts never change."""

    name: str
    folder: Path
    process: kit.Process | None = None
    kubelet: bool = True
    phase: str = "Running"
    injected: bool = True
    ending: bool = False
    labels: dict[str, str] = field(default_factory=lambda: {"model-sidecar.io/injected": "true"})
    answers_at: int | None = None
    """A port in the stead of the sidecar's: nobody listens there."""
    _mounts: dict[str, Mount] = field(default_factory=dict)

    def document(self) -> Document:
        port = self.answers_at or (int(self._at("probe").rpartition(":")[2]) if self.process else 4012)
        ours = {"name": "model-sidecar", "image": "model-sidecar:1", "restartPolicy": "Always"}
        ours["ports"] = [{"name": "sidecar-probe", "containerPort": port}]
        metadata: Document = {"name": self.name, "namespace": NAMESPACE, "labels": self.labels}
        if self.ending:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        spec = {"containers": [{"name": "app", "image": "app:1"}], "initContainers": [ours] if self.injected else []}
        status = {"phase": self.phase, "conditions": [{"type": "Ready", "status": "True"}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}

    def _at(self, what: str) -> str:
        assert self.process is not None
        return self.process.addresses[what][0]

    def address(self, port: int) -> tuple[str, int]:
        return "127.0.0.1", port

    def command(self, words: list[str]) -> tuple[list[str], Mapping[str, str]]:
        assert words[0] == "sidecar"
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SIDECAR_")}
        return [str(BIN / "sidecar"), *words[1:]], clean | {"SIDECAR_ADMIN_LISTEN": self._at("admin")}

    def annotated(self, configmaps: Mapping[str, Document]) -> None:
        if self.kubelet and self.process is not None:
            self.mount(configmaps)

    def mount(self, configmaps: Mapping[str, Document]) -> None:
        for name, folder in (("model-sidecar-pins", "pins"), ("model-sidecar-pins-previous", "last-good")):
            if name in configmaps:
                mount = self._mounts.setdefault(folder, Mount(self.folder / folder))
                mount.swap(configmaps[name]["data"]["pins.yaml"])

    def chat(self, count: int = 1, name: str = "chat.core") -> list[int]:
        """Statuses of so many requests, each of another user."""
        assert self.process is not None
        asks = [{**kit.CHAT, "model": name, "user": f"user-{at}"} for at in range(count)]
        return [kit.call(f"{self.process.url}/v1/chat/completions", ask).status for ask in asks]

    def label(self) -> str:
        """The generation that it serves by."""
        assert self.process is not None
        return str(kit.call(f"{self.process.admin}/pins").json()["generation"])


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Stage:
    """The API server, its pods, and a person with kubectl."""

    api: Api
    folder: Path
    kubectl: str
    pods: list[RealPod] = field(default_factory=list)

    def env(self, user: str = "alice", **more: str) -> dict[str, str]:
        """PATH has the plugin and kubectl, and nothing is read from or left in the home folder."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        path = f"{BIN}:{Path(self.kubectl).parent}:{os.environ['PATH']}"
        ours = {"PATH": path, "KUBECTL": self.kubectl, "HOME": str(home), "KUBECACHEDIR": str(home / "cache")}
        git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        return {**os.environ, **ours, **git, "KUBECONFIG": str(self.api.kubeconfig(user, NAMESPACE)), **more}

    def popen(self, *words: str | Path, user: str = "alice", env: Mapping[str, str] | None = None) -> Any:
        """`kubectl model-sidecar …`, running."""
        return subprocess.Popen(
            [self.kubectl, "model-sidecar", *map(str, words)],
            env=dict(env or self.env(user)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str | Path, user: str = "alice", env: Mapping[str, str] | None = None) -> Done:
        """`kubectl model-sidecar …`, ended."""
        with self.popen(*words, user=user, env=env) as process:
            try:
                out, err = process.communicate(timeout=LIMIT_S)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Done(process.returncode, out, err)

    def file(self, text: str, name: str = "new.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def live(self, name: str = "model-sidecar-pins") -> Document:
        return self.api.configmaps[NAMESPACE, name]

    def content(self, name: str = "model-sidecar-pins") -> str:
        return str(self.live(name)["data"]["pins.yaml"])

    def add(self, pod: RealPod) -> RealPod:
        self.pods.append(pod)
        self.api.pods[NAMESPACE, pod.name] = pod
        return pod


def applied(at: Stage, text: str, *words: str) -> None:
    done = at.run("apply", at.file(text), "--yes", *words)
    assert done.code == 0, done.err


def refused(at: Stage, *words: str | Path, code: int = 1, user: str = "alice") -> str:
    """What it says; nothing may have been written."""
    before = dict(at.api.configmaps)
    done = at.run(*words, user=user)
    assert done.code == code, done
    assert at.api.configmaps == before
    assert "Traceback" not in done.err
    return done.err


@contextlib.contextmanager
def stage(folder: Path, text: str | None = None, *, monotonic: bool = False, **metadata: Any) -> Iterator[Stage]:
    """A namespace in which `text` is live, and no pods yet."""
    live = text if text is not None else pins(7)
    with Api(folder / "api") as api:
        made = Stage(api, folder, needed("kubectl"))
        metadata = {"labels": {"model-sidecar.io/pins": "live"}, **metadata}
        api.put(configmap("model-sidecar-pins", {"pins.yaml": live}, **metadata))
        settings = sidecar_yaml("http://127.0.0.1:4020/v1") | {"monotonic": monotonic}
        api.put(configmap("model-sidecar-config", {"sidecar.yaml": yaml.safe_dump(settings)}))
        yield made


def sidecar_yaml(base_url: str) -> dict[str, Any]:
    """The fleet's settings."""
    openai = {"dialect": "openai", "base_url": base_url, "api_key_file": "secrets/openai/key", "proxy": "none"}
    return {"pins": "../pins/pins.yaml", "pins_last_good": "../last-good/pins.yaml", "providers": {"openai": openai}}


@contextlib.contextmanager
def fleet(at: Stage, names: Sequence[str], base_url: str, *, monotonic: bool = False) -> Iterator[list[RealPod]]:
    """Real sidecars, started side by side, each by the files that are live."""
    with contextlib.ExitStack() as stack:
        pods = [at.add(_started(at, name, base_url, stack, monotonic=monotonic)) for name in names]
        for pod in pods:
            assert pod.process is not None
            pod.process.addresses = kit.wait(lambda one=pod.process: kit.listening(one), LIMIT_S)
        yield pods


def _started(at: Stage, name: str, base_url: str, stack: contextlib.ExitStack, *, monotonic: bool) -> RealPod:
    folder = at.folder / name
    (folder / "config").mkdir(parents=True)
    pod = RealPod(name, folder)
    here = {one: document for (space, one), document in at.api.configmaps.items() if space == NAMESPACE}
    pod.mount(here)
    own = {"listen": ["127.0.0.1:0"], "admin": {"listen": "127.0.0.1:0"}, "probe": {"listen": "127.0.0.1:0"}}
    settings = sidecar_yaml(base_url) | own | {"monotonic": monotonic, "drain": {"idle": "0ms", "grace": "1s"}}
    settings["providers"]["openai"].pop("api_key_file")
    (folder / "config" / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    words = ("serve", "--config", str(folder / "config" / "sidecar.yaml"))
    pod.process = stack.enter_context(kit.command(folder, *words))
    return pod
