"""The nouns of the sidecar: what a request asks, where it may go, what an attempt did, what it cost.

Only data. Times are seconds of a monotonic clock that the caller passes in; token counts are the provider's own.

What is made for each request and never changes is a named tuple: a frozen dataclass takes twice as long to make.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol


class Fault(StrEnum):
    """What went wrong with an attempt, whoever's fault it was. `dialects/faults.py` says which answer means which."""

    CALLER = "caller"  # the request itself is wrong: another target would refuse it too
    MODEL_GONE = "model_gone"
    REFUSED = "refused"  # the credential was refused
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"  # money or quota is gone: waiting does not help
    OVERLOAD = "overload"
    CONNECT = "connect"  # no connection could be made
    STALE = "stale"  # a kept connection turned out dead before any byte of the answer
    TIMEOUT = "timeout"  # no connection, or nothing more of the answer, within its limit; or the time was up
    SLOW = "slow"  # given up, so that another target still has time to answer
    BROKEN = "broken"  # the answer ended or turned to nonsense before it was complete
    STREAM_OPTIONS = "stream_options"  # the provider doesn't know `stream_options`, which we had added


class Cause(StrEnum):
    """Why an attempt was launched."""

    FIRST = "first"
    RESEND = "resend"  # the kept connection was dead
    WITHOUT_USAGE = "without_usage"  # asked again without the `include_usage` that we had added
    RETRY = "retry"  # the same target once more
    HEDGE = "hedge"  # beside one that is slow, or at once after it failed early
    FALLBACK = "fallback"  # the next target


class Result(StrEnum):
    """How an attempt ended."""

    OK = "ok"
    FAILED = "failed"
    LOST_HEDGE = "lost_hedge"
    CLIENT_GONE = "client_gone"


@dataclass(slots=True)
class Usage:
    """Tokens as the provider counted them, in one meaning for all dialects.

    `input` includes cached and cache-writing tokens (OpenAI and Gemini count so; Anthropic's are added in), `output`
    includes reasoning. `odd` tells that the provider sent nonsense (negative, text, huge) which was counted as zero.
    """

    input: int = 0
    output: int = 0
    cached_input: int = 0
    cache_write: int = 0
    reasoning: int = 0
    odd: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached_input + other.cached_input,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
            self.odd or other.odd,
        )


class Target(NamedTuple):
    """One model at one provider. `model` is None where the request names none: it passes untouched."""

    provider: str
    model: str | None


class Heard(Protocol):
    """What was received of a stream so far. The dialects' meters are such things, so it is always up to date."""

    usage: Usage | None
    text_bytes: int
    deltas: int


class Prompt(NamedTuple):
    """The texts of a request that its model reads, and the tokens that frame them."""

    texts: list[str]
    framing: int


@dataclass(slots=True)
class Ask:
    """What a request says of itself, as its dialect read it. Nothing here has been checked against the pin file."""

    dialect: str
    operation: str = "other"  # OTel's gen_ai.operation.name, or `other`
    name: str | None = None  # the model or capability asked for
    provider: str | None = None  # the provider that the path names outright
    unit: str | None = None  # who or what the variant sticks to
    stream: bool = False
    may_add_usage: bool = False  # an OpenAI chat stream that says nothing of include_usage
    body_bytes: int = 0  # of the whole body
    media_bytes: int = 0  # of these, encoded images, sound and files: their tokens don't follow from their length
    max_output: int | None = None  # the caller's cap on output tokens, for one choice
    choices: int = 1  # answers asked for at once
    generates: bool = False  # a call of a model, whose tokens count; not a lookup, an upload, a batch
    bound: bool = False  # names state that a provider holds: it must not leave that provider
    side_effects: bool = False  # answering twice does something twice: stored, in the background, hosted tools
    deterministic: bool = False  # temperature 0, a seed, or an operation without chance
    repeatable: bool = True  # the body is at hand and can be sent again
    required: bool = False  # the provider's API demands a model here
    task: str | None = None
    no_fallback: bool = False  # x-sidecar-fallback: off
    no_hedge: bool = False  # x-sidecar-hedge: off
    cache: str = "use"  # x-sidecar-cache: use | bypass | refresh
    identity: Callable[[], bytes | None] | None = None  # what shapes the answer besides the model, canonical; secret
    prompt: Callable[[], Prompt | None] | None = None  # its texts, for exact counting; secret


