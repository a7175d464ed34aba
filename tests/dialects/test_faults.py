"""Which answer means which fault, over bodies as the providers send them."""

from __future__ import annotations

import json

import pytest

from sidecar.core.facts import Fault
from sidecar.dialects.faults import classify


def openai(code: str | None, kind: str = "invalid_request_error", message: str = "m") -> bytes:
    quoted = f'"{code}"' if code else "null"
    return f'{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":{quoted}}}}}'.encode()


def anthropic(kind: str, message: str = "m") -> bytes:
    return f'{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"r"}}'.encode()


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
        (400, b"\xff\x00", "gemini", Fault.CALLER),
        (400, b"[]", "gemini", Fault.CALLER),
        (400, b'{"error":"text"}', "openai", Fault.CALLER),
        (400, b'{"error":{"code":7,"details":3}}', "openai", Fault.CALLER),
    ],
)
def test_classify(status: int, body: bytes, dialect: str, fault: Fault) -> None:
    assert classify(status, {}, body, dialect) is fault
