"""What a provider's error means, whichever dialect it is in: an answer of 400 or more, or what stands inside a 200.

Not decided here: what is done about it (policies), how long to wait (`pushback.py`), or what the client is shown (the
answer, byte for byte).

Sources of the words: the error pages of OpenAI (where the code tells more than the type) and Anthropic; the types of
their SDKs (`openai.types.responses.ResponseError`, `anthropic.types.shared.*_error_details`); google.rpc.Code; for
retired models, what users report (the sentences stand in tests/dialects/test_faults.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.core.facts import Fault
from sidecar.dialects.meters import loads
from sidecar.dialects.sse import data

# Money or a fixed allowance is gone; waiting doesn't help (ecosystem notes §3: the two kinds of 429).
_QUOTA = frozenset(
    {
        # OpenAI; all of them may have the type insufficient_quota
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        # Anthropic; but for the first they come as `error.details.error_code` of a rate_limit_error
        "billing_error",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        # Google
        "billing_disabled",
        "quota_exceeded",
    }
)
_QUOTA_TEXT = re.compile(
    r"credit balance is too low|you have reached your specified api usage limits"  # Anthropic, as 400
    r"|exceeded your current quota, please check your plan"  # OpenAI
    r"|please enable billing",  # Google, as 400
    re.IGNORECASE,
)
# Google has one status, and one text, for every quota: the id tells one that is over for today from one of this minute.
_DAILY = re.compile(r'"quotaId"\s*:\s*"[^"]*PerDay')

_GONE = frozenset(
    {
        "model_not_found",
        "model_not_available",
        "deprecated_model",
        "model_deprecated",
        "model_retired",
        "model_decommissioned",
        "invalid_model",
        "deploymentnotfound",
        "deployment_not_found",
    }
)
# "The model `x` has been deprecated": one name at most between the two, and not "for this model", so that
# "`temperature` is deprecated for this model", however it is turned, stays the caller's fault.
_GONE_TEXT = re.compile(
    r"""(?<!for this )(?<!with this )\bmodel:?\s+(?:["'`]?[\w./:@,=-]+["'`]?\s+)?"""
    r"(?:(?:has\s+been|was|is)\s+(?:deprecated|retired|decommissioned|discontinued|shut\s+down|removed)\b"
    r"|(?:is\s+)?no\s+longer\s+(?:available|supported|served)\b|does\s+not\s+exist\b)",
    re.IGNORECASE,
)
_NO_SUCH = frozenset({"not_found_error", "not_found", "notfounderror"})
_MODEL = re.compile(r"\bmodels?\b", re.IGNORECASE)

_REFUSED = frozenset(
    {
        "invalid_api_key",
        "authentication_error",
        "permission_error",
        "organization_on_hold",
        "unauthenticated",
        "permission_denied",
        "api_key_invalid",
    }
)
_RATE_LIMIT = frozenset(
    {"rate_limit_error", "rate_limit_exceeded", "ramp_limit_exceeded", "slow_down", "resource_exhausted"}
)
_CALLER = frozenset(
    {
        "invalid_request_error",
        "request_too_large",
        "conflict_error",
        "context_length_exceeded",
        "content_policy_violation",
        # OpenAI, in `response.failed`
        "invalid_prompt",
        "data_residency_mismatch",
        "bio_policy",
        "misalignment_policy_violation",
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "invalid_image_mode",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "image_content_policy_violation",
        "image_file_too_large",
        "image_file_not_found",
        "unsupported_image_media_type",
        "empty_image_file",
        "failed_to_download_image",
        # Google
        "invalid_argument",
        "failed_precondition",
        "out_of_range",
    }
)

# The status that the words of an event would have come with, had it been an answer. The first that fits counts, so
# that what is said beside an all too common `invalid_request_error` goes before it.
_STATUS = ((_GONE, 404), (_NO_SUCH, 404), (_REFUSED, 401), (_RATE_LIMIT, 429), (_CALLER, 400))
_UNKNOWN = 500

_STREAM_OPTIONS = re.compile(r"stream_options|include_usage")
_HTTP = re.compile(r"[45][0-9]{2}")
_ERROR = re.compile(rb'"error"\s*:\s*[{"]')
_CONTENT = ("choices", "candidates", "content", "data")
_LOOKED_AT = 64 * 1024


def classify(status: int, headers: Mapping[str, str], body: bytes, dialect: str) -> Fault:  # noqa: ARG001 - no rule needs them
    """The fault of an answer. The first rule that fits decides; the order matters:

    1. 402, or words that say that money or quota is gone: QUOTA. Before the rate limit, since both come as 429 and
       only one of them ends by waiting; before "refused" and "caller", since some send it as 403 and as 400.
    2. 400 or 422 that names stream_options: STREAM_OPTIONS. Before "caller": the caller didn't write them.
    3. A code or a sentence that says that there is no such model, or no longer: MODEL_GONE. A 404 on something else
       (a file, a response, the path itself) is the caller's. Before "refused": OpenAI says 403 model_not_found to a
       project that may not use a model, and its credential is good for others.
    4. 401, 403: REFUSED. Google says 400 with the reason API_KEY_INVALID for a wrong key.
    5. 429: RATE_LIMIT.
    6. 408 and every 5xx (529 is Anthropic's overload): OVERLOAD.
    7. What is left below 500: CALLER. 409 is, too: it is about something that the caller holds (a lock, a conversation
       in use), at one provider; the SDKs try it again by themselves, as they would without us.
    """
    return _meaning(status, _said(body[:_LOOKED_AT]))


def in_stream(event: bytes, dialect: str) -> Fault:  # noqa: ARG001 - one table of words for all dialects
    """The fault that an error event inside a stream tells, by the same rules.

    `event` as it came, with its field names (`data: …`), or its bare JSON. Some events hold a status themselves
    (Google's `code`), the others have it by their words. One that says nothing known is the provider's trouble, not
    the caller's, for it had accepted the request: OVERLOAD.
    """
    said = _said(data(event) or event)
    return _meaning(said.status or _status_by(said.words), said)


def in_answer(body: bytes, *, was_read: bool) -> Fault | None:
    """The fault that a whole answer tells although its status was 2xx; None for all that an SDK could make use of.

    An error in the answer's place is meant as inside a stream; what isn't JSON is half an answer or none. `null` and
    whatever else is JSON is the provider's own business. `was_read`: its usage was found, so it is known to be JSON.
    """
    if was_read and not _ERROR.search(body):
        return None
    answer = loads(body)
    if answer is None and not _is_json(body):
        return Fault.BROKEN
    if not isinstance(answer, dict) or not answer.get("error") or any(answer.get(key) for key in _CONTENT):
        return None
    said = _said(body)
    return _meaning(said.status or _status_by(said.words), said)


def _is_json(body: bytes) -> bool:
    """For the SDKs' parser, which takes more than ours: `NaN`, a byte order mark. One too deep for it may be JSON."""
    try:
        json.loads(body)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Said:
    words: frozenset[str]  # code, type, status and reasons, in small letters
    text: str  # what is meant for people; the whole answer where that can't be told apart
    status: int | None  # an HTTP status inside the answer
    daily: bool  # a quota per day is used up


def _meaning(status: int, said: _Said) -> Fault:
    if status == 402 or said.words & _QUOTA or said.daily or _is_quota_text(status, said):
        return Fault.QUOTA
    if status in (400, 422) and _STREAM_OPTIONS.search(said.text):
        return Fault.STREAM_OPTIONS
    if status < 500 and _is_gone(status, said):
        return Fault.MODEL_GONE
    if status in (401, 403) or (status < 500 and said.words & _REFUSED):
        return Fault.REFUSED
    if status == 429:
        return Fault.RATE_LIMIT
    if status == 408 or status >= 500:
        return Fault.OVERLOAD
    return Fault.CALLER


def _is_quota_text(status: int, said: _Said) -> bool:
    """Google sends OpenAI's sentence for limits that are over in a minute, on its OpenAI-compatible paths as well."""
    return status < 500 and "resource_exhausted" not in said.words and bool(_QUOTA_TEXT.search(said.text))


def _is_gone(status: int, said: _Said) -> bool:
    if said.words & _GONE:
        return status in (400, 403, 404, 410)
    if status in (400, 404, 410) and _GONE_TEXT.search(said.text):
        return True
    return status in (400, 404, 410) and bool(said.words & _NO_SUCH) and bool(_MODEL.search(said.text))


def _status_by(words: frozenset[str]) -> int:
    return next((status for table, status in _STATUS if words & table), _UNKNOWN)


def _said(body: bytes) -> _Said:
    parsed = loads(body)
    if isinstance(parsed, list) and parsed:  # Gemini wraps the error of a streamed call into an array
        parsed = parsed[0]
    tables = list(_tables(parsed))
    words = {table[key].lower() for table in tables for key in _WORD_KEYS if isinstance(table.get(key), str)}
    texts = [table[key] for table in tables for key in _TEXT_KEYS if isinstance(table.get(key), str)]
    status = next((int(found[0]) for table in tables if (found := _HTTP.fullmatch(str(table.get("code"))))), None)
    raw = "" if texts else body.decode("utf-8", "replace")
    daily = "resource_exhausted" in words and bool(_DAILY.search(body.decode("utf-8", "replace")))
    return _Said(frozenset(words), " ".join(texts) or raw, status, daily)


_WORD_KEYS = ("code", "type", "status", "reason", "error_code")
_TEXT_KEYS = ("message", "param", "detail", "error")


def _tables(parsed: Any) -> list[dict[str, Any]]:
    """The objects that may say what is wrong: the answer, its error, the error's details, a failed response's error."""
    if not isinstance(parsed, dict):
        return []
    response = parsed.get("response")
    found: list[Any] = [parsed]
    for error in (parsed.get("error"), response.get("error") if isinstance(response, dict) else None):
        details = error.get("details") if isinstance(error, dict) else None
        found += [error, *(details if isinstance(details, list) else [details])]
    return [table for table in found if isinstance(table, dict)]
