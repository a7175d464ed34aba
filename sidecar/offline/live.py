"""`sidecar pins check --live`: are the models that a pin file uses at their providers, now?

Decides: which models are asked for, in which words the answers are told, and which of them are problems.
Does not decide: what an answer proves (`runtime/offered.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from sidecar.policies.choice import fits
from sidecar.runtime.offered import Asked, Limits, Offer, ask
from sidecar.settings.pins import Model, Pin, Pins
from sidecar.settings.problems import Problem
from sidecar.settings.static import Settings

MAX_USERS_TOLD = 3


@dataclass(frozen=True, slots=True)
class Live:
    """`lines` tell what is well; `problems` what isn't (an error: a model is missing); `models` is for JSON."""

    lines: tuple[str, ...]
    problems: tuple[Problem, ...]
    models: tuple[dict[str, object], ...]


def look(pins: Pins, settings: Settings, limits: Limits | None = None) -> Live:
    """Asks the providers. Never raises for what they do."""
    users = used(pins)
    wanted: dict[str, list[str]] = {}
    for name in users:
        wanted.setdefault(pins.models[name].provider, []).append(name)
    asked = ask(settings, wanted, limits)
    lines: list[str] = []
    problems: list[Problem] = []
    models: list[dict[str, object]] = []
    for part in asked:
        lines.append(_heading(part))
        for offer in part.offers:
            model, who = pins.models[offer.model], users[offer.model]
            problems += _problems(pins, model, offer, who)
            models.append(_as_dict(offer, who))
            if offer.state == "there":
                lines.append(f"  {offer.model}: {_there(offer)}")
    idle = len(pins.models) - len(users)
    if idle:
        lines.append(f"not asked for: {idle} of the catalogue that no pin or alias uses")
    return Live(tuple(lines), tuple(problems), tuple(models))


def used(pins: Pins) -> dict[str, list[str]]:
    """Model id → who uses it, in words, in the order of the catalogue. A model that nothing uses isn't in it."""
    users: dict[str, list[str]] = {name: [] for name in pins.models}
    for pin in pins.pins.values():
        for part, model in _parts(pin, pins):
            users[model.id].append(f"{pin.name} {part}")
    for alias, model in pins.aliases.items():
        users[model.id].append(f"alias {alias}")
    return {name: who for name, who in users.items() if who}


def _parts(pin: Pin, pins: Pins) -> Iterator[tuple[str, Model]]:
    if pin.stable is not None:
        yield "stable", pin.stable
    for arm in pin.arms:
        yield f"variant {arm.name}", arm.model
    for model in pin.fallback:
        yield "fallback", model
    if pin.hedge_model is not None:
        yield "hedge", pin.hedge_model
    if pin.over_budget is not None:
        yield "over_budget", pin.over_budget
    if pin.rule is not None:
        for model in pins.models.values():
            # Measured latency may let any of them in, so it keeps none out here.
            if (pin.providers is None or model.provider in pin.providers) and fits(pin.rule, model, latency_ms=0):
                yield "policy", model


def _heading(part: Asked) -> str:
    key = f"key of {part.key}" if part.key else "without a key"
    if not part.listed:
        return f"{part.provider} gave no list of models ({key})"
    return f"{part.provider} lists {part.listed} model{'' if part.listed == 1 else 's'} ({key})"


def _there(offer: Offer) -> str:
    words = "there"
    if offer.id != offer.model:
        words += f", as an alias of {offer.id}"
    return words + (f", until {offer.retires}" if offer.retires else "")


def _problems(pins: Pins, model: Model, offer: Offer, who: list[str]) -> Iterator[Problem]:
    where = f"models.{model.id}"
    users = ", ".join(who[:MAX_USERS_TOLD]) + (f" and {len(who) - MAX_USERS_TOLD} more" if who[MAX_USERS_TOLD:] else "")
    if offer.state == "missing":
        fix = "name a model that the provider has, or give the key access to it"
        if offer.near:
            fix = f"did you mean {' or '.join(f'`{name}`' for name in offer.near)}?"
        yield Problem(pins.path, None, where, f"{offer.provider} has no such model (used by {users})", fix)
        return
    if offer.state == "unknown":
        message = f"can't tell whether {offer.provider} has it: {offer.why}"
        yield Problem(pins.path, None, where, message, "", "warning")
        return
    if offer.id != offer.model and not model.floating:
        message = f"{offer.provider} takes it for an alias, now of {offer.id}"
        fix = f"pin `{offer.id}`, or say `floating: true`"
        yield Problem(pins.path, None, where, message, fix, "warning")
    if offer.retires is not None and offer.retires != model.retires:
        yield _retirement(pins, where, model.retires, offer)


def _retirement(pins: Pins, where: str, known: date | None, offer: Offer) -> Problem:
    says = f"the file says {known}" if known else "the file does not say so"
    message = f"{offer.provider} says that it retires on {offer.retires}, and {says}"
    return Problem(pins.path, None, where, message, f"set `retires: {offer.retires}`", "warning")


def _as_dict(offer: Offer, who: list[str]) -> dict[str, object]:
    return {
        "provider": offer.provider,
        "model": offer.model,
        "state": offer.state,
        "alias_of": offer.id if offer.id != offer.model else None,
        "retires": offer.retires.isoformat() if offer.retires else None,
        "near": list(offer.near),
        "why": offer.why or None,
        "used_by": who,
    }
