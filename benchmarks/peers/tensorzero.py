"""TensorZero's gateway, from PyPI: written in Rust, and embedded in its Python package."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.peers.base import DIRECT, HERE, REQUIREMENTS, Peer, fill
from benchmarks.peers.install import python_environment, python_version
from benchmarks.processes import Process, StartError
from benchmarks.systems import MODEL, Running

CONFIGURATION = """\
# As its own benchmark against LiteLLM has it: no inferences written to ClickHouse.
[gateway]
observability.enabled = false

[models."{{alias}}"]
routing = ["provider"]

[models."{{alias}}".providers.provider]
type = "openai"
api_base = "http://127.0.0.1:{{upstream}}/v1"
model_name = "{{model}}"
api_key_location = "none"
"""

BASE = re.compile(r"^base (http\S+)$", re.MULTILINE)
START_LIMIT_S = 60.0


class TensorZero(Peer):
    name = "tensorzero"
    alias = "chat.core"
    model = f"tensorzero::model_name::{alias}"
    setup = (
        "The gateway inside its PyPI package, which serves OpenAI's API over HTTP on a port of its own choice; "
        "observability off, as in its own benchmarks. The standalone gateway comes as a container image only. "
        "CPU and memory include the Python process that it lives in, which sleeps."
    )

    def install(self) -> None:
        python_environment(self.home, REQUIREMENTS / "tensorzero.lock")

    def version(self) -> str:
        return python_version(self.home, "tensorzero")

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        file = folder / "tensorzero.toml"
        file.write_text(fill(CONFIGURATION, alias=self.alias, model=MODEL, upstream=upstream))
        # Tokio starts as many workers as there are cores that it may use.
        process = Process(
            [str(self.home / "bin" / "python"), "-I", str(HERE / "tensorzero_host.py"), str(file)],
            log=folder / "out.log", cores=cores, cwd=folder, env=DIRECT,
        )  # fmt: skip
        base = urlsplit(self._base(process))
        assert base.port is not None
        process.wait_for_port(base.port)
        path = f"{base.path}/chat/completions"
        return Running(self.name, process, base.port, path=path, model=self.model)

    @staticmethod
    def _base(process: Process) -> str:
        """The base URL for clients of OpenAI's API, which the host prints."""
        while process.alive and time.monotonic() - process.begun < START_LIMIT_S:
            if told := BASE.search(process.log.read_text(errors="replace")):
                return told[1]
            time.sleep(0.01)
        raise StartError(f"It told no address within {START_LIMIT_S:.0f} s: {process.tail()}")
