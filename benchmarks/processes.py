"""Processes under measurement: each on a core of its own, with what the kernel knows of it.

CPU comes from the kernel's own accounting of the process and its descendants, not from a stopwatch: it is the steadiest
figure on a noisy machine. It is read through the process's CPU clock, in nanoseconds; /proc/<pid>/stat counts the same
in hundredths of a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


class StartError(Exception):
    """A process that did not come up. The message ends with what it printed."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: what is measured has a core of its own; the load and the provider share the others."""

    measured: int
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], frozenset(cores[1:] or cores))


def _cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3): CPUCLOCK_SCHED of a process
    except OSError:  # it has ended
        return 0.0


def core_s(core: int) -> float:
    """CPU seconds for which this core was busy since the machine started, to the tick; 0 where that isn't told."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return 0.0
    ticks = next((line.split()[1:9] for line in lines if line.startswith(f"cpu{core} ")), [])
    busy = sum(int(part) for number, part in enumerate(ticks) if number not in {3, 4})  # but idle and iowait
    return busy / os.sysconf("SC_CLK_TCK")


class Process:
    """A started process, in a group of its own. Its output goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cores: frozenset[int] | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.log = log
        self.listening_s = 0.0  # how long it took until it listened, once `wait_for_port` has said so
        self.begun = time.monotonic()
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                list(command), stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=cwd,
                env=None if env is None else os.environ | env, start_new_session=True,
                preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - no threads
            )  # fmt: skip
        self.pid = self._popen.pid

    def pids(self) -> Iterator[int]:
        """This process and its descendants."""
        waiting = [self.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            for task in (PROC / str(pid) / "task").glob("*/children"):
                try:
                    waiting.extend(int(child) for child in task.read_text().split())
                except OSError:
                    continue

    def cpu_s(self) -> float:
        """CPU seconds used so far, by all its threads and all descendants that are alive, to the nanosecond."""
        return sum(_cpu_s(pid) for pid in self.pids())

    def memory_mib(self) -> float:
        """Resident memory, shared pages counted in their part (PSS where the kernel tells, else RSS)."""
        kib = 0
        for pid in self.pids():
            try:
                lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
                kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration):
                kib += self._rss_kib(pid)
        return kib / 1024

    def rss_mib(self) -> float:
        return sum(self._rss_kib(pid) for pid in self.pids()) / 1024

    @staticmethod
    def _rss_kib(pid: int) -> int:
        try:
            lines = (PROC / str(pid) / "status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)

    def wait_for_port(self, port: int, *, seconds: float = 30.0) -> float:
        """Until it listens; how long that took from its start, in seconds. Raises StartError."""
        while time.monotonic() - self.begun < seconds:
            if self._popen.poll() is not None:
                raise StartError(f"It ended with {self._popen.returncode}: {self.tail()}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    self.listening_s = time.monotonic() - self.begun
                    return self.listening_s
            time.sleep(0.002)
        raise StartError(f"It did not listen on port {port} within {seconds:.0f} s: {self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def stop(self, *, seconds: float = 5.0) -> None:
        """SIGTERM to its group, SIGKILL to what is left of it."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, sign)
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        self._popen.wait()
