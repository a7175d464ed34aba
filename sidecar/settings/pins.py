"""The pin file as the request path uses it: resolved, checked, immutable. No I/O, no parsing.

Decides: what a loaded pin file looks like to the policies, and what stopping a variant means for it.
Does not decide: which files are accepted (`compile.py`), or which arm a request gets (the policies).

All shares are in 1/10,000 (`Arm.start`, `Arm.end`), prices in USD per million tokens, times in seconds unless the
name says `_ms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from sidecar.settings.problems import Problem
from sidecar.settings.schema import DefaultsSpec, ModelSpec, PinSpec

BUCKETS = 10_000
STABLE = "stable"


class UnknownVariant(KeyError):  # noqa: N818 - named for what is asked, not for the class of trouble
    """There is no such pin, or no such variant of it."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. None: charged as ordinary input."""

    input: float
    output: float
    cached_input: float | None
    cache_write: float | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_event_set`: `first_event` stands in the file (at the pin or in `defaults`)."""

    connect_s: float
    first_event_s: float
    idle_s: float
    content_idle_s: float
    total_s: float
    write_stall_s: float
    first_event_set: bool


BUILT_IN_TIMEOUTS = Timeouts(
    connect_s=3.0,
    first_event_s=120.0,
    idle_s=60.0,
    content_idle_s=300.0,
    total_s=900.0,
    write_stall_s=30.0,
    first_event_set=False,
)


@dataclass(frozen=True, slots=True)
class Tries:
    """How often, how soon, and at whose expense a call is tried again. `hold_s`: how long early events are held."""

    max_attempts: int
    retry_base_s: float
    retry_max_s: float
    extra_ratio: float
    extra_burst: int
    hold_s: float


BUILT_IN_TRIES = Tries(max_attempts=3, retry_base_s=0.2, retry_max_s=8.0, extra_ratio=0.05, extra_burst=10, hold_s=10.0)


@dataclass(frozen=True, slots=True)
class Model:
    """One catalogued model. `dialect` is openai, anthropic or gemini; without settings, guessed from `provider`."""

    id: str
    provider: str
    dialect: str
    context: int | None
    max_output: int | None
    latency_ms: float | None
    price: Price | None
    retires: date | None
    floating: bool
    source: ModelSpec | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Arm:
    """A variant and its buckets: `start <= bucket < end`, of 0..9999. A share of 0 has `start == end`."""

    name: str
    model: Model
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy pin's filter. Prices in USD per million tokens; `prefer` is context, price, latency or None."""

    max_latency_ms: float | None
    max_input_price: float | None
    max_output_price: float | None
    min_context: int | None
    prefer: str | None


@dataclass(frozen=True, slots=True)
class Pin:
    """What one name means. Exactly one of `stable` and `rule` is set.

    `hedge_model` is None where the pin has no hedge, and where the hedge names no model (the same one then):
    `source.hedge` tells. `providers` is None where any provider may serve.
    """

    name: str
    stable: Model | None
    arms: tuple[Arm, ...]
    salt: str
    rule: Rule | None
    fallback: tuple[Model, ...]
    hedge_model: Model | None
    over_budget: Model | None
    task: str | None
    timeouts: Timeouts
    tries: Tries
    providers: frozenset[str] | None
    source: PinSpec = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pins:
    """A whole pin file. `sha256` (hex, of the file's bytes) is its identity; `generation` is bookkeeping for people.

    `stopped` are the (pin, variant) pairs that an operator has stopped since it was loaded.
    """

    generation: int
    sha256: str
    unlisted: str
    models: Mapping[str, Model]
    pins: Mapping[str, Pin]
    aliases: Mapping[str, Model]
    defaults_timeouts: Timeouts
    defaults_tries: Tries
    warnings: tuple[Problem, ...]
    stopped: frozenset[tuple[str, str]]
    path: str
    defaults: DefaultsSpec = field(default_factory=DefaultsSpec, repr=False)

    def pin(self, name: str | None) -> Pin | None:
        """The pin of that name; None for an alias, an id, or no name. A pin shares its name with neither."""
        return self.pins.get(name) if name is not None else None

    def tries(self, pin: str | None) -> Tries:
        """What a request under that name may do; the file's `defaults` where the name is no pin."""
        found = self.pin(pin)
        return found.tries if found is not None else self.defaults_tries

    def timeouts(self, pin: str | None) -> Timeouts:
        """The time limits of a request under that name; the file's `defaults` where the name is no pin."""
        found = self.pin(pin)
        return found.timeouts if found is not None else self.defaults_timeouts

    @property
    def label(self) -> str:
        """The generation as headers show it: `7`, or `7+stop` once a variant is stopped."""
        return f"{self.generation}+stop" if self.stopped else str(self.generation)

    @property
    def shown(self) -> int | str:
        """The generation as JSON shows it: the file's number, or the label `7+stop`."""
        return self.label if self.stopped else self.generation

    def stop(self, pin_name: str, variant_name: str) -> Pins:
        """A copy in which that variant takes no units; a second stop changes nothing. May raise UnknownVariant."""
        if (pin_name, variant_name) in self.stopped:
            return self
        pin = self.pins.get(pin_name)
        if pin is None:
            raise UnknownVariant(f"there is no pin {pin_name!a}")
        left = tuple(arm for arm in pin.arms if arm.name != variant_name)
        if len(left) == len(pin.arms):
            raise UnknownVariant(f"pin {pin_name!a} has no variant {variant_name!a}")
        return replace(
            self,
            pins={**self.pins, pin_name: replace(pin, arms=left)},
            stopped=self.stopped | {(pin_name, variant_name)},
        )
