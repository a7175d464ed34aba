"""Which ids bear a date or a numbered revision."""

import pytest

from sidecar.settings.immutable import has_revision, is_latest


@pytest.mark.parametrize(
    "name",
    [
        "gpt-5.4-2025-11-02",
        "claude-sonnet-5-20260112",
        "claude-3-5-sonnet@20240620",
        "gemini-3-pro-002",
        "text-embedding-ada-002",
        "gpt-4-0613",
        "gpt-4-1106-preview",
        "mistral-large-2411",
        "gemini-2.5-flash-preview-05-20",
        "gemini-2.5-flash-preview-09-2025",
        "ft:gpt-4o-mini-2024-07-18:acme::abc",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
    ],
)
def test_dated(name):
    assert has_revision(name)


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4o",
        "gpt-5.4",
        "claude-sonnet-5",
        "text-embedding-3-small",
        "llama-3-70b",
        "llama-3.1-405b",
        "llama3-70b-8192",
        "gpt-3.5-turbo-16k",
        "model-2025-13-45",
        "model-20261399",
        "x0613y",
        "",
    ],
)
def test_undated(name):
    assert not has_revision(name)


def test_latest():
    assert is_latest("house-model-latest")
    assert is_latest("claude-3-5-sonnet:latest")
    assert is_latest("latest")
    assert not is_latest("greatest")
    assert not is_latest("latest-model")
