"""HAProxy, from Debian: the other C proxy, a load balancer by trade."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import Peer, fill
from benchmarks.peers.install import debian, run
from benchmarks.processes import Process, free_port
from benchmarks.systems import Running

CONFIGURATION = """\
global
    nbthread 1                     # one core, one thread
    maxconn 8000                   # 5,000 streams fit; each is two sockets

defaults
    mode http
    no log
    timeout connect 5s
    timeout client 10m             # a stream may be silent for long
    timeout server 10m
    # Connections to the provider are shared by all clients. Its manual advises `always` where the server is known to
    # keep its idle connections, and so does our provider.
    http-reuse always
    # An answer in chunks is held until a packet is full, for up to 200 ms: fine for files, not for a stream of tokens.
    # Its manual has this option for payloads that are read as they come.
    option http-no-delay

frontend gateway
    bind 127.0.0.1:{{port}} backlog 8192
    default_backend provider

backend provider
    server provider 127.0.0.1:{{upstream}}
"""


class HAProxy(Peer):
    name = "haproxy"
    setup = (
        "Debian's package; one thread, HTTP mode, http-reuse always as its manual advises for servers that keep idle "
        "connections, http-no-delay so that an event isn't held for up to 200 ms, no log. It forwards only."
    )

    def install(self) -> None:
        debian("haproxy", "haproxy")

    def version(self) -> str:
        return run([debian("haproxy", "haproxy"), "-v"], "haproxy -v").split()[2]

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        port = free_port()
        file = folder / "haproxy.cfg"
        file.write_text(fill(CONFIGURATION, port=port, upstream=upstream))
        process = Process(  # -db: in the foreground
            [debian("haproxy", "haproxy"), "-db", "-f", str(file)], log=folder / "out.log", cores=cores, cwd=folder
        )
        process.wait_for_port(port)
        return Running(self.name, process, port, model=self.model)
