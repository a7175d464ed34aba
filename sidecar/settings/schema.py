"""The shape of the pin file: every key, its type, its range, its default and its meaning.

Decides: shape. One source for loading, docs/pins.md's check, docs/configuration.md and the JSON Schema.
Does not decide: whether names exist and shares add up (`compile.py`). A key that is absent is None here, so that what
was set can be told from what is default; the defaults that None stands for are in the descriptions.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sidecar.settings.units import Delay, Duration, HedgeAfter, Percent

Positive = Annotated[int, Meta(ge=1, le=10**15)]
Money = Annotated[float, Meta(ge=0, le=1e6)]
Milliseconds = Annotated[float, Meta(gt=0, le=1e7)]
UsdPerDay = Annotated[float, Meta(gt=0, le=1e9)]
ExtraRatio = Annotated[float, Meta(ge=0, le=1)]
ExtraBurst = Annotated[int, Meta(ge=0, le=10**6)]
Attempts = Annotated[int, Meta(ge=1, le=10)]
Generation = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Names = Annotated[tuple[str, ...], Meta(min_length=1)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A mapping of the file. Unknown keys are refused.

    Nothing in it leads back to it, so the garbage collector needn't walk it: a file holds thousands.
    """


class TimeoutsSpec(Section, frozen=True):
    """Time limits of one call. An absent key takes the pin file's `defaults`, then the built-in value."""

    connect: Annotated[
        Duration | None, Meta(description="Until the connection to the provider stands. Default: 3s.")
    ] = None
    first_event: Annotated[
        Duration | None, Meta(description="Until the first useful event; pings do not count. Default: 120s.")
    ] = None
    idle: Annotated[Duration | None, Meta(description="Between two pieces of the answer, any bytes. Default: 60s.")] = (
        None
    )
    content_idle: Annotated[
        Duration | None, Meta(description="Between two useful events; pings do not count. Default: 300s.")
    ] = None
    total: Annotated[Duration | None, Meta(description="The whole call. Default: 900s.")] = None
    write_stall: Annotated[
        Duration | None, Meta(description="How long the app may take none of the answer's bytes. Default: 30s.")
    ] = None


class RetrySpec(Section, frozen=True):
    """Waiting between two attempts at the same target."""

    base: Annotated[Duration | None, Meta(description="The first wait; it doubles each time. Default: 200ms.")] = None
    max: Annotated[Duration | None, Meta(description="The longest wait. Default: 8s.")] = None


class ExtraLoadSpec(Section, frozen=True):
    """How much load retries and hedges may add to a target: a token bucket."""

    ratio: Annotated[ExtraRatio | None, Meta(description="Extra attempts earned by a request. Default: 0.05.")] = None
    burst: Annotated[ExtraBurst | None, Meta(description="Size of the bucket. Default: 10.")] = None


class PriceSpec(Section, frozen=True):
    """USD per million tokens."""

    input: Annotated[Money, Meta(description="Input tokens.")]
    output: Annotated[Money, Meta(description="Output tokens.")]
    cached_input: Annotated[
        Money | None, Meta(description="Input tokens that the provider had cached. Default: as input.")
    ] = None
    cache_write: Annotated[Money | None, Meta(description="Input tokens written to its cache. Default: as input.")] = (
        None
    )


class BudgetSpec(Section, frozen=True):
    """Limits in fixed UTC windows. At least one is needed."""

    scope: Annotated[
        Literal["pod", "fleet"],
        Meta(description="Counted by this pod alone, or shared; `fleet` needs `fleet:` in sidecar.yaml."),
    ] = "pod"
    requests_per_minute: Annotated[Positive | None, Meta(description="Requests in a minute. Default: no limit.")] = None
    tokens_per_minute: Annotated[Positive | None, Meta(description="Input and output tokens. Default: no limit.")] = (
        None
    )
    input_tokens_per_minute: Annotated[Positive | None, Meta(description="Input tokens. Default: no limit.")] = None
    output_tokens_per_minute: Annotated[Positive | None, Meta(description="Output tokens. Default: no limit.")] = None
    tokens_per_day: Annotated[Positive | None, Meta(description="Input and output tokens. Default: no limit.")] = None
    usd_per_day: Annotated[UsdPerDay | None, Meta(description="USD, by `price`. Default: no limit.")] = None


