"""A real image, built by tools/image with buildah on a base that debootstrap makes, and processes contained in it.

The base stands in for the official Python image, which is not to be had everywhere: Debian's own Python of the same
minor version. Base and last image stay in the user's cache, so a run on unchanged sources builds nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.process.kit import wait

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "model-sidecar" / "image"
SUITE = "trixie"
BASE = "localhost/python:slim"
NAME = "localhost/model-sidecar"
INPUTS = (
    "Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml", "sidecar", "requirements", "config",
    "tools/image", "tools/image-tree", "tools/image-bytecode",
)  # fmt: skip
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def missing() -> str | None:
    """Why no image can be built and run here, in one sentence; None where it can."""
    tools = [tool for tool in ("buildah", "debootstrap", "bwrap") if shutil.which(tool) is None]
    if tools:
        return f"building and running the image needs {', '.join(tools)} (Debian: buildah debootstrap bubblewrap)"
    if os.geteuid() != 0:
        return "making a base with debootstrap and running the image as user 65532 needs root"
    return None


def environment() -> dict[str, str]:
    """buildah with a storage of its own, so that neither the user's images nor these get in each other's way."""
    settings = CACHE / "storage.conf"
    if not settings.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        settings.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{CACHE}/storage"\nrunroot = "{CACHE}/run"\n')
    return os.environ | {"CONTAINERS_STORAGE_CONF": str(settings), "BUILDAH_ISOLATION": "chroot"}


def command(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What a command prints. Its errors fail the test, with all that it said."""
    whole = environment() | dict(env or {})
    done = subprocess.run(words, check=False, cwd=cwd, env=whole, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One process at a time: pytest's workers share the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def snapshot(folder: Path) -> Path:
    """A checkout of the sources as they are now: one commit of a fixed date, so that equal sources are equal images."""
    for name in INPUTS:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    who = {"DATE": "2026-01-02T03:04:05Z", "NAME": "Test", "EMAIL": "test@example.org"}
    identity = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    command("git", "init", "-q", str(folder))
    command("git", "-C", str(folder), "add", "-A")
    command("git", "-C", str(folder), "commit", "-q", "-m", "snapshot", env=identity)
    return folder


def make_base() -> None:
    """The stand-in for the official image: Debian with its Python, in the storage once and for all."""
    if command("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        return
    tree = CACHE / "base"
    shutil.rmtree(tree, ignore_errors=True)
    packages = "python3,python3-venv,ca-certificates"
    command("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(tree))
    # Packages may come through a company's proxy, whose certificate this machine knows.
    shutil.copyfile(HOST_CERTIFICATES, tree / "etc/ssl/certs/ca-certificates.crt")
    # Like the official image: no packages' archives and lists, no bytecode of the standard library.
    unused = [tree / "var/cache/apt/archives", tree / "var/lib/apt/lists", *(tree / "usr/lib").rglob("__pycache__")]
    for folder in unused:
        shutil.rmtree(folder)
    container = command("buildah", "from", "scratch")
    command("buildah", "copy", "--quiet", container, str(tree), "/")
    command("buildah", "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
    command("buildah", "commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(tree)


def build(checkout: Path, tag: str) -> str:
    """What tools/image says at its end."""
    said = command(
        str(checkout / "tools/image"),
        env={"ENGINE": "buildah", "IMAGE": tag, "PYTHON_IMAGE": BASE, "SOURCE": "https://example.org/model-sidecar"},
    )
    return said[said.rindex("\nimage ") + 1 :]


def prune(tag: str = "") -> None:
    """Takes an image and the layers of earlier builds away: the next build starts afresh, the cache does not grow."""
    if tag:
        command("buildah", "rmi", tag)
    command("buildah", "rmi", "--prune", "--force")


@dataclass(frozen=True)
class Image:
    """A built image: its files mounted at `root`."""

    tag: str
    root: Path
    checkout: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its OCI configuration: Entrypoint, Cmd, Env, User, Labels."""
        config = json.loads(command("buildah", "inspect", "--type", "image", self.tag))["OCIv1"]
        found: dict[str, Any] = config["config"]
        return found

    @property
    def digest(self) -> str:
        return command("buildah", "inspect", "--type", "image", "--format", "{{.FromImageDigest}}", self.tag)

    def contained(self, *words: str, mounts: Mapping[Path, str] | None = None) -> list[str]:
        """A command line that runs `words`, or the image's own entry point and command, as Kubernetes' restricted pods
        do: as process 1, user 65532, a read-only root without any writable folder, no capabilities, no new privileges.
        Only the network is the machine's: its loopback.
        """
        binds = [word for source, target in (mounts or {}).items() for word in ("--ro-bind", str(source), target)]
        env = [word for pair in self.config["Env"] for word in ("--setenv", *pair.split("=", 1))]
        user, group = self.config["User"].split(":")
        return [
            "bwrap", "--ro-bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev",
            *binds,
            "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--die-with-parent", "--clearenv", *env,
            "--cap-drop", "ALL", *(f for c in ("SETUID", "SETGID", "SETPCAP") for f in ("--cap-add", f"CAP_{c}")),
            "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
            "--inh-caps=-all", "--bounding-set=-all", "--",
            *(words or (*self.config["Entrypoint"], *self.config["Cmd"])),
        ]  # fmt: skip

    def run(self, *words: str) -> str:
        """What a command prints that ends by itself."""
        return command(*self.contained(*words))


@contextlib.contextmanager
def image(folder: Path) -> Iterator[Image]:
    """The image of the sources as they are now, built if the cache does not have it."""
    checkout = snapshot(folder)
    tag = f"{NAME}:{command('git', '-C', str(checkout), 'rev-parse', '--short=12', 'HEAD')}"
    with alone():
        make_base()
        if not command("buildah", "images", "--quiet", "--filter", f"reference={tag}"):
            for old in command("buildah", "images", "--quiet", "--filter", f"reference={NAME}").split():
                subprocess.run(["buildah", "rmi", "--force", old], check=False, capture_output=True, env=environment())
            prune()
            build(checkout, tag)
            prune()
        container = command("buildah", "from", "--pull-never", tag)
        root = Path(command("buildah", "mount", container))
    try:
        yield Image(tag, root, checkout)
    finally:
        command("buildah", "rm", container)


@dataclass
class Contained:
    """A contained process that runs. `pid` is the process itself, as the machine sees it."""

    popen: subprocess.Popen[bytes]
    out: Path
    errors: Path
    pid: int = 0

    def find(self) -> bool:
        """Is it there, as its user? bwrap stays its parent, and hands on no signal."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        self.pid = int(children[0]) if children else 0
        return bool(self.pid) and self.status("Uid").startswith("65532")

    def status(self, key: str) -> str:
        """A line of the kernel's status of the process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:"))


@contextlib.contextmanager
def started(words: list[str], folder: Path) -> Iterator[Contained]:
    """A contained process, killed at the end if it still runs."""
    out, errors = folder / f"out-{time.monotonic_ns()}", folder / f"errors-{time.monotonic_ns()}"
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        popen = subprocess.Popen(words, stdout=stdout, stderr=stderr)
    process = Contained(popen, out, errors)
    try:
        wait(process.find)
        yield process
    finally:
        if popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or popen.pid, signal.SIGKILL)
        popen.wait()
