"""What is measured: the sidecar in its settings, and the bare pass-through. Peers are in `peers/`.

A system is started in front of the provider and takes `POST <path>` with a chat completion of OpenAI's form.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Process, free_port

ROOT = Path(__file__).resolve().parent.parent
CHAT = "/v1/chat/completions"
MODEL = "bench-1-2026-01-01"


@dataclass(slots=True)
class Running:
    """A started system: where it listens, and what a request to it looks like. `model` is the name to ask for."""

    name: str
    process: Process
    port: int
    path: str = CHAT
    model: str = "chat.core"
    headers: dict[str, str] = field(default_factory=dict)
    admin: int | None = None

    def stop(self) -> None:
        self.process.stop()


EVERYTHING: dict[str, str] = {
    "breaker": "breaker: {failures: 5, ratio: 0.5, minimum: 20, window: 30s}",
    "budget": "budget: {requests_per_minute: 100000000, tokens_per_minute: 1000000000, usd_per_day: 1000000000}",
    "retry": "retry: {base: 200ms, max: 8s}",
    "fallback": "fallback: [bench-2-2026-01-01]",
    "variants": "variants: {canary: {model: bench-2-2026-01-01, percent: 10}}",
    "hedge": "hedge: {model: bench-2-2026-01-01, after: 5s}",
    "cache": "cache: {ttl: 1h, always: true}",
}
"""Each policy as it is switched on in a pin file. `breaker` and `retry` have defaults, so that they always run."""

_OF_MODEL = ("breaker", "budget")
_OF_DEFAULTS = ("retry",)


def pin_file(policies: frozenset[str] = frozenset(), *, names: int = 1, generation: int = 1) -> str:
    """A pin file with these policies at `chat.core`, and `names` pins in all, each with a model of its own."""

    def chosen(group: tuple[str, ...] | None) -> str:
        rest = tuple(k for k in EVERYTHING if k not in (*_OF_MODEL, *_OF_DEFAULTS))
        return "".join(f", {EVERYTHING[k]}" for k in (rest if group is None else group) if k in policies)

    price = "price: {input: 1.0, output: 4.0}"
    lines = ["version: 1", f"generation: {generation}", "unlisted: reject"]
    if retry := chosen(_OF_DEFAULTS):
        lines.append(f"defaults: {{{retry[2:]}}}")
    own = chosen(_OF_MODEL)
    two = (MODEL, "bench-2-2026-01-01")
    lines += ["models:", *(f"  {model}: {{provider: openai, context: 1000000, {price}{own}}}" for model in two)]
    lines += [f"  bench-{n}-2026-01-01: {{provider: openai, context: 1000000, {price}}}" for n in range(3, names + 2)]
    lines += ["pins:", f"  chat.core: {{stable: {MODEL}{chosen(None)}}}"]
    lines += [f"  chat.of-{n}: {{stable: bench-{n}-2026-01-01}}" for n in range(3, names + 2)]
    return "\n".join(lines) + "\n"


def sidecar(
    folder: Path,
    upstream: int,
    *,
    name: str = "model-sidecar",
    pins: str | None = None,
    pins_name: str = "pins.yaml",
    events: bool = True,
    tree: Path = ROOT,
    cores: frozenset[int] | None = None,
    python: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> Running:
    """The real command, `sidecar serve`, with a settings file of its own in `folder`.

    `tree`: another checkout. `python`: what runs `-m sidecar`. `more`: further lines of the settings file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, admin = free_port(), free_port()
    settings = [
        f'listen: ["127.0.0.1:{port}"]',
        f'admin: {{listen: "127.0.0.1:{admin}"}}',
        f"pins: {pins_name}",
        "limits: {in_flight: 20000, connections: 20000}",
        "providers:",
        f'  openai: {{dialect: openai, base_url: "http://127.0.0.1:{upstream}/v1"}}',
        "log: {level: warning}",
        *more,
    ]
    if events:
        (folder / "said").mkdir(exist_ok=True)  # not beside the pins, whose folder is watched
        settings.append("events: {path: said/events.jsonl}")
    (folder / "sidecar.yaml").write_text("\n".join(settings) + "\n")
    (folder / pins_name).write_text(pins or pin_file())
    process = Process(
        [*(python or (sys.executable,)), "-m", "sidecar", "serve", "--config", str(folder / "sidecar.yaml")],
        log=folder / "out.log", cores=cores, cwd=folder, env={"PYTHONPATH": str(tree)},
    )  # fmt: skip
    process.wait_for_port(port)
    return Running(name, process, port, admin=admin)


def passthrough(folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
    """The yardstick: benchmarks/passthrough.py."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.passthrough", "--port", str(port)]
    process = Process(
        [*command, "--upstream", f"http://127.0.0.1:{upstream}"], log=folder / "out.log", cores=cores, cwd=ROOT
    )
    process.wait_for_port(port)
    return Running("passthrough", process, port)


def provider(folder: Path, *, cores: frozenset[int] | None = None) -> Running:
    """The provider behind all of them: benchmarks/provider.py."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = Process(
        [sys.executable, "-m", "benchmarks.provider", "--port", str(port)],
        log=folder / "out.log", cores=cores, cwd=ROOT,
    )  # fmt: skip
    process.wait_for_port(port)
    return Running("direct", process, port)
