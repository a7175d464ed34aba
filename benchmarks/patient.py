"""A sidecar with a heart (`heartbeat.py`), and what one does to it."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks import systems
from benchmarks.heartbeat import LAST_WORDS, SOCKET
from benchmarks.lab import FailedError, Lab
from benchmarks.systems import CHAT, ROOT

HEART = str(ROOT / "benchmarks" / "heartbeat.py")


@dataclass(slots=True)
class Gaps:
    """What the heart told: the greatest gaps in ms, by kind. `where` is only filled with `--where`."""

    process_ms: float
    wall_ms: float
    loop_ms: float
    gc_ms: float
    beats: int
    where: dict[str, int] = field(default_factory=dict)


class Patient:
    """Use it as a context. `where`: tell what ran while a beat was late, too. `settings`: of `systems.sidecar`."""

    def __init__(self, lab: Lab, *, tree: Path = ROOT, where: bool = False, **settings: Any) -> None:
        self.lab = lab
        self.folder = lab.place("patient")
        self.running = systems.sidecar(
            self.folder,
            lab.provider.port,
            cores=lab.measured,
            tree=tree,
            python=(sys.executable, HEART, *(("--where",) if where else ())),
            **settings,
        )
        self._heart = socket.socket(socket.AF_UNIX)
        self._heart.settimeout(30)
        for _ in range(200):
            try:
                self._heart.connect(str(self.folder / SOCKET))
                break
            except OSError:  # it listens a moment before it has a heart
                time.sleep(0.02)

    def take(self) -> Gaps:
        """The gaps since the last time."""
        self._heart.sendall(b"\n")
        told = b""
        while not told.endswith(b"\n"):
            told += self._heart.recv(1 << 16)
        return Gaps(**json.loads(told))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._heart.close()
        self.running.stop()

    def stop(self) -> Gaps:
        """End it; the gaps from the last time on."""
        self.running.stop()
        return Gaps(**json.loads((self.folder / LAST_WORDS).read_text()))

    def ask(self, path: str, body: object = None) -> bytes:
        """One request of its admin port."""
        assert self.running.admin is not None
        return _ask(self.running.admin, path, None if body is None else json.dumps(body).encode())[0]

    def chat(self, body: bytes) -> str:
        """One completion, however long it takes; the generation that it was served by."""
        return _ask(self.running.port, CHAT, body)[1]

    def models(self) -> None:
        """What an SDK's `models.list()` asks for."""
        _ask(self.running.port, "/v1/models", None)

    def swap(self, text: str, name: str, generation: int) -> None:
        """Rename a pin file into its place, and wait until requests are served by it."""
        fresh = self.folder / "fresh"
        fresh.write_text(text)
        fresh.rename(self.folder / name)
        ends = time.monotonic() + 20
        while self.chat(chat_body("x")) != str(generation):
            if time.monotonic() > ends:
                raise FailedError(f"generation {generation} is not in use after 20 s")
            time.sleep(0.1)


def _ask(port: int, path: str, body: bytes | None) -> tuple[bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}
    connection.request("GET" if body is None else "POST", path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    if answer.status != 200:
        raise FailedError(f"{path}: {answer.status} {data[:300]!r}")
    return data, answer.headers.get("x-sidecar-generation", "")


def chat_body(*texts: str, model: str = "chat.core", **more: object) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": model, "messages": messages, **more}, separators=(",", ":")).encode()
