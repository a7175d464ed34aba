"""How long a provider asks to be left alone, and whether it wants to be tried again at all.

Decided here: what its headers and its answer say, in seconds. Not decided here: whether so long a wait is worth it
(policies; nothing is capped here), or what to do if nothing was said.

A value that is no positive, finite length of time, or longer than a month, says nothing, and the next source is asked.
Zero says nothing either: the SDKs take it so and back off on their own (openai-python, `_calculate_retry_timeout`:
`0 < retry_after`), and Azure sends 0 and -1 for "unknown".
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sidecar.dialects.meters import loads

LONGEST_S = 31 * 86_400.0
"""No provider's window is longer than a month. What is longer is a time of day, an overflow, or a joke."""

_LOOKED_AT = 64 * 1024
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?")
_DATE = re.compile(r"[A-Za-z]{3,9},? ")  # all three forms of RFC 9110 §5.6.7 begin with a day's name
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,15})?)(h|ms|us|µs|μs|ns|m|s)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}

_OPENAI_LIMITS = ("requests", "tokens")
_ANTHROPIC_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")


def retry_after_s(status: int, headers: Mapping[str, str], body: bytes, dialect: str, utc_now: float) -> float | None:
    """How long the provider of this failed answer asks to be left alone; None where it doesn't say.

    `headers` with keys in any case, or in small letters; `utc_now` in seconds of the Unix epoch. The sources, the
    first that says something counts:

    1. `retry-after-ms`, then Azure's `x-ms-retry-after-ms`: the same decision as `retry-after`, before it was rounded
       to whole seconds. openai-python and anthropic-sdk-python ask in this order, too (`_parse_retry_after_header`).
    2. `retry-after` (RFC 9110 §10.2.3): seconds, with decimals as the SDKs allow them, or an HTTP-date.
    3. google.rpc.RetryInfo in the answer, Google's only way to say it, also on its OpenAI-compatible paths. After the
       headers, since a proxy in front of a provider speaks in headers and knows better when it will let us through.
    4. For 429, when the limits that are used up are *full* again (OpenAI `x-ratelimit-reset-*`; Anthropic
       `anthropic-ratelimit-*-reset`, "will be fully replenished"). Last, for the request would mostly pass sooner.
       Of several the longest: it has to pass all of them. One of which something remains isn't what refused it.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        asked = _sane(_seconds(headers.get(name)), 1e-3)
        if asked is not None:
            return asked
    asked = _sane(_retry_after(headers.get("retry-after"), utc_now))
    if asked is None:
        asked = _longest(_go_duration(delay) for delay in _retry_delays(body))
    if asked is None and status == 429:
        asked = _longest(_resets(headers, dialect, utc_now))
    return asked


def may_retry(headers: Mapping[str, str]) -> bool:
    """False where the provider asks not to be tried again: `x-should-retry: false`, which both SDKs obey.

    `true` tells nothing more than its absence: whether a failure can be retried at all is for the policies.
    """
    return headers.get("x-should-retry", "").strip().lower() != "false"


def _sane(seconds: float | None, unit_s: float = 1.0) -> float | None:
    if seconds is None:
        return None
    seconds *= unit_s
    return seconds if 0 < seconds <= LONGEST_S else None  # False for nan, too


def _longest(waits: Iterable[float | None]) -> float | None:
    return max((w for w in map(_sane, waits) if w is not None), default=None)


def _seconds(raw: str | None) -> float | None:
    """A plain decimal number. `float` alone would take `1_0`, `inf` and digits of any script."""
    text = (raw or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _retry_after(raw: str | None, utc_now: float) -> float | None:
    seconds = _seconds(raw)
    text = (raw or "").strip()
    if seconds is not None or not _DATE.match(text):
        return seconds
    try:
        parsed = email.utils.parsedate_tz(text)
        # An HTTP-date is UTC, also in the form that doesn't say so; mktime_tz would take that as local time.
        return None if parsed is None else email.utils.mktime_tz((*parsed[:9], parsed[9] or 0)) - utc_now
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _retry_delays(body: bytes) -> list[str]:
    """`retryDelay` of each RetryInfo: a Duration in protobuf's JSON, which is a Go duration of one part (`34.07s`)."""
    parsed = loads(body[:_LOOKED_AT])
    if isinstance(parsed, list) and parsed:  # Gemini wraps the error of a streamed call into an array
        parsed = parsed[0]
    error = parsed.get("error") if isinstance(parsed, dict) else None
    details: Any = error.get("details") if isinstance(error, dict) else None
    delays = [d.get("retryDelay") for d in details if isinstance(d, dict)] if isinstance(details, list) else []
    return [delay for delay in delays if isinstance(delay, str)]


def _resets(headers: Mapping[str, str], dialect: str, utc_now: float) -> Iterable[float | None]:
    if dialect == "anthropic":
        for limit in _ANTHROPIC_LIMITS:
            if _used_up(headers.get(f"anthropic-ratelimit-{limit}-remaining")):
                yield _until(headers.get(f"anthropic-ratelimit-{limit}-reset"), utc_now)
    else:
        for limit in _OPENAI_LIMITS:
            if _used_up(headers.get(f"x-ratelimit-remaining-{limit}")):
                yield _go_duration(headers.get(f"x-ratelimit-reset-{limit}"))


def _used_up(remaining: str | None) -> bool:
    """Nothing is left of it, or what is left isn't said in a way that could be understood."""
    return not _seconds(remaining)


def _until(raw: str | None, utc_now: float) -> float | None:
    """RFC 3339; UTC where it doesn't say."""
    text = (raw or "").strip()
    if not _TIMESTAMP.match(text):
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() - utc_now
    except (ValueError, OverflowError):
        return None


def _go_duration(raw: str | None) -> float | None:
    """`6m0s`, `1.5s`, `9ms`: as Go's time.Duration writes them. Without a unit it is garbage, as for Go."""
    text = (raw or "").strip()
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)
