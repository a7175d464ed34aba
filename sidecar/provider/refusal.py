"""Error envelopes: how each provider words a refusal.

Decides body and headers of an error for a dialect, a status and, where given, a
code. It does not decide when to refuse.
"""

from __future__ import annotations

from typing import Final

import orjson

from sidecar.provider.call import Call, Dialect, Json, Refused, Whole
from sidecar.provider.faults import Fault

_OPENAI: Final[dict[int, tuple[str, str | None, str]]] = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("billing_error", "credit_balance_exhausted", "Your credit balance is exhausted."),
    403: ("permission_error", "permission_denied", "You do not have access to this resource."),
    404: (
        "invalid_request_error",
        "model_not_found",
        "The model `{model}` does not exist or you do not have access to it.",
    ),
    408: ("timeout_error", "request_timeout", "The request timed out."),
    409: ("conflict_error", "conflict", "The resource was changed by another request."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    422: ("invalid_request_error", "unprocessable_entity", "The request can't be processed."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for {model}."),
    500: ("server_error", None, "The server had an error while processing your request."),
    502: ("server_error", "bad_gateway", "Bad gateway."),
    503: ("service_unavailable_error", "service_unavailable", "The engine is currently overloaded."),
    504: ("server_error", "gateway_timeout", "Gateway timeout."),
    529: ("server_error", "overloaded", "The engine is currently overloaded."),
}

_ANTHROPIC: Final[dict[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the API."),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "model: {model}"),
    408: ("timeout_error", "The request timed out."),
    409: ("conflict_error", "The resource was changed by another request."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: ("invalid_request_error", "The request can't be processed."),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    500: ("api_error", "Internal server error"),
    502: ("api_error", "Bad gateway"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Gateway timeout"),
    529: ("overloaded_error", "Overloaded"),
}

_GEMINI: Final[dict[int, tuple[str, str]]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
    402: ("FAILED_PRECONDITION", "Billing is not enabled for this project."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "models/{model} is not found for API version v1beta."),
    408: ("DEADLINE_EXCEEDED", "The request timed out."),
    409: ("ABORTED", "The operation was aborted."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit."),
    422: ("INVALID_ARGUMENT", "The request can't be processed."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    500: ("INTERNAL", "An internal error has occurred."),
    502: ("UNAVAILABLE", "Bad gateway."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    529: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}


def refusal(call: Call, refused: Refused) -> Whole:
    """The answer to a request that an endpoint refused."""
    return _answer(call, refused)


def faulty(call: Call, status: int, fault: Fault) -> Whole:
    """The answer that a `status=` fault asks for, with its `retry-after`."""
    headers = []
    if fault.retry_after is not None:
        headers.append(("retry-after", fault.retry_after))
    if fault.retry_after_ms is not None:
        headers.append(("retry-after-ms", fault.retry_after_ms))
    return _answer(call, Refused(status, "", code=fault.code), tuple(headers))


def stream_error(dialect: Dialect, code: str | None) -> Json:
    """The JSON of a dialect's error event inside a stream that began well."""
    if dialect == "anthropic":
        return {"type": "error", "error": {"type": code or "overloaded_error", "message": "Overloaded"}}
    if dialect == "gemini":
        return {"error": {"code": 503, "message": _GEMINI[503][1], "status": code or "UNAVAILABLE"}}
    return {
        "error": {"message": _OPENAI[500][2], "type": "server_error", "param": None, "code": code or "server_error"}
    }


def request_headers(dialect: Dialect, number: int) -> tuple[tuple[str, str], ...]:
    """The headers that the provider puts on every answer."""
    if dialect == "anthropic":
        return (
            ("request-id", f"req_fake{number}"),
            ("anthropic-organization-id", "org-fake"),
            ("anthropic-ratelimit-requests-limit", "1000"),
            ("anthropic-ratelimit-requests-remaining", "999"),
        )
    if dialect == "gemini":
        return (("x-gemini-service-tier", "standard"),)
    return (
        ("x-request-id", f"req_fake{number}"),
        ("openai-version", "2020-10-01"),
        ("openai-organization", "org-fake"),
        ("openai-processing-ms", "1"),
        ("x-ratelimit-limit-requests", "1000"),
        ("x-ratelimit-remaining-requests", "999"),
    )


def _answer(call: Call, refused: Refused, headers: tuple[tuple[str, str], ...] = ()) -> Whole:
    build = {"anthropic": _anthropic, "gemini": _gemini}.get(call.dialect, _openai)
    return Whole(orjson.dumps(build(call, refused)), status=refused.status, headers=headers)


def _openai(call: Call, refused: Refused) -> Json:
    kind, usual_code, usual_message = _OPENAI.get(refused.status) or _OPENAI[_nearest(refused.status)]
    if refused.code == "insufficient_quota":
        kind, usual_message = (
            refused.code,
            "You exceeded your current quota, please check your plan and billing details.",
        )
    error = {
        "message": refused.message or usual_message.format(model=call.model),
        "type": kind,
        "param": refused.param,
        "code": refused.code or (None if refused.message else usual_code),
    }
    return {"error": error}


def _anthropic(call: Call, refused: Refused) -> Json:
    kind, usual_message = _ANTHROPIC.get(refused.status) or _ANTHROPIC[_nearest(refused.status)]
    error = {"type": refused.code or kind, "message": refused.message or usual_message.format(model=call.model)}
    return {"type": "error", "error": error, "request_id": f"req_fake{call.number}"}


def _gemini(call: Call, refused: Refused) -> Json:
    name, usual_message = _GEMINI.get(refused.status) or _GEMINI[_nearest(refused.status)]
    message = refused.message or usual_message.format(model=call.model)
    error: Json = {"code": refused.status, "message": message, "status": refused.code or name}
    if refused.status == 429 and call.fault.retry_after is not None:
        delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{call.fault.retry_after}s"}
        error["details"] = [delay]
    return {"error": error}


def _nearest(status: int) -> int:
    return 500 if status >= 500 else 400
