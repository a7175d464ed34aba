"""Which texts of an OpenAI request are counted, and what frames them."""
# ruff: noqa: E501 - a row of a table is read as one line

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.facts import Prompt
from sidecar.dialects.prompts import prompt_of


@pytest.mark.parametrize(
    ("body", "texts", "framing"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, ["user", "hi"], 6),
        ({"messages": [{"role": "user", "name": "bob", "content": "hi"}]}, ["user", "bob", "hi"], 7),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:x"}}]}]},
            ["user", "a"],
            6,
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}]},
            ["assistant", "{}", "f"],
            6,
        ),
        ({"messages": [], "tools": [{"type": "function"}]}, ['[{"type":"function"}]'], 0),
        ({"input": "hi", "instructions": "be brief"}, ["be brief", "system", "hi"], 6),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}, ["user", "hi"], 6),
        ({"input": [{"type": "function_call_output", "output": "42"}]}, ["42"], 6),
        ({"input": ["a", "b"]}, ["a", "b"], 0),
        ({"input": [[1, 2, 3], [4]]}, [], 4),
        ({"input": [1, 2, 3]}, [], 3),
        ({"prompt": "once"}, ["once"], 0),
        ({"messages": 7, "input": {"x": 1}, "prompt": None}, [], 0),
        ({"messages": [7, None, {"role": 1, "content": {"text": [[["deep"]]]}}]}, ["deep"], 6),
    ],
)  # fmt: skip
def test_texts(body: dict[str, Any], texts: list[str], framing: int) -> None:
    assert prompt_of(json.dumps(body).encode()) == Prompt(texts, framing)


def test_no_object_no_prompt() -> None:
    assert prompt_of(b"[]") is None
    assert prompt_of(b"{") is None
