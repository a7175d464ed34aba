"""What `GET /pins` tells: each name and what it means now, how calls under it are protected, and how that stands.

Sections of the pin file are shown as they stand in it; live values (budget levels, breakers, drills) of this pod.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sidecar.compose import Snapshot
from sidecar.core.facts import Target
from sidecar.dialects import registry
from sidecar.runtime.own import by_policy
from sidecar.runtime.turns import in_turns
from sidecar.settings.pins import Model, Pin
from sidecar.settings.schema import Section
from sidecar.settings.units import Duration
from sidecar.state import State
from sidecar.state.drills import Drilled
from sidecar.state.ledger import Account


async def described(snapshot: Snapshot, state: State, now: float) -> dict[str, Any]:
    """All of it but what is told of the file's own story. `now`: monotonic seconds."""
    pins = snapshot.pins
    names: dict[str, Any] = dict(
        await in_turns((name, _pin(pin, snapshot) | _protection(pin, state, now)) for name, pin in pins.pins.items())
    )
    names |= {name: {"kind": "alias", "model": model.id} for name, model in pins.aliases.items() if name not in names}
    names |= {m.id: {"kind": "catalogued", "model": m.id} for m in pins.models.values() if m.id not in names}
    return {
        "generation": pins.shown,
        "sha256": pins.sha256,
        "path": pins.path,
        "unlisted": pins.unlisted,
        "stopped": [{"pin": pin, "variant": variant} for pin, variant in sorted(pins.stopped)],
        "warnings": [str(w) for w in pins.warnings],
        "names": names,
        "models": dict(await in_turns((m.id, _model(m, state, now)) for m in pins.models.values())),
    }


def _pin(pin: Pin, snapshot: Snapshot) -> dict[str, Any]:
    if pin.stable is None:
        assert pin.rule is not None
        fitting = {dialect: by_policy(snapshot, pin.name, dialect) for dialect in registry.DIALECTS}
        return {
            "kind": "policy",
            "policy": {key: value for key, value in asdict(pin.rule).items() if value is not None},
            "models": {dialect: model.id for dialect, model in fitting.items() if model is not None},
        }
    arms = [
        {"variant": arm.name, "model": arm.model.id, "percent": (arm.end - arm.start) / 100, "start": arm.start / 100}
        for arm in pin.arms
    ]
    return {"kind": "pin", "model": pin.stable.id, "variants": arms, "salt": pin.salt}


def _protection(pin: Pin, state: State, now: float) -> dict[str, Any]:
    """Only what is set."""
    source = pin.source
    found: dict[str, Any] = {
        "fallback": [model.id for model in pin.fallback],
        "over_budget": pin.over_budget.id if pin.over_budget is not None else None,
        "budget": _budget(("pin", pin.name), state, now),
        "hedge": _section(source.hedge),
        "cache": _section(source.cache),
        "drill": _section(source.drill),
    }
    if source.drill is not None:
        found["drilled"] = {model: _drill(last) for model, last in state.drills.of(pin.name).items()}
    return {key: value for key, value in found.items() if value or key == "drilled"}


def _model(model: Model, state: State, now: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "provider": model.provider,
        "dialect": model.dialect,
        "context": model.context,
        "retires": model.retires.isoformat() if model.retires else None,
        "floating": model.floating,
    }
    if budget := _budget(("model", model.id), state, now):
        found["budget"] = budget
    if model.source is not None and model.source.breaker is not None:
        target = Target(model.provider, model.id)
        standing = state.breakers.state(target, now)
        found["breaker"] = {"state": standing}
        if standing == "open":
            found["breaker"]["probe_at"] = _when(state.breakers.reopens_at(target) - now)
    return found


def _budget(account: Account, state: State, now: float) -> list[dict[str, Any]]:
    return [
        {
            "limit": level.limit,
            "scope": level.scope,
            "whole": level.whole,
            "allowance": level.allowance,
            "used": level.used,
            "reserved": level.reserved,
            "refused": level.refused,
            "ends_at": _when(level.ends_in_s),
        }
        for level in state.ledger.levels(now, [account])
    ]


def _drill(last: Drilled) -> dict[str, Any]:
    """`fault`: or why nothing was sent, `no_credential` or `no_budget`."""
    after = time.time()
    return {
        "ok": last.ok,
        "at": _when(last.at - after),
        "status": last.status,
        "fault": last.trouble,
        "latency_ms": round(last.latency_s * 1e3, 3),
        "last_success_at": None if last.last_ok_at is None else _when(last.last_ok_at - after),
    }


def _section(section: Section | None) -> dict[str, Any] | None:
    """As it stands in the file, durations with their units."""
    if section is None:
        return None
    values = {key: getattr(section, key) for key in section.__struct_fields__}
    return {k: repr(v) if isinstance(v, Duration) else v for k, v in values.items() if v is not None}


def _when(in_s: float) -> str:
    return datetime.fromtimestamp(time.time() + in_s, UTC).isoformat(timespec="milliseconds")
