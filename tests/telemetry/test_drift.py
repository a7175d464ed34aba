"""The rule of drift, by cases."""

from __future__ import annotations

import pytest

from sidecar.telemetry.drift import drifted


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("gpt-5.4-2025-11-02", "gpt-5.4-2025-11-02"),
        ("gemini-2.5-pro", "models/gemini-2.5-pro"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4", "gpt-4-0613"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("claude-sonnet-4-5-latest", "claude-sonnet-4-5-20250929"),
        ("gemini-1.5-pro", "models/gemini-1.5-pro-002"),
        ("text-embedding-3-small", "text-embedding-3-small"),
        ("gpt-4o", None),
        ("gpt-4o", ""),
        (None, "gpt-4o"),
    ],
)
def test_the_same_model(asked: str | None, served: str | None) -> None:
    assert not drifted(asked, served)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("gpt-5.4-2025-11-02", "gpt-5.5-2026-01-15"),
        ("gpt-5.4-2025-11-02", "gpt-5.4-2025-12-09"),
        ("gpt-5.4-2025-11-02", "gpt-5.4"),
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("openai/gpt-oss-120b", "meta/gpt-oss-120b"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929-20260101"),
        ("gpt-4o", "chatgpt-4o"),
    ],
)
def test_another_model(asked: str, served: str) -> None:
    assert drifted(asked, served)
