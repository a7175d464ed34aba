"""What an attempt cost that is over: equal to the provider's bill where it told its usage, at least the bill elsewhere.

* Nothing: an error's status, or no connection.
* The usage, where the answer is complete and tells it. Where it tells none, what was set aside for it (or what came,
  if that was more).
* What came, where it broke off: the input and the larger of the content's pieces and its text bytes / 4 (DESIGN 3.8).
  Where nothing came it keeps what was set aside: the provider may have worked for it all the same. Where the
  provider's own error came instead, in a 200, it costs the input: it had been read before that.

What a stream has told of its usage until then is the least in each case, except where an answer is complete. Nonsense
in a usage counts as zero there, so such an attempt keeps at least what was set aside.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core.facts import Attempt, Fault, Result, Usage

_NEVER_SENT = frozenset({Fault.CONNECT, Fault.STALE})
_PROVIDER_SAID_NO = frozenset(
    {
        Fault.CALLER,
        Fault.MODEL_GONE,
        Fault.REFUSED,
        Fault.RATE_LIMIT,
        Fault.QUOTA,
        Fault.OVERLOAD,
        Fault.STREAM_OPTIONS,
    }
)


class Charge(NamedTuple):
    """`kept`: it costs no less than what was set aside. `sent`: the provider has seen a request."""

    usage: Usage
    kept: bool
    sent: bool = True

    def told(self, attempt: Attempt) -> bool:
        """Whether these are the provider's own numbers, and not at least in part an estimate."""
        told = _told(attempt)
        return self.usage is told or self.usage == told


def charge(attempt: Attempt, input_tokens: int, output_tokens: int) -> Charge:
    """Of an attempt that is over. `input_tokens`, `output_tokens`: what was set aside for it."""
    heard, told = attempt.heard, _told(attempt)
    if attempt.result is Result.OK and told is not None and not told.odd:
        return Charge(told, kept=False)
    came = max(heard.deltas, -(-heard.text_bytes // 4)) if heard is not None else 0
    if attempt.result is Result.OK:
        return Charge(_most(told, Usage(input_tokens, max(output_tokens, came))), kept=True)
    if attempt.fault in _NEVER_SENT:
        return Charge(Usage(), kept=False, sent=False)
    if (attempt.status or 0) >= 400:
        return Charge(Usage(), kept=False)
    if heard is None and told is not None and not told.odd:
        return Charge(told, kept=False)  # a whole answer that was read, but not wanted any more
    if told is not None and told.odd:
        return Charge(_most(told, Usage(input_tokens, max(output_tokens, came))), kept=True)
    if came:
        return Charge(_most(told, Usage(input_tokens, came)), kept=False)
    if attempt.fault in _PROVIDER_SAID_NO:  # without a status: it wasn't even asked
        return Charge(told or Usage(input_tokens if attempt.status else 0), kept=False)
    return Charge(_most(told, Usage(input_tokens, output_tokens)), kept=True)


def _told(attempt: Attempt) -> Usage | None:
    """What the provider said of it, be it only of its stream so far."""
    return attempt.usage or (attempt.heard.usage if attempt.heard is not None else None)


def _most(told: Usage | None, least: Usage) -> Usage:
    """Of what was told, but no less input and output than `least`."""
    if told is None:
        return least
    return Usage(
        max(told.input, least.input),
        max(told.output, least.output),
        told.cached_input,
        told.cache_write,
        told.reasoning,
        told.odd,
    )
