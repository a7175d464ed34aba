"""Which answer means which fault, over bodies as the providers send them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.facts import Fault
from sidecar.dialects.faults import classify, in_answer, in_stream


def openai(code: str | None, kind: str = "invalid_request_error", message: str = "m") -> bytes:
    quoted = f'"{code}"' if code else "null"
    return f'{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":{quoted}}}}}'.encode()


def anthropic(kind: str, message: str = "m") -> bytes:
    return f'{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"r"}}'.encode()


OVER_QUOTA = "You exceeded your current quota, please check your plan and billing details."
GONE = Fault.MODEL_GONE


def gemini(code: int, status: str, message: str = "m", reason: str = "") -> bytes:
    error = {"code": code, "message": message, "status": status, "details": [{"reason": reason}]}
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("status", "body", "dialect", "fault"),
    [
        (400, openai(None), "openai", Fault.CALLER),
        (400, openai("context_length_exceeded"), "openai", Fault.CALLER),
        (400, openai("model_not_found"), "openai", Fault.MODEL_GONE),
        (404, openai("model_not_found", message="The model `x` does not exist"), "openai", Fault.MODEL_GONE),
        (404, openai(None, message="No response found with id r"), "openai", Fault.CALLER),
        (404, b"<html>nginx</html>", "openai", Fault.CALLER),
        (401, openai("invalid_api_key"), "openai", Fault.REFUSED),
        (403, openai(None), "openai", Fault.REFUSED),
        (429, openai("rate_limit_exceeded", "tokens"), "openai", Fault.RATE_LIMIT),
        (429, openai("insufficient_quota", "insufficient_quota"), "openai", Fault.QUOTA),
        (429, b"", "openai", Fault.RATE_LIMIT),
        (402, b"", "openai", Fault.QUOTA),
        (403, openai("billing_hard_limit_reached"), "openai", Fault.QUOTA),
        (400, openai(None, message="Unknown parameter: 'stream_options'"), "openai", Fault.STREAM_OPTIONS),
        (422, b'{"detail":[{"loc":["body","stream_options","include_usage"]}]}', "openai", Fault.STREAM_OPTIONS),
        (404, openai(None, message="stream_options"), "openai", Fault.CALLER),
        (408, b"", "openai", Fault.OVERLOAD),
        (409, b"", "openai", Fault.CALLER),
        (413, b"", "openai", Fault.CALLER),
        (500, openai(None, "server_error"), "openai", Fault.OVERLOAD),
        (502, b"<html>", "openai", Fault.OVERLOAD),
        (503, b"", "openai", Fault.OVERLOAD),
        (504, b"", "openai", Fault.OVERLOAD),
        (400, anthropic("invalid_request_error"), "anthropic", Fault.CALLER),
        (400, anthropic("invalid_request_error", "Your credit balance is too low"), "anthropic", Fault.QUOTA),
        (402, anthropic("billing_error"), "anthropic", Fault.QUOTA),
        (401, anthropic("authentication_error"), "anthropic", Fault.REFUSED),
        (404, anthropic("not_found_error", "model: claude-x"), "anthropic", Fault.MODEL_GONE),
        (404, anthropic("not_found_error", "Batch not found"), "anthropic", Fault.CALLER),
        (429, anthropic("rate_limit_error"), "anthropic", Fault.RATE_LIMIT),
        (429, anthropic("enforced_spend_limit_reached"), "anthropic", Fault.QUOTA),
        (529, anthropic("overloaded_error"), "anthropic", Fault.OVERLOAD),
        (404, gemini(404, "NOT_FOUND", "models/x is not found for API version v1beta"), "gemini", Fault.MODEL_GONE),
        (404, gemini(404, "NOT_FOUND", "File not found"), "gemini", Fault.CALLER),
        (400, gemini(400, "INVALID_ARGUMENT", "API key not valid", "API_KEY_INVALID"), "gemini", Fault.REFUSED),
        (403, gemini(403, "PERMISSION_DENIED"), "gemini", Fault.REFUSED),
        (429, gemini(429, "RESOURCE_EXHAUSTED"), "gemini", Fault.RATE_LIMIT),
        (429, b"[" + gemini(429, "RESOURCE_EXHAUSTED") + b"]", "gemini", Fault.RATE_LIMIT),
        (503, gemini(503, "UNAVAILABLE"), "gemini", Fault.OVERLOAD),
        (400, gemini(400, "FAILED_PRECONDITION", "Please enable billing on your project"), "gemini", Fault.QUOTA),
        (403, gemini(403, "PERMISSION_DENIED", "m", "BILLING_DISABLED"), "gemini", Fault.QUOTA),
        (429, gemini(429, "RESOURCE_EXHAUSTED", OVER_QUOTA), "gemini", Fault.RATE_LIMIT),
        (429, gemini(429, "RESOURCE_EXHAUSTED", OVER_QUOTA), "openai", Fault.RATE_LIMIT),
        (429, openai(None, "insufficient_quota", OVER_QUOTA), "openai", Fault.QUOTA),
        (429, openai("project_spend_limit_exceeded", "insufficient_quota"), "openai", Fault.QUOTA),
        (429, openai("organization_usage_limit_exceeded", "insufficient_quota"), "openai", Fault.QUOTA),
        (429, openai("slow_down", "rate_limit_error"), "openai", Fault.RATE_LIMIT),
        (503, openai("server_is_overloaded", "service_unavailable_error"), "openai", Fault.OVERLOAD),
        (403, openai("model_not_found", message="Project p does not have access to model m"), "openai", GONE),
        (404, b'{"error":{"code":"DeploymentNotFound","message":"m"}}', "openai", GONE),
        (410, openai(None, message="The requested model is deprecated and no longer supported"), "openai", GONE),
        (410, openai(None, message="This container has expired"), "openai", Fault.CALLER),
        (400, b'{"object":"error","message":"Invalid model: m","type":"invalid_model","code":"1500"}', "openai", GONE),
        (404, b'{"message":"The model `m` does not exist.","type":"NotFoundError","code":404}', "openai", GONE),
        (400, b"\xff\x00", "gemini", Fault.CALLER),
        (400, b"[]", "gemini", Fault.CALLER),
        (400, b'{"error":"text"}', "openai", Fault.CALLER),
        (400, b'{"error":{"code":7,"details":3}}', "openai", Fault.CALLER),
    ],
)
def test_classify(status: int, body: bytes, dialect: str, fault: Fault) -> None:
    assert classify(status, {}, body, dialect) is fault


@pytest.mark.parametrize(
    "message",
    [
        "The model `text-davinci-003` has been deprecated, learn more here: https://x.invalid/docs/deprecations",
        "The model `mixtral-8x7b-32768` has been decommissioned and is no longer supported.",
        "The model 'Format:OpenAI,Name:gpt-4o-mini,Version:2024-07-18' has been deprecated since 03/31/2026 00:00:00.",
        "This model models/gemini-3-pro-preview is no longer available. Please update your code to use a newer model.",
        "The requested model 'codex-mini-latest' does not exist.",
        "The model claude-2.1 was retired",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 410])
def test_sentences_that_say_that_a_model_is_gone(status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}}).encode()
    assert classify(status, {}, body, "openai") is Fault.MODEL_GONE
    escaped = body.replace(b"`", b"\\u0060").replace(b"'", b"\\u0027")  # as .NET writes them
    assert classify(status, {}, escaped, "openai") is Fault.MODEL_GONE


@pytest.mark.parametrize(
    "message",
    [
        "`temperature` is deprecated for this model.",
        "For this model `temperature` is deprecated.",
        "functions is deprecated: with model gpt-5, `functions` is no longer supported",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "This model's maximum context length is 8192 tokens",
    ],
)
def test_sentences_that_say_that_a_parameter_is_gone(message: str) -> None:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}}).encode()
    assert classify(400, {}, body, "openai") is Fault.CALLER


def test_anthropics_spend_limit_hides_in_the_details() -> None:
    """As `rate_limit_error`, which every SDK would try again until next month."""
    error = {"type": "rate_limit_error", "message": "m", "details": {"error_code": "enforced_spend_limit_reached"}}
    body = json.dumps({"type": "error", "error": error}).encode()
    assert classify(429, {}, body, "anthropic") is Fault.QUOTA
    body = anthropic("invalid_request_error", "You have reached your specified API usage limits. You will regain")
    assert classify(400, {}, body, "anthropic") is Fault.QUOTA


@pytest.mark.parametrize(
    ("quota", "fault"),
    [
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", Fault.RATE_LIMIT),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", Fault.QUOTA),
    ],
)
def test_googles_quota_of_a_day_and_of_a_minute(quota: str, fault: Fault) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}]
    error = {"code": 429, "message": OVER_QUOTA, "status": "RESOURCE_EXHAUSTED", "details": details}
    assert classify(429, {}, json.dumps({"error": error}).encode(), "gemini") is fault


def event(data: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def chat(kind: str | None, code: object = None, message: str = "m") -> bytes:
    return event({"error": {"message": message, "type": kind, "param": None, "code": code}})


def failed(code: str, echo: str = "") -> bytes:
    response = {"status": "failed", "instructions": echo, "error": {"code": code, "message": "m"}}
    return event({"type": "response.failed", "sequence_number": 3, "response": response}, "response.failed")


def message(kind: str, text: str = "m") -> bytes:
    return event({"type": "error", "error": {"type": kind, "message": text}}, "error")


@pytest.mark.parametrize(
    ("raw", "dialect", "fault"),
    [
        (chat("server_error"), "openai", Fault.OVERLOAD),
        (chat("invalid_request_error", "context_length_exceeded"), "openai", Fault.CALLER),
        (chat("invalid_request_error", "model_not_found"), "openai", Fault.MODEL_GONE),
        (chat("invalid_request_error", "invalid_api_key"), "openai", Fault.REFUSED),
        (chat(None, "rate_limit_exceeded"), "openai", Fault.RATE_LIMIT),
        (chat(None, "model_not_found"), "openai", Fault.MODEL_GONE),
        (chat("insufficient_quota", "credit_balance_exhausted"), "openai", Fault.QUOTA),
        (chat(None, 429), "openai", Fault.RATE_LIMIT),
        (chat("None", "400"), "openai", Fault.CALLER),
        (chat(None, 502), "openai", Fault.OVERLOAD),
        (chat("something_new", "never_seen"), "openai", Fault.OVERLOAD),
        (chat("invalid_request_error", message="Unknown parameter: 'stream_options'"), "openai", Fault.STREAM_OPTIONS),
        (event({"error": "text"}), "openai", Fault.OVERLOAD),
        (failed("server_error"), "openai", Fault.OVERLOAD),
        (failed("rate_limit_exceeded"), "openai", Fault.RATE_LIMIT),
        (failed("invalid_prompt"), "openai", Fault.CALLER),
        (failed("failed_to_download_image"), "openai", Fault.CALLER),
        (failed("server_error", echo="Your credit balance is too low; stream_options"), "openai", Fault.OVERLOAD),
        (event({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, "error"), "openai", Fault.RATE_LIMIT),
        (event({"type": "error", "code": None, "message": "m"}, "error"), "openai", Fault.OVERLOAD),
        (event({"type": "error", "error": {"code": "server_is_overloaded"}}, "error"), "openai", Fault.OVERLOAD),
        (message("overloaded_error"), "anthropic", Fault.OVERLOAD),
        (message("api_error"), "anthropic", Fault.OVERLOAD),
        (message("timeout_error"), "anthropic", Fault.OVERLOAD),
        (message("rate_limit_error"), "anthropic", Fault.RATE_LIMIT),
        (message("invalid_request_error"), "anthropic", Fault.CALLER),
        (message("invalid_request_error", "Your credit balance is too low"), "anthropic", Fault.QUOTA),
        (message("authentication_error"), "anthropic", Fault.REFUSED),
        (message("permission_error"), "anthropic", Fault.REFUSED),
        (message("billing_error"), "anthropic", Fault.QUOTA),
        (message("not_found_error", "model: claude-x"), "anthropic", Fault.MODEL_GONE),
        (message("not_found_error", "File not found"), "anthropic", Fault.CALLER),
        (b"data: " + gemini(503, "UNAVAILABLE") + b"\r\n\r\n", "gemini", Fault.OVERLOAD),
        (b"data: " + gemini(429, "RESOURCE_EXHAUSTED") + b"\n\n", "gemini", Fault.RATE_LIMIT),
        (b"data: " + gemini(400, "INVALID_ARGUMENT") + b"\n\n", "gemini", Fault.CALLER),
        (gemini(404, "NOT_FOUND", "models/x is not found"), "gemini", Fault.MODEL_GONE),
        (b"event: error\n\n", "anthropic", Fault.OVERLOAD),
        (b'data: {"error": {"co', "openai", Fault.OVERLOAD),
        (b"", "openai", Fault.OVERLOAD),
    ],
)
def test_errors_inside_a_stream(raw: bytes, dialect: str, fault: Fault) -> None:
    assert in_stream(raw, dialect) is fault


@given(st.binary(max_size=200), st.integers(400, 599), st.sampled_from(["openai", "anthropic", "gemini"]))
def test_nonsense_is_a_fault_of_some_kind(body: bytes, status: int, dialect: str) -> None:
    assert isinstance(classify(status, {}, body, dialect), Fault)
    assert isinstance(in_stream(b"data: " + body, dialect), Fault)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (openai(None, "server_error"), Fault.OVERLOAD),
        (openai("rate_limit_exceeded"), Fault.RATE_LIMIT),
        (openai("insufficient_quota"), Fault.QUOTA),
        (anthropic("overloaded_error"), Fault.OVERLOAD),
        (anthropic("invalid_request_error"), Fault.CALLER),
        (gemini(503, "UNAVAILABLE"), Fault.OVERLOAD),
        (b'{"status":"failed","error":{"code":"server_error","message":"m"},"output":[]}', Fault.OVERLOAD),
        (b'{"status":"failed","error":{"code":"invalid_prompt","message":"m"},"output":[]}', Fault.CALLER),
        (b'{"error":"text"}', Fault.OVERLOAD),
        (b"", Fault.BROKEN),
        (b'{"choices":[{"index":0,"mess', Fault.BROKEN),
        (b"<html>", Fault.BROKEN),
        (b'{"status":"completed","error":null,"output":[]}', None),
        (b'{"choices":[{"message":{"content":"\\"error\\": {}"}}]}', None),
        (b'{"choices":[{"index":0}],"error":{"message":"m"}}', None),
        (b'{"value":NaN}', None),
        (b"null", None),
        (b"[" * 100_000, None),  # nobody can tell
    ],
)
def test_errors_in_the_place_of_a_whole_answer(body: bytes, fault: Fault | None) -> None:
    assert in_answer(body, was_read=False) is fault
    if fault is not Fault.BROKEN:
        assert in_answer(body, was_read=True) is fault


@given(st.binary(max_size=200), st.booleans())
def test_a_whole_answer_of_nonsense_raises_nothing(body: bytes, was_read: bool) -> None:
    assert in_answer(body, was_read=was_read) in {*Fault, None}
