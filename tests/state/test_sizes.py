"""What is learned of sizes, from whom, and how much of it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.facts import Ask, Prompt, Usage
from sidecar.state.sizes import BYTES_PER_TOKEN, EXACT_BYTES, MOST_MODELS, Sizes

M = "gpt-5.4-2025-11-02"


def ask(body_bytes: int, media_bytes: int = 0, **facts: object) -> Ask:
    return Ask("openai", body_bytes=body_bytes, media_bytes=media_bytes, **facts)  # type: ignore[arg-type]


def test_at_first_it_is_the_body_in_fours_rounded_up() -> None:
    sizes = Sizes()
    assert [sizes.input_tokens(M, n) for n in (0, 1, 4, 5, 400)] == [0, 1, 1, 2, 100]
    assert sizes.input_tokens(M, 500, media_bytes=300) == 125
    assert sizes.output_p95(M) is None


def test_the_ratio_follows_what_the_provider_counts() -> None:
    sizes = Sizes()
    sizes.learn(M, ask(1000), Usage(input=125))  # 8 bytes a token
    assert 1000 / 8 < sizes.input_tokens(M, 1000) < 1000 / 4
    for _ in range(30):
        sizes.learn(M, ask(1000), Usage(input=125))
    assert sizes.input_tokens(M, 1000) in (125, 126, 127, 128)
    assert sizes.input_tokens("another", 1000) == 250


@pytest.mark.parametrize(
    ("request_", "usage"),
    [
        (ask(1000), Usage(input=1, odd=True)),
        (ask(1000, bound=True), Usage(input=9000)),  # what the provider holds was counted too
        (ask(1000), Usage(input=0)),
        (ask(0), Usage(input=50)),
        (ask(1000, media_bytes=900), Usage(input=9000)),
    ],
    ids=["odd", "bound", "no input", "no body", "media"],
)
def test_nothing_is_learned_of_text_from_what_says_nothing_of_it(request_: Ask, usage: Usage) -> None:
    sizes = Sizes()
    for _ in range(50):
        sizes.learn(M, request_, usage)
    assert sizes.input_tokens(M, 1000) == 250


def test_media_have_a_ratio_of_their_own() -> None:
    sizes = Sizes()
    picture = ask(1_000_400, media_bytes=1_000_000)
    assert sizes.media_tokens(M, picture) == 250_000
    for _ in range(100):
        sizes.learn(M, picture, Usage(input=1100))
    assert 1000 <= sizes.media_tokens(M, picture) <= 1100
    assert sizes.text_tokens(M, picture) == 100


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**8)), max_size=60))
def test_the_ratio_stays_within_reason(samples: list[tuple[int, int]]) -> None:
    sizes = Sizes()
    for size, tokens in samples:
        sizes.learn(M, ask(size), Usage(input=tokens))
    assert 16_000 / 16 <= sizes.input_tokens(M, 16_000) <= 16_000


def test_the_95th_percentile_of_one_choice() -> None:
    sizes = Sizes()
    for output in range(1, 20):
        sizes.learn(M, ask(0, choices=2), Usage(output=2 * output))
    assert sizes.output_p95(M) is None
    sizes.learn(M, ask(0, choices=2), Usage(output=40))
    assert sizes.output_p95(M) == 19
    for _ in range(200):
        sizes.learn(M, ask(0), Usage(output=500))
    assert sizes.output_p95(M) == 500  # the newest 200 count


def test_it_does_not_grow() -> None:
    sizes = Sizes()
    for i in range(MOST_MODELS + 50):
        for _ in range(2):
            sizes.learn(f"m{i}", ask(100), Usage(10, 10))
    assert len(sizes._models) == MOST_MODELS
    assert sizes.input_tokens("m0", 100) == 100 / BYTES_PER_TOKEN
    for _ in range(500):
        sizes.learn("m99", ask(100), Usage(10, 10))
    assert len(sizes._models["m99"]._outputs) == 200


def test_an_exact_counter_is_asked_where_it_knows_the_words() -> None:
    def words(model: str, texts: object) -> int | None:
        assert texts == ["one two"]
        return 2 if model == M else None

    sizes = Sizes(exact=words)
    known = ask(400, prompt=lambda: Prompt(["one two"], 7))
    assert sizes.text_tokens(M, known) == 9
    assert sizes.text_tokens("another", known) == 100
    assert sizes.text_tokens(M, ask(400, prompt=lambda: None)) == 100
    assert sizes.text_tokens(M, ask(400)) == 100
    assert sizes.text_tokens(M, ask(EXACT_BYTES + 1, prompt=lambda: 1 / 0)) == (EXACT_BYTES + 4) // 4
