"""The smallest request that each dialect takes: what a drill of a fallback sends.

Decided here: its path, headers and body, and which errors mean that the model works all the same. The caps are the
least that each API accepts: OpenAI refuses less than 16 output tokens (Responses, GPT-5), Anthropic and Gemini take 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

NAME = "drill"
"""The model's name in them, for the draft to replace."""

_SAY = "Reply with OK."
_TURN = {"role": "user", "content": _SAY}
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Ping:
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(_JSON))


def _ping(path: str, body: dict[str, Any], **headers: str) -> Ping:
    return Ping(path, json.dumps(body).encode(), MappingProxyType(_JSON | headers))


PINGS: Mapping[str, tuple[Ping, ...]] = MappingProxyType(
    {
        # The second where the first leads nowhere (404): some models are served by Responses only.
        "openai": (
            _ping("/v1/chat/completions", {"model": NAME, "messages": [_TURN], "max_completion_tokens": 16}),
            _ping("/v1/responses", {"model": NAME, "input": _SAY, "max_output_tokens": 16, "store": False}),
        ),
        "anthropic": (
            _ping(
                "/v1/messages",
                {"model": NAME, "messages": [_TURN], "max_tokens": 1},
                **{"anthropic-version": "2023-06-01"},
            ),
        ),
        "gemini": (
            _ping(
                f"/v1beta/models/{NAME}:generateContent",
                {"contents": [{"role": "user", "parts": [{"text": _SAY}]}], "generationConfig": {"maxOutputTokens": 1}},
            ),
        ),
    }
)

# OpenAI's GPT-5 family, where reasoning took all of `max_completion_tokens`: it did work, though it answers with 400.
_CAPPED = re.compile(rb"max_tokens or model output limit was reached")


def works(status: int, body: bytes) -> bool:
    """Whether an error means that the model did answer, only not within so small a cap."""
    return status == 400 and _CAPPED.search(body) is not None
