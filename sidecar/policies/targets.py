"""Where may it go, and in which order? `[chosen, stable if another, *fallback]`, as far as each can take the request.

Every target speaks the caller's dialect. A further one must have a credential (a caller's own goes only to the provider
that its request addresses), hold the request in its context with the caller's cap on output, and be allowed: not with
`x-sidecar-fallback: off`, not away from a provider that the path names or that holds state which the request refers to.
A request that the chosen model can't hold moves to the first target that can.

Does not decide: which of them is well (`breaker`), or when the next one is tried (`fallback`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

from sidecar.core.facts import Ask, Exchange, Target
from sidecar.core.policy import Policy
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Model, Pins
from sidecar.state.credentials import Credentials
from sidecar.state.sizes import Sizes


class Targets(Policy):
    __slots__ = ("_credentials", "_default", "_pins", "_sizes")

    def __init__(self, pins: Pins, default: Mapping[str, str], credentials: Credentials, sizes: Sizes) -> None:
        self._pins = pins
        self._default = default
        self._credentials = credentials
        self._sizes = sizes

    @classmethod
    def build(cls, parts: Parts) -> Self:
        return cls(parts.pins, parts.default_provider, parts.state.credentials, parts.state.sizes)

    def admit(self, x: Exchange, now: float) -> Refusal | None:  # noqa: ARG002
        x.default_provider = self._default.get(x.ask.dialect)
        addressed = x.ask.provider or x.default_provider
        if x.chosen is None:
            if addressed is None:
                return Refusal(Code.NO_TARGET, f"No provider of the {x.ask.dialect} dialect is configured.")
            first = Target(addressed, x.ask.name if x.kind == "unlisted" else None)
            models: list[Model] = []
        else:
            models = list(self._models(x, self._pins.models[x.chosen]))
            if (refusal := _misplaced(x, models[0])) is not None:
                return refusal
            first = Target(models[0].provider, models[0].id)
        if x.usable is None:
            pin = self._pins.pin(x.pin)
            others = (pin.over_budget, pin.hedge_model) if pin is not None else ()
            providers = {first.provider, *(m.provider for m in (*models, *others) if m is not None)}
            x.usable = tuple(p for p in sorted(providers) if self._credentials.usable(p, addressed=p == addressed))
        if not x.usable or (x.chosen is None and first.provider not in x.usable):
            return Refusal(Code.NO_TARGET, f"There is no credential for provider {first.provider}.")
        if x.chosen is None:
            x.targets = (first,)
            x.why.append(f"to {first.provider}")
            return None
        return self._fitting(x, models)

    def _models(self, x: Exchange, chosen: Model) -> Iterator[Model]:
        """The chosen model, then those that may stand in for it."""
        yield chosen
        pin = self._pins.pin(x.pin)
        if pin is None or x.ask.no_fallback or not x.ask.generates or not x.ask.repeatable:
            return
        seen = {chosen.id}
        for model in (pin.stable, *pin.fallback):
            if model is None or model.id in seen or model.dialect != x.ask.dialect:
                continue
            if (x.ask.bound or x.ask.provider is not None) and model.provider != chosen.provider:
                continue
            seen.add(model.id)
            yield model

    def _fitting(self, x: Exchange, models: list[Model]) -> Refusal | None:
        if x.sizes is None:
            x.sizes = self._estimates(x.ask, models)
        left_out = tuple(m.id for m in models if not _holds(m, x))
        usable = x.usable or ()
        targets = tuple(Target(m.provider, m.id) for m in models if m.id not in left_out and m.provider in usable)
        x.left_out = left_out
        if not targets and len(left_out) < len(models):
            return Refusal(Code.NO_TARGET, f"There is no credential for provider {models[0].provider}.")
        if not targets:
            most = max(m.context or 0 for m in models)
            return Refusal(
                Code.NO_TARGET,
                f"`{x.pin}` has no target that can hold this request: about {max(x.sizes.values())} input tokens, "
                f"and the largest context is {most}.",
            )
        x.targets = targets
        x.why.extend(f"too large for {model}" for model in left_out)
        if models[0].provider not in usable:
            x.why.append(f"no credential for {models[0].provider}")
        x.why.append(f"to {targets[0].model} at {targets[0].provider}")
        return None

    def _estimates(self, ask: Ask, models: list[Model]) -> dict[str, int]:
        """Input tokens of the request at each model whose context is known. Media left out: their size says little."""
        if not ask.generates or ask.body_bytes == 0:
            return {}
        return {m.id: self._sizes.text_tokens(m.id, ask) for m in models if m.context is not None}


def _misplaced(x: Exchange, model: Model) -> Refusal | None:
    ask = x.ask
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
    return None


def _holds(model: Model, x: Exchange) -> bool:
    """Whether the request fits the model's context; for a stand-in also whether it may answer as long as was asked."""
    assert x.sizes is not None
    size = x.sizes.get(model.id, 0)
    if model.context is not None and size > model.context:
        return False
    cap = x.ask.max_output
    if model.id == x.chosen or cap is None:
        return True
    return (model.max_output is None or cap <= model.max_output) and (
        model.context is None or size + cap <= model.context
    )
