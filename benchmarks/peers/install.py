"""How peers get onto a machine: from Debian, PyPI, npm and the Go module proxy, by their ordinary clients.

Versions are pinned in `requirements/`. What can't be had ends in a SkippedError with a clear word; nothing retries.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.peers.base import SkippedError

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # not on the PATH of everybody, and Debian's servers are there
ADDRESS = re.compile(r"\s*\S*://\S+")
INSTALL_LIMIT_S = 900


def program(name: str, otherwise: str) -> str:
    """The path of a program of this machine. Raises SkippedError(otherwise)."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    if found is None:
        raise SkippedError(otherwise)
    return found


def run(command: Sequence[str | Path], what: str, *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What it printed, on both streams. Raises SkippedError with the last line that it printed, without addresses."""
    try:
        done = subprocess.run(
            [str(part) for part in command], check=False, text=True, stdin=subprocess.DEVNULL, cwd=cwd,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_LIMIT_S,
            env=None if env is None else os.environ | env,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SkippedError(f"{what} failed: {exc}") from exc
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        last = ADDRESS.sub("", lines[-1])[:200] if lines else f"exit {done.returncode}"
        raise SkippedError(f"{what} failed: {last}")
    return done.stdout


def debian(name: str, package: str) -> str:
    """The path of a server from Debian, installed if we may."""
    missing = f"no {name} on this machine, and no root with apt-get to install Debian's {package}"
    try:
        return program(name, missing)
    except SkippedError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], "apt-get update", env=quiet)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], f"installing {package}", env=quiet)
    return program(name, missing)


def once(home: Path, key: str, make: Callable[[], None]) -> None:
    """Fill `home` by `make`, unless it was filled for the same key. A half-filled one is made anew."""
    stamp = home / "installed"
    if stamp.is_file() and stamp.read_text() == key:
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    make()
    stamp.write_text(key)


def key_of(*files: Path) -> str:
    """Changes when one of these files does, or Python's version."""
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def python_environment(home: Path, lock: Path) -> None:
    """An environment of its own, with exactly what the lock holds, hashes checked."""
    name = home.name

    def make() -> None:
        run([sys.executable, "-m", "venv", home], f"an environment for {name}")
        python, quiet = home / "bin" / "python", ("--disable-pip-version-check", "--quiet")
        run([python, "-m", "pip", "install", *quiet, "--require-hashes", "-r", lock], f"installing {name} from PyPI")

    once(home, key_of(lock), make)


def python_version(home: Path, package: str) -> str:
    """The version of a package in an environment made by `python_environment`."""
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    return run([home / "bin" / "python", "-c", ask], f"asking for {package}'s version").strip()


def node_packages(home: Path, requirements: Path) -> None:
    """The packages of `requirements` (package.json and its lock) in `home/node_modules`, hashes checked."""
    npm = program("npm", "no npm on this machine")
    files = [requirements / "package.json", requirements / "package-lock.json"]

    def make() -> None:
        for file in files:
            shutil.copy(file, home)
        # No script of a package runs: these need none.
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], f"installing {home.name} from npm", cwd=home)

    once(home, key_of(*files), make)
