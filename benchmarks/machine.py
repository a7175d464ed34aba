"""Facts that every report carries: the machine, the versions, the commit; and whether someone else uses the CPU."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.measures import strong
from benchmarks.processes import core_s
from benchmarks.systems import ROOT

PACKAGES = ("aiohttp", "uvloop", "msgspec", "orjson", "multidict", "yarl", "prometheus-client", "PyYAML")
BUSY = 0.5  # load average, or CPUs in use, from which on figures suffer


def machine() -> dict[str, str]:
    """CPU, cores, kernel, memory, load average."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()}",
        "memory": _memory(),
        "load average at start": load,
    }


def versions() -> dict[str, str]:
    """Of Python, the packages that matter to its speed, and the load."""
    found = {"python": f"{platform.python_version()} ({platform.python_implementation()})"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    if path := strong.wrk():
        found["wrk"] = _said(path, "--version").removeprefix("wrk").strip().split(" [", maxsplit=1)[0]
    if path := strong.nginx():
        found["nginx (upstream at saturation)"] = _said(path, "-v").rpartition("/")[2]
    return found


def commit(tree: Path = ROOT) -> str:
    """Its short name, and `+dirty` where files differ from it; `unknown` outside a checkout."""
    name = _git(tree, "rev-parse", "--short=12", "HEAD")
    if not name:
        return "unknown"
    return name + ("+dirty" if _git(tree, "status", "--porcelain") else "")


def date() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def warnings(seconds: float = 0.5) -> list[str]:
    """What would spoil figures, in words: others that use the CPU now or did in the last minute, too few cores."""
    found = []
    average = os.getloadavg()[0]
    if average > BUSY:
        found.append(f"the load average is {average:.1f}: another process used the CPU in the last minute")
    if (used := _cpus_in_use(seconds)) > BUSY:
        found.append(f"{used:.1f} CPUs are in use by other processes now")
    if len(os.sched_getaffinity(0)) < 2:
        found.append("there is one core only: what is measured shares it with the load")
    if not sys.platform.startswith("linux"):
        found.append("this isn't Linux: CPU and memory of processes can't be read")
    return found


def _cpus_in_use(seconds: float) -> float:
    """How many CPUs' worth of time went to anything at all meanwhile."""
    cores = os.sched_getaffinity(0)
    before = sum(core_s(core) for core in cores)
    time.sleep(seconds)
    return (sum(core_s(core) for core in cores) - before) / seconds


def _first(file: str, key: str) -> str:
    """The value of the first line `key : value`."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _memory() -> str:
    kib = _first("/proc/meminfo", "MemTotal").split()
    return f"{int(kib[0]) / 1024**2:.1f} GiB" if kib else "unknown"


def _git(tree: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(tree), *arguments],  # noqa: S607
            capture_output=True, text=True, timeout=20, check=False,
        ).stdout.strip()  # fmt: skip
    except OSError:
        return ""


def _said(path: str, flag: str) -> str:
    """The first line of what it says of itself, on either stream."""
    ended = subprocess.run([path, flag], capture_output=True, text=True, timeout=10, check=False)
    return next(iter((ended.stdout + ended.stderr).splitlines()), "")
