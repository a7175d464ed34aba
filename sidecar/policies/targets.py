"""Where may it go, and in which order? `[chosen, stable if another, *fallback]`, as far as each can take the request.

Every target speaks the caller's dialect. A further one must have a credential (a caller's own goes only to the provider
that its request addresses), hold the request in its context with the caller's cap on output, and be allowed: not with
`x-sidecar-fallback: off`, not away from a provider that the path names or that holds state which the request refers to.
A request that the chosen model can't hold moves to the first target that can.

What follows from the pin file and two facts of the request alone is worked out once for all that ask alike (`_Line`).

Does not decide: which of them is well (`breaker`), or when the next one is tried (`fallback`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from sidecar.core.facts import Ask, Exchange, Target
from sidecar.core.policy import Policy
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Model, Pin, Pins
from sidecar.state.credentials import Credentials
from sidecar.state.sizes import Sizes

MOST_LINES = 4096
"""Of what was worked out. A policy pin may choose any model, so there could be more than pins and models together."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The chosen model and those that may stand in for it.

    `providers` are theirs, the hedge's and the over-budget model's, sorted; `sized` the models with a known context.
    """

    models: tuple[Model, ...]
    targets: tuple[Target, ...]
    providers: tuple[str, ...]
    sized: tuple[str, ...]
    to: str  # where it goes if nothing speaks against the first


class Targets(Policy):
    __slots__ = ("_credentials", "_default", "_lines", "_pins", "_sizes")

    def __init__(self, pins: Pins, default: Mapping[str, str], credentials: Credentials, sizes: Sizes) -> None:
        self._pins = pins
        self._default = default
        self._credentials = credentials
        self._sizes = sizes
        self._lines: dict[tuple[str | None, str, bool, bool], _Line] = {}

    @classmethod
    def build(cls, parts: Parts) -> Self:
        return cls(parts.pins, parts.default_provider, parts.state.credentials, parts.state.sizes)

    def admit(self, x: Exchange, now: float) -> Refusal | None:  # noqa: ARG002
        ask = x.ask
        x.default_provider = self._default.get(ask.dialect)
        addressed = ask.provider or x.default_provider
        if x.chosen is None:
            return self._unpinned(x, addressed)
        line = self._line(x, x.chosen)
        first = line.models[0]
        if (refusal := _misplaced(x, first)) is not None:
            return refusal
        if x.usable is None:
            x.usable = self._usable(line.providers, addressed)
        if not x.usable:
            return Refusal(Code.NO_TARGET, f"There is no credential for provider {first.provider}.")
        if x.sizes is None:
            x.sizes = self._estimates(ask, line)
        for model in line.models:
            if not _holds(model, x):
                return self._fitting(x, line.models)
        if x.usable != line.providers:
            return self._fitting(x, line.models)
        x.targets = line.targets
        x.why.append(line.to)
        return None

    def _unpinned(self, x: Exchange, addressed: str | None) -> Refusal | None:
        """To the provider that it addresses, with the name that it came with."""
        if addressed is None:
            return Refusal(Code.NO_TARGET, f"No provider of the {x.ask.dialect} dialect is configured.")
        if x.usable is None:
            x.usable = self._usable((addressed,), addressed)
        if addressed not in x.usable:
            return Refusal(Code.NO_TARGET, f"There is no credential for provider {addressed}.")
        x.targets = (Target(addressed, x.ask.name if x.kind == "unlisted" else None),)
        x.why.append(f"to {addressed}")
        return None

    def _usable(self, providers: tuple[str, ...], addressed: str | None) -> tuple[str, ...]:
        usable = self._credentials.usable
        return tuple([p for p in providers if usable(p, addressed=p == addressed)])

    def _line(self, x: Exchange, chosen: str) -> _Line:
        ask = x.ask
        alone = ask.no_fallback or not ask.generates or not ask.repeatable
        stays = ask.bound or ask.provider is not None
        line = self._lines.get((x.pin, chosen, alone, stays))
        if line is None:
            if len(self._lines) >= MOST_LINES:
                self._lines.clear()
            line = self._lines[x.pin, chosen, alone, stays] = self._drawn(x.pin, chosen, alone=alone, stays=stays)
        return line

    def _drawn(self, name: str | None, chosen: str, *, alone: bool, stays: bool) -> _Line:
        first, pin = self._pins.models[chosen], self._pins.pin(name)
        models = (first,) if pin is None or alone else (first, *_stand_ins(pin, first, stays=stays))
        others = (pin.over_budget, pin.hedge_model) if pin is not None else ()
        return _Line(
            models=models,
            targets=tuple(Target(m.provider, m.id) for m in models),
            providers=tuple(sorted({m.provider for m in (*models, *others) if m is not None})),
            sized=tuple(m.id for m in models if m.context is not None),
            to=f"to {first.id} at {first.provider}",
        )

    def _fitting(self, x: Exchange, models: tuple[Model, ...]) -> Refusal | None:
        """Where not every model can hold it, or not every provider can be reached."""
        assert x.sizes is not None
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

    def _estimates(self, ask: Ask, line: _Line) -> dict[str, int]:
        """Input tokens of the request at each model whose context is known. Media left out: their size says little."""
        if not ask.generates or ask.body_bytes == 0:
            return {}
        return {model: self._sizes.text_tokens(model, ask) for model in line.sized}


def _stand_ins(pin: Pin, chosen: Model, *, stays: bool) -> Iterator[Model]:
    """Those that may answer instead of the chosen model. `stays`: only its own provider may."""
    seen = {chosen.id}
    for model in (pin.stable, *pin.fallback):
        if model is None or model.id in seen or model.dialect != chosen.dialect:
            continue
        if stays and model.provider != chosen.provider:
            continue
        seen.add(model.id)
        yield model


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
