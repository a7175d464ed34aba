"""A load and an upstream that a proxy in C can't outrun, where this machine has them: wrk, and nginx as the provider.

Our own load and provider are Python and share a core; what they do at most is less than what nginx or HAProxy pass on.
Without wrk or nginx they take their place, and the figure's note says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.lab import FailedError, Lab, sound, target
from benchmarks.measures.bench import Busy, Watch
from benchmarks.processes import Process, free_port
from benchmarks.provider import END_OF_HEADERS, Script, answer
from benchmarks.systems import Running

CONNECTIONS = 32
SCRIPT = Path(__file__).with_name("wrk.lua")
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

STATIC = """daemon off;
{user}worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 '{body}'; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """What a system did, and how busy it and its core were meanwhile."""

    rps: float
    busy: Busy

    @property
    def by_cpu(self) -> float:
        """What it would do with the whole core, at the same cost of each request."""
        return self.rps / self.busy.own


def program(name: str) -> str | None:
    """Its path, also where only root has it on the PATH."""
    return shutil.which(name, path=PATH)


def wrk() -> str | None:
    return program("wrk")


def nginx() -> str | None:
    return program("nginx")


@contextmanager
def upstream(lab: Lab) -> Iterator[int]:
    """The port of nginx with the provider's answer; the provider's own where there is none."""
    path = nginx()
    if path is None:
        yield lab.provider.port
        return
    folder, port = lab.place("static"), free_port()
    body = answer(Script()).partition(END_OF_HEADERS)[2].decode()
    assert "'" not in body and "$" not in body  # nginx would read them
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = STATIC.format(user=user, workers=min(4, len(lab.cores.others)), folder=folder, port=port, body=body)
    (folder / "nginx.conf").write_text(text)
    process = Process(
        [path, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")],
        log=folder / "out.log", cores=lab.cores.others,
    )  # fmt: skip
    try:
        process.wait_for_port(port)
        yield port
    finally:
        process.stop()


def saturate(lab: Lab, to: Running, seconds: float, requests: int) -> Reached:
    """As many requests as it answers: for so long by wrk, or so many by our own load. Raises FailedError."""
    watch = Watch(lab, to)
    if (path := wrk()) is None:
        make = partial(load.closed, target(to), connections=CONNECTIONS, requests=requests)
        done, took = requests, sound(load.run(make, limit_s=120), to.name).seconds
    else:
        done, took = _wrk(path, lab.folder / "request", to, seconds, min(4, len(lab.cores.others)))
    return Reached(done / took, watch.busy())


def _wrk(path: str, file: Path, to: Running, seconds: float, threads: int) -> tuple[int, float]:
    """How many were answered, in how many seconds. wrk counts in whole seconds."""
    file.write_bytes(target(to).template)
    command = [path, f"-t{threads}", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{to.port}{to.path}", "--", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    line = next((line for line in ended.stdout.splitlines() if line.startswith("told ")), None)
    if line is None:
        raise FailedError(f"wrk: {ended.stderr[-300:] or ended.stdout[-300:]}")
    done, took_us, failed = (int(part) for part in line.split()[1:])
    if failed or not done:
        raise FailedError(f"{to.name}: {failed} failed of {done} by wrk")
    return done, took_us / 1e6
