"""Bifrost, built from the Go module proxy: a gateway in Go that promises microseconds.

The machine that this was written on could not have the module: its proxy refuses it. So the build and the configuration
follow Bifrost's docs and sources, and have not been seen to run; where they don't, Bifrost is skipped with the reason.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.peers.base import DIRECT, Peer, fill
from benchmarks.peers.install import once, program, run
from benchmarks.processes import Process, free_port
from benchmarks.systems import MODEL, Running

MODULE = "github.com/maximhq/bifrost/transports"
VERSION = "v1.6.8"

CONFIGURATION = """\
{
  "client": {
    "initial_pool_size": 1000,
    "drop_excess_requests": false,
    "enable_logging": false
  },
  "providers": {
    "openai": {
      "keys": [{"name": "bench", "value": "sk-provider", "models": ["*"], "weight": 1.0}],
      "network_config": {
        "base_url": "http://127.0.0.1:{{upstream}}",
        "default_request_timeout_in_seconds": 600,
        "max_retries": 0
      },
      "concurrency_and_buffer_size": {"concurrency": 1000, "buffer_size": 5000}
    }
  },
  "config_store": {"enabled": false},
  "logs_store": {"enabled": false}
}
"""


class Bifrost(Peer):
    name = "bifrost"
    model = f"openai/{MODEL}"  # it finds the provider by the prefix
    setup = (
        "bifrost-http built from the Go module proxy; configuration from a file without a store, request logs off, "
        "pool, concurrency and buffer as its Performance Tuning page has them for up to 5,000 requests/s."
    )

    def install(self) -> None:
        go = program("go", "no Go on this machine")
        program("gcc", "no C compiler on this machine, which Bifrost's SQLite needs")
        once(self.home, VERSION, lambda: self._build(go))

    def _build(self, go: str) -> None:
        what = f"getting {MODULE} {VERSION} from the Go module proxy"
        run([go, "mod", "download", f"{MODULE}@{VERSION}"], what, cwd=self.home)
        cache = Path(run([go, "env", "GOMODCACHE"], "asking Go for its cache").strip())
        source = cache / f"{MODULE}@{VERSION}"
        # Its console is embedded, and made by a build step of its own: an empty page stands in for it.
        page = self.home / "index.html"
        page.touch()
        overlay = self.home / "overlay.json"
        overlay.write_text(json.dumps({"Replace": {str(source / "bifrost-http" / "ui" / "index.html"): str(page)}}))
        run(
            [go, "build", "-buildvcs=false", "-overlay", overlay, "-o", self.home / "bifrost-http", "./bifrost-http"],
            "building Bifrost", cwd=source, env={"CGO_ENABLED": "1", "GOWORK": "off", "GOFLAGS": ""},
        )  # fmt: skip

    def version(self) -> str:
        return VERSION

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        port = free_port()
        (folder / "config.json").write_text(fill(CONFIGURATION, upstream=upstream))
        options = ["-app-dir", str(folder), "-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
        process = Process(
            [str(self.home / "bifrost-http"), *options], log=folder / "out.log", cores=cores, cwd=folder, env=DIRECT
        )
        process.wait_for_port(port)
        return Running(self.name, process, port, model=self.model)
