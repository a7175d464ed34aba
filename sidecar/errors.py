"""Every refusal that the sidecar makes itself: its code, its HTTP status, and the exception that carries it.

A provider's own error is never one of these: it passes through byte for byte. How a refusal looks on the wire is
the dialect's business (`dialects/*.refuse`); this file only says what there is to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The value of `x-sidecar-error`, and of `error.code` in an OpenAI envelope."""

    UNKNOWN_MODEL = "sidecar_unknown_model"
    BAD_REQUEST = "sidecar_bad_request"
    FORBIDDEN = "sidecar_forbidden"
    TOO_LARGE = "sidecar_too_large"
    OVERLOADED = "sidecar_overloaded"
    BUDGET_EXCEEDED = "sidecar_budget_exceeded"
    NO_TARGET = "sidecar_no_target"
    UNREACHABLE = "sidecar_upstream_unreachable"
    TIMEOUT = "sidecar_upstream_timeout"
    INTERRUPTED = "sidecar_stream_interrupted"
    DRAINING = "sidecar_draining"
    INTERNAL = "sidecar_internal"


STATUS = {
    Code.UNKNOWN_MODEL: 404,
    Code.BAD_REQUEST: 400,
    Code.FORBIDDEN: 403,
    Code.TOO_LARGE: 413,
    Code.OVERLOADED: 503,
    Code.BUDGET_EXCEEDED: 429,
    Code.NO_TARGET: 503,
    Code.UNREACHABLE: 502,
    Code.TIMEOUT: 504,
    Code.INTERRUPTED: 502,  # only where nothing was committed yet; otherwise it is an event inside the stream
    Code.DRAINING: 503,
    Code.INTERNAL: 500,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the caller is told instead of a provider's answer.

    `message` is for people and may name pins and providers of our own files, never a secret. `retry_after_s` is in
    seconds. `close` asks that the connection be closed after the answer, since its request was not read to the end.
    `http_status` replaces the code's own status where HTTP has a better one (415 for an encoded body). `headers` go
    with the answer.
    """

    code: Code
    message: str
    retry_after_s: float | None = None
    close: bool = False
    http_status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def status(self) -> int:
        return self.http_status or STATUS[self.code]


class RefusedError(Exception):
    """Raised where a refusal must leave several frames; rendered at one edge, in `runtime/handler.py`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def bad_request(message: str) -> RefusedError:
    """A `sidecar_bad_request`, ready to raise."""
    return RefusedError(Refusal(Code.BAD_REQUEST, message))
