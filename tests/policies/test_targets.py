from __future__ import annotations

from sidecar.core.facts import Target
from sidecar.errors import Code

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
    assert x.credential is False
    state.credentials.put("openai", "sk-1")
    assert asked(snapshot, "plain")[1] is None
