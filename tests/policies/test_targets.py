from __future__ import annotations

import pytest

from sidecar.compose import build
from sidecar.core.facts import Target
from sidecar.errors import Code
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State

from .conftest import Make, asked


def test_the_chosen_model_at_its_provider(make: Make) -> None:
    x, _ = asked(make()[0], "plain")
    assert x.targets == (Target("openai", "gpt-5.4-2025-11-02"),)
    assert x.why[-1] == "to gpt-5.4-2025-11-02 at openai"


def test_another_dialect_is_refused_naming_both(make: Make) -> None:
    _, refusal = asked(make()[0], "assistant", dialect="openai")
    assert refusal is not None
    assert refusal.code is Code.BAD_REQUEST
    assert "anthropic" in refusal.message
    assert "openai" in refusal.message


def test_another_provider_than_the_path_names_is_refused(make: Make) -> None:
    _, refusal = asked(make()[0], "plain", provider="openai-eu")
    assert refusal is not None
    assert refusal.code is Code.BAD_REQUEST
    assert "openai-eu" in refusal.message


def test_an_untouched_request_goes_to_the_default_of_its_dialect_or_where_its_path_says(make: Make) -> None:
    snapshot, _ = make()
    assert asked(snapshot, None)[0].targets == (Target("openai", None),)
    assert asked(snapshot, None, provider="elsewhere")[0].targets == (Target("elsewhere", None),)


def test_a_dialect_without_a_provider(make: Make) -> None:
    _, refusal = asked(make()[0], None, dialect="gemini")
    assert refusal is not None
    assert refusal.code is Code.NO_TARGET


def test_a_configured_key_that_is_missing_is_never_replaced_by_the_callers(make: Make) -> None:
    snapshot, state = make()
    state.credentials.put("openai", None)
    x, refusal = asked(snapshot, "plain")
    assert refusal is not None
    assert refusal.code is Code.NO_TARGET
    assert x.usable == ()
    state.credentials.put("openai", "sk-1")
    assert asked(snapshot, "plain")[1] is None


RESILIENT = """
version: 1
generation: 1
unlisted: reject
models:
  big-2026-01-01: {provider: openai, context: 10000, max_output: 5000}
  canary-2026-01-01: {provider: openai, context: 2000}
  small-2026-01-01: {provider: openai, context: 1000, max_output: 100}
  abroad-2026-01-01: {provider: openai-eu, context: 100000}
pins:
  chat: {stable: big-2026-01-01, fallback: [small-2026-01-01, abroad-2026-01-01]}
  tried:
    stable: big-2026-01-01
    variants: {canary: {model: canary-2026-01-01, percent: 100}}
    fallback: [canary-2026-01-01, small-2026-01-01]
  tiny: {stable: small-2026-01-01, fallback: [big-2026-01-01]}
"""


def order(name: str, **facts: object) -> list[str | None]:
    """Models of the targets that a call of `name` gets; openai-eu has a key of its own."""
    state = State()
    state.credentials.put("openai-eu", "sk-eu")
    pins = read_pins(RESILIENT.encode(), "pins.yaml", None)
    snapshot = build(Parts({}, {"openai": "openai"}, pins, state))
    x, refusal = asked(snapshot, name, **({"generates": True, "body_bytes": 400} | facts))
    assert refusal is None or refusal.code is Code.NO_TARGET
    return [] if refusal is not None else [target.model for target in x.targets]


def test_the_chosen_then_the_stable_then_the_fallbacks_without_repeats() -> None:
    assert order("chat") == ["big-2026-01-01", "small-2026-01-01", "abroad-2026-01-01"]
    assert order("tried", unit="u") == ["canary-2026-01-01", "big-2026-01-01", "small-2026-01-01"]
    assert order("big-2026-01-01") == ["big-2026-01-01"], "a catalogued id means that model and no other"


@pytest.mark.parametrize(
    "facts",
    [{"no_fallback": True}, {"generates": False}, {"repeatable": False}],
    ids=["x-sidecar-fallback: off", "not a call of a model", "the body can be sent once"],
)
def test_nothing_stands_in(facts: dict[str, object]) -> None:
    assert order("chat", **facts) == ["big-2026-01-01"]


@pytest.mark.parametrize("facts", [{"bound": True}, {"provider": "openai"}], ids=["held state", "named by the path"])
def test_never_away_from_the_provider(facts: dict[str, object]) -> None:
    assert order("chat", **facts) == ["big-2026-01-01", "small-2026-01-01"]


def test_a_stand_in_must_be_able_to_answer_as_long_as_was_asked() -> None:
    assert order("chat", max_output=100) == ["big-2026-01-01", "small-2026-01-01", "abroad-2026-01-01"]
    assert order("chat", max_output=101) == ["big-2026-01-01", "abroad-2026-01-01"]
    assert order("tried", unit="u", max_output=1901) == ["canary-2026-01-01", "big-2026-01-01"]


def test_what_is_too_large_moves_to_a_target_that_can_hold_it_or_is_refused() -> None:
    assert order("tiny", body_bytes=4_000) == ["small-2026-01-01", "big-2026-01-01"]
    assert order("tiny", body_bytes=4_004) == ["big-2026-01-01"]
    assert order("tiny", body_bytes=40_004) == []
    assert order("tiny", body_bytes=900_000, media_bytes=899_000)[0] == "small-2026-01-01", "an image isn't its bytes"


def test_a_provider_without_a_credential_is_no_target() -> None:
    snapshot = build(Parts({}, {"openai": "openai"}, read_pins(RESILIENT.encode(), "pins.yaml", None), State()))
    x, _ = asked(snapshot, "chat", generates=True)
    assert [target.provider for target in x.targets] == ["openai", "openai"]
