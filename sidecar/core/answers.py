"""A complete answer that can be given again, a call under way that others wait for, and what both are found by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from sidecar.core.facts import Target, Usage
from sidecar.errors import Refusal


@dataclass(frozen=True, slots=True, repr=False)  # it is what a model said
class Stored:
    """An answer as it was sent, byte for byte. `headers` are the provider's end-to-end ones, without ours."""

    status: int
    reason: str | None
    headers: tuple[tuple[str, str], ...]
    body: bytes
    provider: str
    model: str  # that served
    usage: Usage | None  # what it cost when it was made
    stored_at: float  # monotonic seconds


FlightKey = Hashable
"""What is the same for all that may wait for one call. It never leaves the process, so it needn't be a digest."""

Tell = Callable[[Stored | Refusal | None], None]


@dataclass(slots=True, repr=False, eq=False)
class Flight:
    """A call that several requests wait for. A waiter is told the answer, the failure, or None if it
    must ask for itself.

    `forsaken` is what ends the call once nobody waits for it any more; None as long as the leader's own client does.
    """

    key: FlightKey
    leader: str  # its request's id
    waiters: dict[str, Tell] = field(default_factory=dict)  # request id → told once
    landed: bool = False
    second: bool = False  # its leader had waited itself, for one that came to nothing
    forsaken: Callable[[], object] | None = None


def entry_key(identity: bytes, target: Target) -> bytes:
    """Where the answer of `target` stands to a request with that identity (a SHA-256 digest). 32 bytes.

    The model is the immutable one that served, never a pin's or an alias's name: a pin that is pointed elsewhere
    misses. A name of a model or provider has no NUL, so two pairs never make one key.
    """
    named = f"{target.provider}\0{target.model or ''}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(identity + named).digest()
