"""Portkey's AI gateway, from npm: TypeScript on Node.js."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import DIRECT, REQUIREMENTS, Peer, SkippedError
from benchmarks.peers.install import node_packages, program, run
from benchmarks.processes import Process, free_port
from benchmarks.systems import MODEL, Running

# requirements/portkey pins @hono/node-server to the version in Portkey's own lock. Its range lets in later ones, with
# which each stream is a 500 (Portkey-AI/gateway#1389); with that one it doesn't start on Node.js 24 (#1604).
TOO_NEW_NODE = 24
PACKAGE = Path("node_modules") / "@portkey-ai" / "gateway"


def headers(upstream: int) -> dict[str, str]:
    """Its configuration: it comes with each request."""
    return {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1"}


class Portkey(Peer):
    name = "portkey"
    model = MODEL  # its real name: an alias would be one more header, with a configuration to parse each time
    setup = (
        "@portkey-ai/gateway from npm, `node build/start-server.js --headless` with NODE_ENV=production, as its "
        "deployment page has it; provider and host by header, as in its quick start. No retries, cache or guardrails."
    )
    warm_up = 4000  # V8 compiles by use: the first 500 cost three times as much as those after 4,000

    def install(self) -> None:
        node = program("node", "no Node.js on this machine")
        told = run([node, "--version"], "asking for Node.js's version").strip()
        if int(told.lstrip("v").split(".")[0]) >= TOO_NEW_NODE:
            raise SkippedError(f"it doesn't start on Node.js {TOO_NEW_NODE} or later, and this is {told}")
        node_packages(self.home, REQUIREMENTS / self.name)

    def version(self) -> str:
        node = program("node", "no Node.js on this machine")
        ask = f"console.log(require('./{PACKAGE}/package.json').version + ' on Node.js ' + process.version)"
        return run([node, "-e", ask], "asking for Portkey's version", cwd=self.home).strip()

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        port = free_port()
        node = program("node", "no Node.js on this machine")
        server = self.home / PACKAGE / "build" / "start-server.js"
        process = Process(  # headless: without its console
            [node, str(server), "--headless", f"--port={port}"],
            log=folder / "out.log", cores=cores, cwd=folder, env=DIRECT | {"NODE_ENV": "production"},
        )  # fmt: skip
        process.wait_for_port(port)
        return Running(self.name, process, port, model=self.model, headers=headers(upstream))
