"""Exact counting, with the library that the extra `[tokens]` installs. Known counts are tiktoken's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sidecar.core.facts import Ask
from sidecar.dialects.prompts import prompt_of
from sidecar.state.sizes import Sizes
from sidecar.state.tokens import encoding_of, load

O200K = "gpt-5.4-2025-11-02"


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    count = load()
    assert count is not None, "the dev lock has toktok-rs"
    return Sizes(exact=count)


@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"),
    [
        ("hello world", 2, 2),
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 8, 9),
        ("<|endoftext|>", 7, 7),  # text of a user's, not the special token
        ("", 0, 0),
    ],
)
def test_counts(sizes: Sizes, text: str, o200k: int, cl100k: int) -> None:
    assert sizes.exact is not None
    assert sizes.exact(O200K, [text]) == o200k
    assert sizes.exact("gpt-4-0613", [text]) == cl100k
    assert sizes.exact(O200K, [text, text]) == 2 * o200k
    assert sizes.exact("house-model-latest", [text]) is None


def test_a_lone_surrogate_is_no_error(sizes: Sizes) -> None:
    assert sizes.exact is not None
    assert sizes.exact(O200K, ["a\ud800"]) is None


def test_a_request_is_counted_as_the_cookbook_does(sizes: Sizes) -> None:
    """OpenAI's example of `num_tokens_from_messages`: 129 tokens by cl100k, 124 by o200k."""
    said = [
        ("system", None, "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."),  # noqa: E501
        ("system", "example_user", "New synergies will help drive top-line growth."),
        ("system", "example_assistant", "Things working well together will increase revenue."),
        ("system", "example_user", "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."),  # noqa: E501
        ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
        ("user", None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
    ]  # fmt: skip
    messages = ",".join(
        '{"role":"%s",%s"content":"%s"}' % (role, f'"name":"{name}",' if name else "", text)  # noqa: UP031
        for role, name, text in said
    )
    body = f'{{"messages":[{messages}]}}'.encode()
    ask = Ask("openai", body_bytes=len(body), prompt=lambda: prompt_of(body))
    assert sizes.text_tokens("gpt-4-0613", ask) == 129
    assert sizes.text_tokens("gpt-4o-2024-08-06", ask) == 124
    assert Sizes().text_tokens("gpt-4o-2024-08-06", ask) == -(-len(body) // 4)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("gpt-4.1-2025-04-14", "o200k_base"),
        ("gpt-5.5-mini-2026-01-10", "o200k_base"),
        ("o3-2025-04-16", "o200k_base"),
        ("ft:gpt-4o-2024-08-06:org::id", "o200k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("llama-3-70b", None),
        ("omni-moderation-2024-09-26", None),
        ("claude-sonnet-5-20260112", None),
    ],
)
def test_which_vocabulary(model: str, encoding: str | None) -> None:
    assert encoding_of(model) == encoding


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, sidecar.compose, sidecar.state.tokens; sys.exit('toktok' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
