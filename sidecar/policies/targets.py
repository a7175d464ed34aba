"""Where may it go? From the chosen model to a provider that speaks the caller's dialect and has a credential.

The order `[chosen, stable, *fallback]` is fallback's business; this file settles the first target, or says why there
is none. A caller's own credential goes only to the provider that its request addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from sidecar.core.facts import Exchange, Target
from sidecar.core.policy import Policy
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Model
from sidecar.state.credentials import Credentials


class Targets(Policy):
    __slots__ = ("_credentials", "_default", "_models")

    def __init__(self, models: Mapping[str, Model], default: Mapping[str, str], credentials: Credentials) -> None:
        self._models = models
        self._default = default
        self._credentials = credentials

    @classmethod
    def build(cls, parts: Parts) -> Self:
        return cls(parts.pins.models, parts.default_provider, parts.state.credentials)

    def admit(self, x: Exchange, now: float) -> Refusal | None:  # noqa: ARG002
        ask = x.ask
        x.default_provider = self._default.get(ask.dialect)
        addressed = ask.provider or x.default_provider
        if x.chosen is None:
            if addressed is None:
                return Refusal(Code.NO_TARGET, f"No provider of the {ask.dialect} dialect is configured.")
            target = Target(addressed, ask.name if x.kind == "unlisted" else None)
        else:
            model = self._models[x.chosen]
            if model.dialect != ask.dialect:
                return Refusal(
                    Code.BAD_REQUEST,
                    f"`{x.pin}` means {model.id}, which speaks the {model.dialect} dialect; "
                    f"this request is in the {ask.dialect} dialect.",
                )
            if ask.provider is not None and model.provider != ask.provider:
                return Refusal(
                    Code.BAD_REQUEST,
                    f"`{x.pin}` means {model.id} at provider {model.provider}; the path names {ask.provider}.",
                )
            target = Target(model.provider, model.id)
        if x.credential is None:
            x.credential = self._credentials.usable(target.provider, addressed=target.provider == addressed)
        if not x.credential:
            return Refusal(Code.NO_TARGET, f"There is no credential for provider {target.provider}.")
        x.targets = (target,)
        x.why.append(f"to {target.provider}" if x.chosen is None else f"to {target.model} at {target.provider}")
        return None
