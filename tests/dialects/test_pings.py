"""What a drill sends is a request like an app's, as small as the API takes it."""

from __future__ import annotations

import json

import pytest

from sidecar.dialects import pings, registry

ALL = [(dialect, ping) for dialect, doors in pings.PINGS.items() for ping in doors]
PROVIDERS = {name: name for name in registry.DIALECTS}
LEAST = {"openai": 16, "anthropic": 1, "gemini": 1}


def test_each_dialect_has_one() -> None:
    assert pings.PINGS.keys() == registry.DIALECTS.keys()


@pytest.mark.parametrize(("dialect", "ping"), ALL, ids=[ping.path for _, ping in ALL])
def test_it_is_read_like_any_request(dialect: str, ping: pings.Ping) -> None:
    route = registry.find("POST", ping.path, "", ping.headers, PROVIDERS)
    draft = registry.read(route, ping.headers, ping.body, content_type=ping.headers["Content-Type"])
    ask = draft.ask
    assert (route.dialect, tuple(draft.names)) == (dialect, ("drill",))
    assert (ask.generates, ask.stream, ask.side_effects, ask.bound) == (True, False, False, False)
    assert (ask.max_output, ask.choices) == (LEAST[dialect], 1)
    written = draft.path({"drill": "some-model-1"}).encode() + draft.body({"drill": "some-model-1"})
    assert b"some-model-1" in written
    assert b"drill" not in written


def test_an_answer_that_did_not_fit_the_cap_is_one() -> None:
    """So OpenAI's GPT-5 answers where reasoning takes all of it."""
    said = {"error": {"message": "Could not finish the message because max_tokens or model output limit was reached."}}
    assert pings.works(400, json.dumps(said).encode())
    assert not pings.works(400, b'{"error":{"message":"Unsupported parameter: max_tokens"}}')
    assert not pings.works(500, json.dumps(said).encode())