@dataclass(slots=True)
class Attempt:
    """One try at one target. The runtime writes what it saw, the race what that meant."""

    number: int
    target: Target
    cause: Cause
    started_at: float
    answered_at: float | None = None  # headers of the answer
    first_at: float | None = None  # first useful event
    ended_at: float | None = None
    status: int | None = None
    reused: bool = False  # sent on a kept connection
    fault: Fault | None = None
    result: Result | None = None
    usage: Usage | None = None
    served: str | None = None  # the model that the provider says it used
    heard: Heard | None = None  # of its stream
    retry_after_s: float | None = None  # how long the provider asks to be left alone
    retryable: bool = True  # False: the provider asked not to be tried again (x-should-retry)
    add_usage: bool = False  # policies/stream_usage: this attempt asks the stream for its usage
    reserved: tuple[int, int] | None = None  # policies/budget: input and output tokens set aside for it
    due_at: float | None = None  # when the race wanted it: a retry waits, and timers come late
    committed_at: float | None = None  # from then on its answer was the one to send


class CacheKey(NamedTuple):
    """Where the answer of a request may be kept. `identity` is a digest of all that shapes it but the model."""

    identity: bytes
    ttl_s: float
    refresh: bool  # not asked, only written
    leads: bool  # others may wait for this one's answer


class Hold(Protocol):
    """What the ledger has set aside. Closed exactly once: by one of the two."""

    def settle(self, *, input: int, output: int, usd: float, sent: bool = True) -> None:  # noqa: A002 - field names
        """What was really used, instead of what was set aside. Not `sent`: it was no request of the model's."""

    def release(self) -> None:
        """Nothing was sent."""


class Purse(NamedTuple):
    """What is set aside for one attempt: tokens, and USD (0 where the model has no price)."""

    input: int
    output: int
    usd: float
    hold: Hold


class Veto(NamedTuple):
    """A further attempt that a policy didn't let in, by what the state was then."""

    number: int  # that it would have had
    cause: Cause
    by: str  # the policy
    said: tuple[str, ...]  # its words in `why`


class Outcome(NamedTuple):
    """What a request came to, told once to each policy it passed (`settle`)."""

    attempts: tuple[Attempt, ...]
    winner: Attempt | None
    error: str | None  # our code, or the fault of the provider's answer
    status: int | None  # what the client was sent; None if it left before


@dataclass(slots=True)
class Exchange:
    """One client request and all that is decided of it. Each field names the one file that writes it."""

    id: str
    ask: Ask
    received_at: float
    depth: int = 0  # core/pipeline
    drill: bool = False  # runtime/drill: our own tiny request, whose size says nothing of the app's
    kind: str = "undecided"  # policies/name: pin | alias | catalogued | unlisted | none
    pin: str | None = None  # policies/name: the name, if the pin file knows it
    chosen: str | None = None  # policies/name, variant, choice: the id of the model decided on
    variant: str = "stable"  # policies/variant
    bucket: int | None = None  # policies/variant: 0..9999; None where nothing was assigned
    assignable: bool = True  # policies/variant: False if variants exist but the request names no unit
    latencies_ms: dict[str, int] | None = None  # policies/choice: what was measured when it decided
    eligible: tuple[str, ...] | None = None  # policies/choice: the providers it could use
    targets: tuple[Target, ...] = ()  # policies/targets, breaker, budget: in the order in which they are tried
    sizes: dict[str, int] | None = None  # policies/targets: model id → input tokens that this request has there
    left_out: tuple[str, ...] = ()  # policies/targets: models that can't hold the request
    default_provider: str | None = None  # policies/targets: whom the dialect's plain paths meant
    usable: tuple[str, ...] | None = None  # policies/targets: the targets' providers that there is a credential for
    health: dict[str, str] | None = None  # policies/breaker: model id → state of those that aren't closed
    cache: str = "off"  # policies/cache: hit | miss | coalesced | bypass | off
    cache_key: CacheKey | None = None  # policies/cache: where its answer may be kept
    recalled: bool = False  # runtime/fleet_recall: admitted, then found in the fleet's tier of the cache
    budget: dict[str, float] | None = None  # policies/budget: estimates, and what was left of each limit before
    over_budget: bool = False  # policies/budget: the pin's cheaper model serves
    purses: dict[int, Purse] = field(default_factory=dict)  # policies/budget: by attempt number, 0 before it
    hedge_after_s: float | None = None  # policies/hedge: from the first attempt on
    hedge_least_s: float | None = None  # policies/hedge: how much time must be left for one
    injects: dict[str, bool] | None = None  # policies/fallback: providers that refused a credential → was it ours
    slow_at: float | None = None  # core/pipeline: when it was asked what to do about a slow attempt
    vetoes: list[Veto] = field(default_factory=list)  # core/pipeline
    attempts: list[Attempt] = field(default_factory=list)  # core/race: those launched, in order
    deadline: float = math.inf  # runtime/handler: when the first useful event must have come
    why: list[str] = field(default_factory=list)  # every policy, in order; ASCII, never client text
    task: str | None = None  # policies/name
