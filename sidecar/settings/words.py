"""What changed between two pin files, in words that a person understands.

Decides: which changes are worth a line, and which are a risk (`risk: …`). For `pins diff`, the audit log and the
swap event. Does not decide: whether a change is allowed. Salts are never shown; there are no other secrets here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from sidecar.settings.pins import Arm, Model, Pin, Pins
from sidecar.settings.problems import dotted
from sidecar.settings.risks import model_risks, pin_risks
from sidecar.settings.schema import Section
from sidecar.settings.units import Duration


def changes(old: Pins | None, new: Pins, *, today: datetime.date | None = None, limit: int | None = None) -> list[str]:
    """One line a change, in the order of the file; empty if both mean the same under the same generation.

    `today` (UTC by default) is what retirement dates are compared with. `limit` cuts a long list, saying so.
    """
    day = today or datetime.datetime.now(datetime.UTC).date()
    if old is None:
        lines = [_first(new), *(risk for model in new.models.values() for risk in model_risks(None, model, day))]
    else:
        lines = list(_changes(old, new, day))
    if limit is not None and len(lines) > limit:
        return [*lines[:limit], f"… and {len(lines) - limit} more"]
    return lines


def _first(new: Pins) -> str:
    counts = f"{len(new.pins)} pins, {len(new.aliases)} aliases, {len(new.models)} models"
    return f"first load: generation {new.generation}, {counts}, unlisted: {new.unlisted}"


def _changes(old: Pins, new: Pins, day: datetime.date) -> Iterator[str]:
    if old.generation != new.generation:
        back = " (back to an older one)" if new.generation < old.generation else ""
        yield f"generation {old.generation} → {new.generation}{back}"
    if old.unlisted != new.unlisted:
        yield f"unlisted: {old.unlisted} → {new.unlisted}"
        if new.unlisted == "reject":
            yield "risk: names that are not in the file get 404 from now on"
    yield from _sections("defaults", old.defaults, new.defaults)
    yield from _models(old, new, day)
    for name, pin in new.pins.items():
        before = old.pins.get(name)
        if before is None:
            yield f"{name}: new, {_meaning(pin)}"
        elif before.source != pin.source:
            yield from _pin(name, before, pin)
        yield from pin_risks(before, pin, day)
    for name, pin in old.pins.items():
        if name not in new.pins:
            yield f"{name}: removed, was {_meaning(pin)}"
            yield f"risk: {name}: apps that ask for it {_fate(name, new)}"
    yield from _aliases(old, new)
    for name, variant in sorted(old.stopped):
        if name in new.pins and any(arm.name == variant for arm in new.pins[name].arms):
            yield f"{name}: {variant} was stopped and takes units again"


def _fate(name: str, new: Pins) -> str:
    if name in new.aliases:
        return f"get {new.aliases[name].id} by alias"
    if name in new.models:
        return "get the catalogued model of that name"
    return "get 404" if new.unlisted == "reject" else "are passed on unpinned"


def _meaning(pin: Pin) -> str:
    if pin.stable is None:
        return "by policy"
    arms = "".join(f", {arm.name} {arm.model.id} {_share(arm)}" for arm in pin.arms)
    return f"stable {pin.stable.id}{arms}"


def _share(arm: Arm) -> str:
    return f"{(arm.end - arm.start) / 100:g}%"


# --- models ----------------------------------------------------------------------------------------------------------


def _models(old: Pins, new: Pins, day: datetime.date) -> Iterator[str]:
    for name, model in new.models.items():
        before = old.models.get(name)
        if before is None:
            yield f"model {name}: added, at {model.provider}"
        elif before.source != model.source and before.source is not None and model.source is not None:
            yield from _sections(f"model {name}", before.source, model.source)
        yield from model_risks(before, model, day)
    for name in old.models:
        if name not in new.models:
            yield f"model {name}: removed"


def _aliases(old: Pins, new: Pins) -> Iterator[str]:
    for name, model in new.aliases.items():
        before: Model | None = old.aliases.get(name)
        if before is None:
            yield f"alias {name}: new, {model.id}"
        elif before.id != model.id:
            yield f"alias {name}: {before.id} → {model.id}"
            yield f"risk: alias {name}: a published name changes its meaning"
    for name in old.aliases:
        if name not in new.aliases:
            yield f"alias {name}: removed"
            yield f"risk: alias {name}: apps that ask for it {_fate(name, new)}"


# --- pins ------------------------------------------------------------------------------------------------------------


def _pin(name: str, old: Pin, new: Pin) -> Iterator[str]:
    if old.stable is not None and new.stable is not None:
        if old.stable.id != new.stable.id:
            yield f"{name}: stable {old.stable.id} → {new.stable.id}"
    elif (old.stable is None) != (new.stable is None):
        yield f"{name}: {_meaning(old)} → {_meaning(new)}"
    yield from _arms(name, old, new)
    if old.salt != new.salt:
        yield f"{name}: salt changed"
    yield from _order(name, old, new)
    yield from _sections(name, old.source, new.source, leave=frozenset({"stable", "variants", "salt", "fallback"}))


def _arms(name: str, old: Pin, new: Pin) -> Iterator[str]:
    before = {arm.name: arm for arm in old.arms}
    for arm in new.arms:
        was = before.pop(arm.name, None)
        if was is None:
            yield f"{name}: {arm.name} added, {arm.model.id} {_share(arm)}"
            continue
        if was.model.id != arm.model.id:
            yield f"{name}: {arm.name} {was.model.id} → {arm.model.id}"
        if _share(was) != _share(arm):
            yield f"{name}: {arm.name} {_share(was)} → {_share(arm)}"
        if was.start != arm.start:
            yield f"{name}: {arm.name} starts at {was.start / 100:g}% → {arm.start / 100:g}%"
    for arm in before.values():
        yield f"{name}: {arm.name} removed, was {arm.model.id} {_share(arm)}"


def _order(name: str, old: Pin, new: Pin) -> Iterator[str]:
    was = [model.id for model in old.fallback]
    now = [model.id for model in new.fallback]
    if was == now:
        return
    said = "fallback order" if sorted(was) == sorted(now) else "fallback"
    yield f"{name}: {said} {', '.join(was) or 'none'} → {', '.join(now) or 'none'}"


# --- any other section -----------------------------------------------------------------------------------------------


def _sections(name: str, old: Section, new: Section, leave: frozenset[str] = frozenset()) -> Iterator[str]:
    """Differences of two sections of one kind, key by key; a whole section that comes or goes is one line."""
    for key in old.__struct_fields__:
        if key not in leave:
            yield from _value(name, key, getattr(old, key), getattr(new, key))


def _value(name: str, key: str, old: object, new: object) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Section) and isinstance(new, Section):
        for inner in old.__struct_fields__:
            yield from _value(name, f"{key}.{inner}", getattr(old, inner), getattr(new, inner))
    elif old is None:
        yield f"{name}: {key} set to {in_words(new)}"
    elif new is None:
        yield f"{name}: {key} removed, was {in_words(old)}"
    else:
        yield f"{name}: {key} {in_words(old)} → {in_words(new)}"


def in_words(value: object) -> str:
    """A value as the pin file would say it, in one line."""
    if isinstance(value, Section):
        parts = ((key, getattr(value, key)) for key in value.__struct_fields__)
        return "{" + ", ".join(f"{key}: {in_words(part)}" for key, part in parts if part is not None) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(in_words, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return dotted((value,))
    if isinstance(value, Duration):
        return repr(value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)
