"""Which changes of a pin file may hurt: smaller windows, higher prices, models that move or retire, units that move,
limits that refuse calls or stand no longer, protection that goes.

Decides: what is worth a `risk: …` line. Does not decide: whether the swap happens; risks never refuse one.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from sidecar.settings.pincheck import BUDGET_LIMITS
from sidecar.settings.pins import Model, Pin
from sidecar.settings.schema import BudgetSpec

SOON_DAYS = 30


def model_risks(old: Model | None, new: Model, day: datetime.date) -> Iterator[str]:
    """Risks of a model as the catalogue now describes it; said when it is new or was changed."""
    if old is not None and old.source == new.source:
        return
    if new.retires is not None and new.retires <= day + datetime.timedelta(days=SOON_DAYS):
        yield f"risk: model {new.id}: {_retires(new.retires, day)}"
    if old is not None:
        yield from (f"risk: model {new.id}: {text}" for text in (*_worse(old, new), *_unprotected(old, new)))
    if new.floating and not (old is not None and old.floating):
        yield f"risk: model {new.id}: floating, the provider may change it at any time"


def pin_risks(old: Pin | None, new: Pin, day: datetime.date) -> Iterator[str]:
    """Risks of what a name now means, compared with what it meant."""
    if old is None:
        return
    for where, was, now in _moves(old, new):
        yield from (f"risk: {new.name}: {where}: {text}" for text in move_risks(was, now, day))
    if old.salt != new.salt and (old.arms or new.arms):
        yield f"risk: {new.name}: a new salt deals all units anew"
    starts = {arm.name: arm.start for arm in old.arms}
    for arm in new.arms:
        if starts.get(arm.name, arm.start) != arm.start:
            yield f"risk: {new.name}: {arm.name} starts elsewhere, so units move between arms"
    if old.source == new.source:
        return
    yield from (f"risk: {new.name}: {text}" for text in _limits(old.source.budget, new.source.budget))
    if old.fallback and not new.fallback:
        yield f"risk: {new.name}: nothing stands in for its model any more"
    if _repeats(new) and not _repeats(old):
        yield f"risk: {new.name}: answers that were made by chance are given again"


def _moves(old: Pin, new: Pin) -> Iterator[tuple[str, Model, Model]]:
    """(arm, model before, model now) for each arm whose model changed; a new arm is compared with the stable one."""
    if old.stable is not None and new.stable is not None and old.stable.id != new.stable.id:
        yield "stable", old.stable, new.stable
    before = {arm.name: arm.model for arm in old.arms}
    for arm in new.arms:
        was = before.get(arm.name, new.stable)
        if was is not None and was.id != arm.model.id:
            yield arm.name, was, arm.model


def move_risks(old: Model, new: Model, day: datetime.date) -> Iterator[str]:
    """What may hurt when calls go to `new` instead of `old`."""
    yield from _worse(old, new)
    if new.floating:
        yield "the new model is floating, the provider may change it at any time"
    if new.retires is not None and new.retires <= day + datetime.timedelta(days=SOON_DAYS):
        yield _retires(new.retires, day)


def _worse(old: Model, new: Model) -> Iterator[str]:
    """Catalogued facts that are worse than before."""
    if old.context is not None and new.context is not None and new.context < old.context:
        yield f"context window smaller, {old.context} → {new.context} tokens"
    if old.max_output is not None and new.max_output is not None and new.max_output < old.max_output:
        yield f"answers may be shorter, {old.max_output} → {new.max_output} tokens"
    if old.price is not None and new.price is not None:
        for kind, was, now in (
            ("input", old.price.input, new.price.input),
            ("output", old.price.output, new.price.output),
        ):
            if now > was:
                yield f"{kind} price {_higher(was, now)}, {was:g} → {now:g} USD per million tokens"
    elif old.price is not None:
        yield "its price is not known"
    if old.latency_ms is not None and new.latency_ms is not None and new.latency_ms > old.latency_ms:
        yield f"latency {_higher(old.latency_ms, new.latency_ms)}, {old.latency_ms:g} → {new.latency_ms:g} ms"
    if old.provider != new.provider:
        yield f"another provider, {old.provider} → {new.provider}"


def _unprotected(old: Model, new: Model) -> Iterator[str]:
    """Limits and breaker of a model."""
    if old.source is None or new.source is None:
        return
    yield from _limits(old.source.budget, new.source.budget)
    if old.source.breaker is not None and new.source.breaker is None:
        yield "no breaker any more: it is asked however often it fails"


def _limits(old: BudgetSpec | None, new: BudgetSpec | None) -> Iterator[str]:
    """Limits that refuse more than before, or nothing any more."""
    for limit in BUDGET_LIMITS:
        was, now = getattr(old, limit, None), getattr(new, limit, None)
        if was is not None and now is None:
            yield f"nothing limits its {limit} any more"
        elif now is not None and (was is None or now < was):
            yield f"calls over {now:.10g} {limit} are refused from now on"
    if old is not None and new is not None and (old.scope, new.scope) == ("fleet", "pod"):
        yield "each pod may use the whole budget from now on"


def _repeats(pin: Pin) -> bool:
    return pin.source.cache is not None and pin.source.cache.always


def _higher(was: float, now: float) -> str:
    return f"higher by {(now / was - 1) * 100:.0f} %" if was > 0 else "no longer 0"


def _retires(when: datetime.date, day: datetime.date) -> str:
    return f"retires on {when}" if when > day else f"was retired on {when}"