class BreakerSpec(Section, frozen=True):
    """When a failing target is left alone for a while."""

    failures: Annotated[int, Meta(ge=1, le=10**6, description="Consecutive failures that trip it.")] = 5
    ratio: Annotated[float, Meta(gt=0, le=1, description="Share of failures in the window that trips it.")] = 0.5
    minimum: Annotated[
        int, Meta(ge=1, le=10**6, description="Attempts in the window below which the ratio is not asked.")
    ] = 20
    window: Annotated[Duration, Meta(description="Length of the window.")] = Duration(30)
    slow_first_event: Annotated[
        Duration | None, Meta(description="A first useful event later than this is a failure. Default: off.")
    ] = None
    cooldown: Annotated[Duration, Meta(description="How long a tripped target rests.")] = Duration(10)
    max_cooldown: Annotated[Duration, Meta(description="The longest rest after repeated trips.")] = Duration(60)


class ModelSpec(Section, frozen=True):
    """One immutable model and the facts that routing needs."""

    provider: Annotated[str, Meta(description="A provider of sidecar.yaml.")]
    context: Annotated[Positive | None, Meta(description="Context window in tokens. Default: unknown.")] = None
    max_output: Annotated[Positive | None, Meta(description="Most output tokens of one answer. Default: unknown.")] = (
        None
    )
    latency_ms: Annotated[
        Milliseconds | None, Meta(description="Typical latency in milliseconds, for policy pins. Default: unknown.")
    ] = None
    price: Annotated[PriceSpec | None, Meta(description="USD per million tokens. Default: unknown.")] = None
    retires: Annotated[date | None, Meta(description="The day the provider takes it away, `2027-03-31`.")] = None
    immutable: Annotated[
        bool, Meta(description="This id never changes its meaning, though it bears no date or numbered revision.")
    ] = False
    floating: Annotated[
        bool, Meta(description="The provider may move this id at any time. `*-latest` must say so.")
    ] = False
    budget: Annotated[BudgetSpec | None, Meta(description="Limits for this model. Default: none.")] = None
    breaker: Annotated[BreakerSpec | None, Meta(description="Circuit breaker for this model. Default: off.")] = None


class VariantSpec(Section, frozen=True):
    """One arm of an experiment or canary."""

    model: Annotated[str, Meta(description="A catalogued model id.")]
    percent: Annotated[Percent, Meta(description="Its share of units, 0 to 100, at most two decimals.")]
    start: Annotated[
        Percent | None, Meta(description="Where its share begins. Default: 0 for one variant; needed for two or more.")
    ] = None


class HedgeSpec(Section, frozen=True):
    """A second attempt at a slow call; the first useful event wins."""

    model: Annotated[str | None, Meta(description="The model of the second attempt. Default: the same one.")] = None
    after: Annotated[
        HedgeAfter | None, Meta(description="A delay (`200ms`) or a live quantile (`p95`). Default: p95.")
    ] = None
    min: Annotated[Delay | None, Meta(description="A quantile's delay is never shorter. Default: no bound.")] = None
    max: Annotated[Duration | None, Meta(description="A quantile's delay is never longer. Default: no bound.")] = None


class CacheSpec(Section, frozen=True):
    """Answers to the same prompt, kept for a while."""

    ttl: Annotated[Duration, Meta(description="How long an answer is kept.")]
    always: Annotated[bool, Meta(description="Cache requests that are not deterministic, too.")] = False


class DrillSpec(Section, frozen=True):
    """A tiny request through the real fallback path, so that it is known to work."""

    every: Annotated[Duration, Meta(description="How often.")]


