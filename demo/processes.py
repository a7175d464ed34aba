"""The two processes of the tour: the fake provider and the sidecar, in a folder of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT_S = 20.0


def port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any free port."""
    for candidate in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port")


class Stage:
    """Starts both processes on the sample files and ends them again."""

    def __init__(self, folder: Path, *, any_ports: bool = False) -> None:
        """`any_ports`: free ones at once, instead of the usual ones where they are free."""
        self.folder = folder
        wanted = (0, 0, 0) if any_ports else (4020, 4010, 4011)
        self.provider_port, self.port, self.admin_port = (port(number) for number in wanted)
        self._processes: list[subprocess.Popen[bytes]] = []
        sample = (ROOT / "config" / "sidecar.yaml").read_text()
        for old, new in ((4020, self.provider_port), (4010, self.port), (4011, self.admin_port)):
            sample = re.sub(rf"127\.0\.0\.1:{old}\b", f"127.0.0.1:{new}", sample)
        self.config = folder / "sidecar.yaml"
        self.config.write_text(sample)
        self.pins = folder / "pins.yaml"
        shutil.copy(ROOT / "config" / "pins.yaml", self.pins)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def __enter__(self) -> Self:
        self._start("provider", "provider", "--listen", f"127.0.0.1:{self.provider_port}", "--pace", "10ms")
        self._start("sidecar", "serve", "--config", str(self.config))
        deadline = time.monotonic() + START_LIMIT_S
        while not self._ready():
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._processes):
                logs = "\n".join(f.read_text() for f in sorted(self.folder.glob("*.log")))
                self.close()
                raise RuntimeError(f"the demo did not start:\n{logs}")
            time.sleep(0.02)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End both processes; the sidecar first, so that its last calls still find a provider."""
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(4)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def swap(self, text: str) -> None:
        """Replace the pin file the way an operator's tool does: write beside it, rename over it."""
        fresh = self.pins.with_name("pins.yaml.new")
        fresh.write_text(text)
        fresh.replace(self.pins)

    def status(self) -> dict[str, object]:
        """What /pins says."""
        with urllib.request.urlopen(f"{self.admin}/pins", timeout=5) as answer:  # noqa: S310 - our own admin port
            found: dict[str, object] = json.load(answer)
            return found

    def _start(self, name: str, *args: str) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        env = {k: v for k, v in os.environ.items() if not k.startswith("SIDECAR_")}
        # A process group of its own: Ctrl-C in the terminal reaches the tour, and the tour ends its processes.
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "sidecar", *args],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=env,
                start_new_session=True,
            )
        )
        log.close()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.admin}/readyz", timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False
