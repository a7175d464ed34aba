"""May we ask an OpenAI chat stream for its usage? Where the caller says nothing, yes; it never sees the extra chunk.

A provider that answers `stream_options` with 400 is asked once more without, and remembered until restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from sidecar.core.facts import Attempt, Cause, Exchange, Fault
from sidecar.core.policy import Next, Policy
from sidecar.errors import Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.static import Provider
from sidecar.state.quirks import Quirks


class StreamUsage(Policy):
    __slots__ = ("_providers", "_quirks")

    def __init__(self, providers: Mapping[str, Provider], quirks: Quirks) -> None:
        self._providers = providers
        self._quirks = quirks

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        if not any(p.dialect == "openai" and p.stream_usage == "add" for p in parts.providers.values()):
            return None
        return cls(parts.providers, parts.state.quirks)

    def admit(self, x: Exchange, now: float) -> Refusal | None:  # noqa: ARG002
        if x.ask.may_add_usage:
            provider = x.targets[0].provider
            wanted = self._providers[provider].stream_usage == "add"
            x.add_usage = wanted and not self._quirks.no_stream_options(provider)
        return None

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:  # noqa: ARG002
        if attempt.fault is not Fault.STREAM_OPTIONS or not x.add_usage:
            return None
        self._quirks.learn_no_stream_options(attempt.target.provider)
        x.add_usage = False
        return Next(attempt.target, Cause.WITHOUT_USAGE)
