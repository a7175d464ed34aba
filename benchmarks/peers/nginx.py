"""nginx, from Debian: what the best-known C proxy costs that forwards and decides nothing."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import Peer, fill
from benchmarks.peers.install import debian, run
from benchmarks.processes import Process, free_port
from benchmarks.systems import Running

CONFIGURATION = """\
daemon off;
pid {{folder}}/nginx.pid;
error_log stderr warn;
worker_processes 1;                # one core, one worker

events {
    worker_connections 16384;      # 5,000 streams are 10,000 connections
}

http {
    access_log off;

    client_body_temp_path {{folder}}/client_body;
    proxy_temp_path {{folder}}/proxy;
    fastcgi_temp_path {{folder}}/fastcgi;
    uwsgi_temp_path {{folder}}/uwsgi;
    scgi_temp_path {{folder}}/scgi;

    # A prompt of a megabyte is refused by default, and one over 16 KiB goes through a file on disk.
    client_max_body_size 2m;
    client_body_buffer_size 2m;

    # By default a connection is closed after 1,000 requests: in the middle of a measurement.
    keepalive_requests 1000000000;

    upstream provider {
        server 127.0.0.1:{{upstream}};
        keepalive 512;             # without it, each request opens a connection of its own
        keepalive_requests 1000000000;
    }

    server {
        listen 127.0.0.1:{{port}} backlog=8192;

        location / {
            proxy_pass http://provider;
            # The two lines that upstream keep-alive needs.
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            # A stream's event goes out when it came in. It is off for plain answers too: nginx doesn't read the body
            # that asks for a stream, and providers don't send X-Accel-Buffering.
            proxy_buffering off;
            proxy_read_timeout 600s;
        }
    }
}
"""


class Nginx(Peer):
    name = "nginx"
    setup = (
        "Debian's package; one worker, upstream keep-alive over HTTP/1.1 as its upstream module's page asks for, "
        "no access log, proxy_buffering off so that streams flow, request bodies held in memory. It forwards only."
    )

    def install(self) -> None:
        debian("nginx", "nginx-light")

    def version(self) -> str:
        return run([debian("nginx", "nginx-light"), "-v"], "nginx -v").strip().rpartition("/")[2]

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        port = free_port()
        file = folder / "nginx.conf"
        file.write_text(fill(CONFIGURATION, folder=folder, port=port, upstream=upstream))
        command = [debian("nginx", "nginx-light"), "-p", str(folder), "-c", str(file), "-e", "stderr"]
        process = Process(command, log=folder / "out.log", cores=cores, cwd=folder)
        process.wait_for_port(port)
        return Running(self.name, process, port, model=self.model)
