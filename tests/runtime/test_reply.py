"""What a refusal of ours says of itself besides its words."""

from __future__ import annotations

import pytest

from sidecar.dialects import openai
from sidecar.errors import Code, Refusal
from sidecar.runtime.reply import refusal_reply


@pytest.mark.parametrize(("seconds", "whole", "ms"), [(0.0, "1", "1"), (0.2, "1", "200"), (1.0001, "2", "1001")])
def test_retry_after_is_rounded_up(seconds: float, whole: str, ms: str) -> None:
    """DESIGN 3.8: whole seconds, at least 1."""
    reply = refusal_reply(Refusal(Code.BUDGET_EXCEEDED, "m", seconds), openai, "r", [])
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == (whole, ms)


def test_headers_of_a_refusal_go_with_it() -> None:
    headers = (("x-ratelimit-limit-tokens", "5"), ("x-ratelimit-reset-tokens", "6m0s"))
    reply = refusal_reply(Refusal(Code.BUDGET_EXCEEDED, "m", 1, headers=headers), openai, "r", [("x-a", "b")])
    assert reply.status == 429
    assert reply.headers["x-sidecar-error"] == "sidecar_budget_exceeded"
    assert all(reply.headers[name] == value for name, value in (*headers, ("x-a", "b")))
