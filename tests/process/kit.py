"""Real processes: `sidecar serve` and `sidecar provider` on free ports, ended with the test whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

SIDECAR = Path(sys.executable).with_name("sidecar")
LIMIT_S = 10.0
CHAT = {"model": "chat.core", "messages": [{"role": "user", "content": "hi"}]}
PINS = """\
generation: 7
unlisted: reject
models: {gpt-a-2026-01-01: {provider: openai}, gpt-b-2026-01-01: {provider: openai}}
pins: {chat.core: {stable: gpt-a-2026-01-01}}
"""


def wait(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """What `condition` gives, once that is true."""
    ends = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)
    return found


@dataclass
class Process:
    """A running command; `said` is what it wrote to standard error so far."""

    popen: subprocess.Popen[bytes]
    errors: Path
    folder: Path
    addresses: dict[str, list[str]] = field(default_factory=dict)

    def said(self) -> str:
        return self.errors.read_text(errors="replace")

    def log(self) -> list[dict[str, Any]]:
        text = self.said()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line.startswith("{")]

    def warned(self, words: str) -> bool:
        return any(words in line["message"] for line in self.log())

    @property
    def url(self) -> str:
        return f"http://{self.addresses['listen'][0]}"

    @property
    def admin(self) -> str:
        return f"http://{self.addresses['admin'][0]}"

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def ended(self, limit_s: float = LIMIT_S) -> int:
        """The exit code."""
        return self.popen.wait(limit_s)


@contextlib.contextmanager
def command(folder: Path, *words: str, env: Mapping[str, str] | None = None, **more: Any) -> Iterator[Process]:
    """Any command of `sidecar`, killed at the end if it still runs."""
    errors = folder / f"stderr-{time.monotonic_ns()}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SIDECAR_")} | dict(env or {})
    with errors.open("wb") as stderr:
        options = {"stdout": subprocess.DEVNULL, "stderr": stderr, "cwd": folder} | more
        popen = subprocess.Popen([SIDECAR, *words], env=clean, **options)
    try:
        yield Process(popen, errors, folder)
    finally:
        popen.kill()
        popen.wait()
        for pipe in (popen.stdout, popen.stdin):
            if pipe is not None:
                pipe.close()


def listening(process: Process) -> dict[str, list[str]] | None:
    """The addresses that its log tells, once it listens."""
    assert process.popen.poll() is None, process.said()
    for line in process.log():
        if line["message"] == "listening":
            return {k: v for k, v in line.items() if isinstance(v, list)}
    return None


@contextlib.contextmanager
def serve(folder: Path, base_url: str, *words: str, pins: str = PINS, **more: Any) -> Iterator[Process]:
    """A sidecar that is ready. `settings` are laid over its sidecar.yaml, the rest goes to `command`."""
    config = {
        "listen": ["127.0.0.1:0"],
        "admin": {"listen": "127.0.0.1:0"},
        "pins": "pins.yaml",
        "providers": {"openai": {"dialect": "openai", "base_url": base_url, "proxy": "none"}},
        "events": {"path": "events.jsonl"},
        "drain": {"idle": "100ms", "grace": "1s"},
    } | more.pop("settings", {})
    (folder / "sidecar.yaml").write_text(yaml.safe_dump(config))
    (folder / "pins.yaml").write_text(pins)
    with command(folder, "serve", "--config", str(folder / "sidecar.yaml"), *words, **more) as process:
        process.addresses = wait(lambda: listening(process))
        yield process


def serve_once(folder: Path, words: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and standard error of a `sidecar serve` that should end by itself."""
    with command(folder, "serve", *words, env=env) as process:
        return process.ended(), process.said()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def opened(url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    """The answer to a GET, or to a POST if there is a body; read as it comes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2 * LIMIT_S)
    try:
        payload = None if body is None else json.dumps(body)
        own = {} if body is None else {"content-type": "application/json"}
        connection.request("GET" if body is None else "POST", parts.path, payload, own | dict(headers or {}))
        yield connection.getresponse()
    finally:
        connection.close()


def call(url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    with opened(url, body, headers) as answer:
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def chat(process: Process, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
    return call(f"{process.url}/v1/chat/completions", CHAT | more, headers)


def ready(process: Process) -> int:
    return call(f"{process.admin}/readyz").status


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
