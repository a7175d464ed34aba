"""The nouns of the sidecar: what a request asks, where it may go, what an attempt did, what it cost.

Only data. Times are seconds of a monotonic clock that the caller passes in; token counts are the provider's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


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
    TIMEOUT = "timeout"
    BROKEN = "broken"  # the answer ended or turned to nonsense before it was complete
    STREAM_OPTIONS = "stream_options"  # the provider doesn't know `stream_options`, which we had added


class Cause(StrEnum):
    """Why an attempt was launched."""

    FIRST = "first"
    RESEND = "resend"  # the kept connection was dead
    WITHOUT_USAGE = "without_usage"  # asked again without the `include_usage` that we had added


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


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one provider. `model` is None where the request names none: it passes untouched."""

    provider: str
    model: str | None


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
    input_tokens: int = 0  # estimate: bytes of the whole body / 4
    max_output: int | None = None
    bound: bool = False  # names state that a provider holds: it must not leave that provider
    required: bool = False  # the provider's API demands a model here
    task: str | None = None


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


@dataclass(frozen=True, slots=True)
class Outcome:
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
    kind: str = "undecided"  # policies/name: pin | alias | catalogued | unlisted | none
    pin: str | None = None  # policies/name: the name, if the pin file knows it
    chosen: str | None = None  # policies/name, variant, choice: the id of the model decided on
    variant: str = "stable"  # policies/variant
    bucket: int | None = None  # policies/variant: 0..9999; None where nothing was assigned
    assignable: bool = True  # policies/variant: False if variants exist but the request names no unit
    latencies_ms: dict[str, int] | None = None  # policies/choice: what was measured when it decided
    eligible: tuple[str, ...] | None = None  # policies/choice: the providers it could use
    targets: tuple[Target, ...] = ()  # policies/targets
    default_provider: str | None = None  # policies/targets: whom the dialect's plain paths meant
    credential: bool | None = None  # policies/targets: whether there was one for the target
    add_usage: bool = False  # policies/stream_usage
    why: list[str] = field(default_factory=list)  # every policy, in order; ASCII, never client text
    task: str | None = None  # policies/name
