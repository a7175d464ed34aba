"""LiteLLM's proxy, from PyPI: the gateway in Python that most people know."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import DIRECT, REQUIREMENTS, Peer, fill
from benchmarks.peers.install import python_environment, python_version
from benchmarks.processes import Process, free_port
from benchmarks.systems import MODEL, Running

CONFIGURATION = """\
# As the page "Benchmarks" of its docs sets up a benchmark (no callbacks, no retries, a master key), with the settings
# of "Production Best Practices". No database and no Redis: one instance needs neither to forward.
model_list:
  - model_name: {{alias}}
    litellm_params:
      model: openai/{{model}}        # `openai/` is the provider its load tests recommend
      api_base: http://127.0.0.1:{{upstream}}/v1
      api_key: sk-provider

general_settings:
  master_key: sk-bench

litellm_settings:
  callbacks: []
  num_retries: 0
  request_timeout: 600
  set_verbose: false
  json_logs: true
"""

ENVIRONMENT = {
    "LITELLM_LOG": "ERROR",  # "Production Best Practices": no line for each request
    "LITELLM_MODE": "PRODUCTION",  # the same: no .env is loaded
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # prices from the package, not from the network at each start
}


class LiteLLM(Peer):
    name = "litellm"
    setup = (
        "litellm[proxy] from PyPI, one Uvicorn worker on uvloop (its docs: one worker a pod, no gunicorn), configured "
        "as its Benchmarks and Production Best Practices pages say: no callbacks, no retries, logs at ERROR, a master "
        "key; no database. Its Rust core covers no OpenAI route yet."
    )

    def install(self) -> None:
        python_environment(self.home, REQUIREMENTS / "litellm.lock")

    def version(self) -> str:
        return python_version(self.home, "litellm")

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        port = free_port()
        file = folder / "config.yaml"
        file.write_text(fill(CONFIGURATION, alias=self.model, model=MODEL, upstream=upstream))
        # --keepalive_timeout: Uvicorn closes idle connections after 5 s; clients with a pool keep theirs for longer.
        options = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--keepalive_timeout", "75"]
        process = Process(
            [str(self.home / "bin" / "litellm"), "--config", str(file), *options],
            log=folder / "out.log", cores=cores, cwd=folder, env=DIRECT | ENVIRONMENT,
        )  # fmt: skip
        process.wait_for_port(port, seconds=180)  # it imports for 10 s on a core of its own
        return Running(self.name, process, port, model=self.model)
