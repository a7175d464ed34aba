"""What a provider's answer of 400 or more means, whichever dialect it is in.

Not decided here: what is done about it (policies), or what the client is shown (the answer, byte for byte).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sidecar.core.facts import Fault
from sidecar.dialects.meters import loads

# Money or a fixed allowance is gone; waiting doesn't help (ecosystem notes §3: the two kinds of 429).
_QUOTA = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "billing_error",
        "quota_exceeded",
    }
)
_QUOTA_TEXT = re.compile(
    rb"credit balance is too low|exceeded your current quota, please check your plan", re.IGNORECASE
)
_GONE = frozenset({"model_not_found", "model_not_available", "deprecated_model", "model_deprecated"})
_NO_SUCH = frozenset({"not_found_error", "not_found"})
_MODEL = re.compile(rb"\bmodels?\b", re.IGNORECASE)
_STREAM_OPTIONS = re.compile(rb"stream_options|include_usage")
_LOOKED_AT = 64 * 1024


def classify(status: int, headers: Mapping[str, str], body: bytes, dialect: str) -> Fault:  # noqa: ARG001 - no rule needs them yet
    """The fault of an answer. The first rule that fits decides; the order matters:

    1. 402, or an answer that says that money or quota is gone: QUOTA. Before the rate limit, since both come as 429
       and only one of them ends by waiting; before "refused", since some send it as 403.
    2. 400 or 422 that names stream_options: STREAM_OPTIONS. Before "caller": the caller didn't write them.
    3. 404 on a model, or 400 with a code that says so: MODEL_GONE. A 404 on something else (a file, a response, the
       path itself) is the caller's.
    4. 401, 403: REFUSED. Gemini says 400 with the reason API_KEY_INVALID for a wrong key.
    5. 429: RATE_LIMIT.
    6. 408 and every 5xx (529 is Anthropic's overload): OVERLOAD.
    7. What is left below 500: CALLER.
    """
    body = body[:_LOOKED_AT]
    said = _words(body)
    if status == 402 or said & _QUOTA or (status < 500 and _QUOTA_TEXT.search(body) and dialect != "gemini"):
        return Fault.QUOTA
    if status in (400, 422) and _STREAM_OPTIONS.search(body):
        return Fault.STREAM_OPTIONS
    if status in (400, 404, 410) and said & _GONE:
        return Fault.MODEL_GONE
    if status in (404, 410) and said & _NO_SUCH and _MODEL.search(body):
        return Fault.MODEL_GONE
    if status in (401, 403) or "api_key_invalid" in said:
        return Fault.REFUSED
    if status == 429:
        return Fault.RATE_LIMIT
    if status == 408 or status >= 500:
        return Fault.OVERLOAD
    return Fault.CALLER


def _words(body: bytes) -> set[str]:
    """The machine-readable words of an error: its code, type, status and reasons, in small letters."""
    parsed = loads(body)
    if isinstance(parsed, list) and parsed:  # Gemini wraps the error of a streamed call into an array
        parsed = parsed[0]
    error = parsed.get("error") if isinstance(parsed, dict) else None
    tables: list[Any] = [parsed, error]
    if isinstance(error, dict):
        details = error.get("details")
        tables += details if isinstance(details, list) else [details]
    words = set()
    for table in tables:
        if isinstance(table, dict):
            words |= {
                table[key].lower() for key in ("code", "type", "status", "reason") if isinstance(table.get(key), str)
            }
    return words
