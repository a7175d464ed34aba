"""A pin file as policies see it, and requests that ask for its names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.compose import Snapshot, build, resolve
from sidecar.core.facts import Ask, Exchange
from sidecar.errors import Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State

PINS = """
version: 1
generation: 3
unlisted: {unlisted}
models:
  gpt-5.4-2025-11-02: {{provider: openai, context: 128000, latency_ms: 1200, price: {{input: 1.25, output: 10}}}}
  gpt-5.5-2026-01-15: {{provider: openai, context: 200000, latency_ms: 1350, price: {{input: 1.5, output: 12}}}}
  gpt-5.5-mini-2026-01-10: {{provider: openai, context: 64000, latency_ms: 800, price: {{input: 0.5, output: 4}}}}
  claude-sonnet-5-20260112: {{provider: anthropic, context: 200000, latency_ms: 1400, price: {{input: 3, output: 15}}}}
  unpriced-2026-01-01: {{provider: openai, context: 500000}}
pins:
  chat.core:
    stable: gpt-5.4-2025-11-02
    variants:
      canary: {{model: gpt-5.5-2026-01-15, percent: {percent}}}
    task: answer_question
  plain: {{stable: gpt-5.4-2025-11-02}}
  assistant: {{stable: claude-sonnet-5-20260112}}
  gpt-5.5-mini-2026-01-10: {{stable: gpt-5.4-2025-11-02}}
  auto.context: {{policy: {{max_latency_ms: 1300, max_price: {{output: 11}}, min_context: 60000, prefer: context}}}}
  auto.price: {{policy: {{prefer: price}}}}
  auto.latency: {{policy: {{prefer: latency}}}}
  auto.first: {{policy: {{min_context: 1000}}}}
  auto.never: {{policy: {{max_price: {{input: 0.001}}}}}}
aliases:
  "model://core/chat@1.2.3": gpt-5.5-2026-01-15
"""
DEFAULTS = {"openai": "openai", "anthropic": "anthropic"}

Make = Callable[..., tuple[Snapshot, State]]


@pytest.fixture
def make() -> Make:
    def _make(*, unlisted: str = "reject", percent: float = 10) -> tuple[Snapshot, State]:
        state = State()
        pins = read_pins(PINS.format(unlisted=unlisted, percent=percent).encode(), "pins.yaml", None)
        return build(Parts({}, DEFAULTS, pins, state)), state

    return _make


def asked(snapshot: Snapshot, name: str | None, **facts: object) -> tuple[Exchange, Refusal | None]:
    """A request for `name`, decided. `facts` go to the Ask."""
    x = Exchange("r", Ask(name=name, **({"dialect": "openai"} | facts)), 0.0)  # type: ignore[arg-type]
    return x, resolve(snapshot, x)