class MaxPriceSpec(Section, frozen=True):
    """USD per million tokens."""

    input: Annotated[Money | None, Meta(description="Input tokens. Default: no bound.")] = None
    output: Annotated[Money | None, Meta(description="Output tokens. Default: no bound.")] = None


class PolicySpec(Section, frozen=True):
    """Chooses among the catalogued models at each request."""

    max_latency_ms: Annotated[
        Milliseconds | None, Meta(description="Slower models are left out. Default: no bound.")
    ] = None
    max_price: Annotated[MaxPriceSpec | None, Meta(description="Dearer models are left out. Default: no bound.")] = None
    min_context: Annotated[Positive | None, Meta(description="Smaller models are left out. Default: no bound.")] = None
    prefer: Annotated[
        Literal["context", "price", "latency"] | None,
        Meta(description="Which that fits comes first: largest context, lowest price or latency. Default: file order."),
    ] = None


class Shared(Section, frozen=True):
    """What a pin may set for itself, and `defaults` for all pins at once."""

    max_attempts: Annotated[
        Attempts | None, Meta(description="Retries, fallbacks and hedges together with the first. Default: 3.")
    ] = None
    timeouts: Annotated[TimeoutsSpec | None, Meta(description="Time limits. Default: see below.")] = None
    hold: Annotated[
        Delay | None,
        Meta(description="How long early events are held back for a possible fallback. Default: 10s."),
    ] = None
    retry: Annotated[
        RetrySpec | None, Meta(description="Waits between attempts at one target. Default: see below.")
    ] = None
    extra_load: Annotated[
        ExtraLoadSpec | None, Meta(description="Load that retries and hedges may add. Default: see below.")
    ] = None


class DefaultsSpec(Shared, frozen=True):
    """For all pins at once."""


class PinSpec(Shared, frozen=True):
    """What one name means: exactly one of `stable` and `policy`. What it doesn't set comes from `defaults`."""

    stable: Annotated[str | None, Meta(description="The catalogued model that the name means.")] = None
    policy: Annotated[PolicySpec | None, Meta(description="Choose a model at each request instead.")] = None
    salt: Annotated[Label | None, Meta(description="Seed of the variants' hash. Default: the pin's name.")] = None
    variants: Annotated[dict[str, VariantSpec] | None, Meta(description="Arms by name. Default: none.")] = None
    fallback: Annotated[tuple[str, ...] | None, Meta(description="Models tried next, in order. Default: none.")] = None
    hedge: Annotated[HedgeSpec | None, Meta(description="A second attempt at a slow call. Default: off.")] = None
    cache: Annotated[CacheSpec | None, Meta(description="Keep answers. Default: off.")] = None
    over_budget: Annotated[str | None, Meta(description="The model used when a budget is spent. Default: 429.")] = None
    budget: Annotated[BudgetSpec | None, Meta(description="Limits for this name. Default: none.")] = None
    drill: Annotated[DrillSpec | None, Meta(description="Try the fallback regularly. Default: off.")] = None
    providers: Annotated[Names | None, Meta(description="Residency: every target must live at one of these.")] = None
    task: Annotated[Label | None, Meta(description="Default label for events.")] = None


class PinFile(Section, frozen=True, kw_only=True):
    """The whole pin file."""

    version: Annotated[Literal[1], Meta(description="Version of this format.")] = 1
    generation: Annotated[
        Generation | None, Meta(description="Bookkeeping for people: raise it with each change. Default: 0.")
    ] = None
    unlisted: Annotated[
        Literal["reject", "pass"],
        Meta(description="What a name gets that is no pin, alias or catalogued id: 404, or passed on as it is."),
    ]
    defaults: Annotated[DefaultsSpec | None, Meta(description="For all pins at once.")] = None
    models: Annotated[dict[str, ModelSpec], Meta(description="The catalogue: immutable ids and their facts.")] = {}
    pins: Annotated[dict[str, PinSpec], Meta(description="The names that apps send, and what they mean.")] = {}
    aliases: Annotated[
        dict[str, str],
        Meta(description="Published names of catalogued ids; a published one never changes its meaning."),
    ] = {}
