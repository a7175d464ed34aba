"""Which arm of a pin? Sticky, salted and monotone: a unit stays in its arm while percentages only grow.

The bucket is GrowthBook's hash version 2 of salt and unit, in 1/10,000. Source: GrowthBook's SDK build guide and its
published vectors (tests/policies/test_variant.py). Without a unit the stable arm serves and the request is marked
unassignable: one shared bucket for everybody without a unit would swing a whole experiment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Self

from sidecar.core.facts import Exchange
from sidecar.core.policy import Policy
from sidecar.errors import Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Pins

BUCKETS = 10_000
MAX_UNIT_CHARS = 1024
"""A longer unit is nobody's id, and hashing it would hold up everybody else."""


def fnv1a32(text: str) -> int:
    """FNV-1a over UTF-16 code units, as JavaScript's `charCodeAt` gives them."""
    units: Iterable[int] = text.encode() if text.isascii() else _utf16_units(text)
    value = 0x811C9DC5
    for unit in units:
        value = ((value ^ unit) * 0x01000193) & 0xFFFFFFFF
    return value


def _utf16_units(text: str) -> Iterable[int]:
    return (unit for (unit,) in struct.iter_unpack("<H", text.encode("utf-16-le", "surrogatepass")))


def bucket(seed: str, unit: str) -> int:
    """The bucket 0..9999 of a unit under a seed."""
    return fnv1a32(str(fnv1a32(seed + unit))) % BUCKETS


class Variant(Policy):
    __slots__ = ("_pins", "_stopped")

    def __init__(self, pins: Pins) -> None:
        self._pins = pins.pins
        self._stopped: dict[str, str] = {}  # pin → the names of its stopped variants
        for pin, variant in sorted(pins.stopped):
            self._stopped[pin] = f"{self._stopped[pin]}, {variant}" if pin in self._stopped else variant

    @classmethod
    def build(cls, parts: Parts) -> Self | None:
        return cls(parts.pins) if parts.pins.pins else None

    def admit(self, x: Exchange, now: float) -> Refusal | None:  # noqa: ARG002
        if x.kind != "pin" or x.pin is None:
            return None
        pin = self._pins[x.pin]
        if pin.stable is None:
            return None
        x.chosen = pin.stable.id
        if self._stopped and x.pin in self._stopped:
            x.why.append(f"stopped: {self._stopped[x.pin]}")
        if not pin.arms:
            return None
        if x.bucket is None:  # a replay brings the bucket with it, since events don't keep the unit
            unit = x.ask.unit
            if unit is None or not x.assignable or len(unit) > MAX_UNIT_CHARS:
                x.assignable = False
                x.why.append("unassignable: no unit, stable serves")
                return None
            x.bucket = bucket(pin.salt, unit)
        for arm in pin.arms:
            if arm.start <= x.bucket < arm.end:
                x.chosen, x.variant = arm.model.id, arm.name
                x.why.append(f"bucket {x.bucket} in {arm.name} [{arm.start},{arm.end})")
                return None
        x.why.append(f"bucket {x.bucket} in no arm: stable")
        return None
