"""May we ask an OpenAI chat stream for its usage? Where the caller says nothing, yes; it never sees the extra chunk.

Decided for each attempt, since targets live at different providers. A provider that answers `stream_options` with 400
is asked once more without, and remembered until restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from sidecar.core.facts import Attempt, Cause, Exchange, Fault
from sidecar.core.policy import Next, Policy
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

    def enter(self, x: Exchange, attempt: Attempt, now: float) -> bool:  # noqa: ARG002
        if x.ask.may_add_usage:
            provider = attempt.target.provider
            wanted = self._providers[provider].stream_usage == "add"
            attempt.add_usage = wanted and not self._quirks.no_stream_options(provider)
        return True

    def react(self, x: Exchange, attempt: Attempt, now: float) -> Next | None:  # noqa: ARG002
        if attempt.fault is not Fault.STREAM_OPTIONS or not attempt.add_usage:
            return None
        self._quirks.learn_no_stream_options(attempt.target.provider)
        return Next(attempt.target, Cause.WITHOUT_USAGE)
