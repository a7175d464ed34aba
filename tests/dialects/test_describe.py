"""What a body says of itself besides its model: length, chance, side effects, provider-held state, media."""

from __future__ import annotations

import json
import re
import time
from typing import Any, get_args, get_type_hints

import anthropic
import openai
import pytest

from sidecar.dialects.describe import media_bytes
from tests.dialects.test_reading import ask, draft


@pytest.mark.parametrize(
    ("body", "most", "choices"),
    [
        ({"max_tokens": 5}, 5, 1),
        ({"max_completion_tokens": 6}, 6, 1),
        ({"max_output_tokens": 7}, 7, 1),
        ({"max_tokens_to_sample": 7}, 7, 1),
        ({"generationConfig": {"maxOutputTokens": 8, "candidateCount": 4}}, 8, 4),
        ({"generation_config": {"max_output_tokens": 8, "candidate_count": 4}}, 8, 4),
        ({"max_tokens": 5, "n": 3}, 5, 3),
        ({"n": 2, "best_of": 5}, None, 5),
        ({"max_tokens": -1, "n": -1}, None, 1),
        ({"max_tokens": "9", "n": "9"}, None, 9),
        ({"max_tokens": 10**30, "n": 10**30}, None, 10**6),
        ({"max_tokens": True, "n": True}, None, 1),
        ({"max_tokens": 10**12, "n": 10**7}, 10**12, 10**6),
        ({"n": 0.5}, None, 1),
        ({"n": 2.0}, None, 2),
        ({"n": None, "best_of": [], "generationConfig": 7}, None, 1),
        ({}, None, 1),
    ],
)
def test_the_callers_cap_is_for_one_choice(body: dict[str, Any], most: int | None, choices: int) -> None:
    read = ask(body)
    assert (read.max_output, read.choices) == (most, choices)


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "r"},
        {"conversation": {"id": "c"}},
        {"input": [{"content": [{"type": "input_file", "file_id": "f"}]}]},
        {"attachments": [{"file_ids": ["f"]}]},
        {"tools": [{"type": "code_interpreter", "container": "c"}]},
        {"container": "c"},
        {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
        {"contents": [{"parts": [{"fileData": {"fileUri": "u"}}]}]},
        {"cachedContent": "cachedContents/x"},
        {"cached_content": "x"},
        {"thread": {"type": "continue"}},
        {"input": [{"type": "item_reference", "id": "msg"}]},
        {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]},
    ],
)
def test_bound(body: dict[str, Any]) -> None:
    assert ask(body).bound


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"previous_response_id": None},
        {"messages": [{"content": 'say "file_id": "x" and \\"container": 1'}]},
        {"input": [{"file_id": None}]},
        {"tools": [{"vector_store_ids": []}]},
        {"messages": [{"content": "file_id"}, {"content": "container"}]},
        {"audio": {"voice": "alloy", "format": "wav"}, "prompt": {"id": "p"}},
        {"messages": [{"content": "item_reference"}, {"content": '"type": "item_reference"'}]},
    ],
)
def test_not_bound(body: dict[str, Any]) -> None:
    assert not ask(body).bound


def test_a_stored_prompt_is_its_providers() -> None:
    assert ask({"prompt": {"id": "pmpt_1"}}, "/v1/responses").bound
    assert not ask({"prompt": {}}, "/v1/responses").bound


HOSTED = [
    ("/v1/responses", {}),  # stored by default
    ("/v1/responses", {"store": None}),
    ("/v1/responses", {"store": False, "background": True}),
    ("/v1/responses", {"store": False, "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}),
    ("/v1/responses", {"store": False, "tools": [{"type": "mcp", "server_url": "u"}]}),
    ("/v1/chat/completions", {"store": True}),
    ("/v1/chat/completions", {"web_search_options": {}}),
    ("/v1/chat/completions", {"tools": [{"type": ["odd"]}]}),
    ("/v1/chat/completions", {"tools": "odd"}),
    ("/v1/messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("/v1/messages", {"tools": [{"name": "f"}, {"type": "code_execution_20260521"}]}),
    ("/v1/messages", {"tools": [{"type": "mcp_toolset"}]}),
    ("/v1/messages", {"mcp_servers": [{"type": "url", "url": "u"}]}),
    ("/v1/messages", {"container": "c"}),
    ("/v1/messages", {"thread": {"type": "create"}}),
    ("/v1beta/models/x:generateContent", {"tools": [{"googleSearch": {}}]}),
    ("/v1beta/models/x:generateContent", {"tools": [{"functionDeclarations": []}, {"codeExecution": {}}]}),
    ("/v1beta/models/x:generateContent", {"tools": {"urlContext": {}}}),
    ("/v1beta/models/x:generateContent", {"store": True}),
]
OWN = [
    ("/v1/responses", {"store": False}),
    ("/v1/responses", {"store": False, "tools": [{"type": "function"}, {"type": "custom"}], "background": False}),
    ("/v1/chat/completions", {"tools": [{"type": "function", "function": {"name": "f"}}], "store": False}),
    ("/v1/chat/completions", {"tools": [{"function": {"name": "f"}}], "web_search_options": None}),
    ("/v1/chat/completions", {"tools": [], "store": None}),
    ("/v1/messages", {"tools": [{"name": "f"}, {"type": "custom", "name": "g"}, {"type": "bash_20250124"}]}),
    ("/v1/messages", {"tools": [{"type": f"{kind}_20251124"} for kind in ("text_editor", "computer", "memory")]}),
    ("/v1/messages", {"mcp_servers": [], "container": None}),
    ("/v1beta/models/x:generateContent", {"tools": [{"functionDeclarations": [{}]}, {"computerUse": {}}]}),
    ("/v1beta/models/x:generateContent", {"tools": [{"function_declarations": [], "googleSearch": None}]}),
    ("/v1/embeddings", {"input": "a"}),
]


@pytest.mark.parametrize(("target", "body", "does"), [(*c, True) for c in HOSTED] + [(*c, False) for c in OWN])
def test_side_effects(target: str, body: dict[str, Any], does: bool) -> None:
    assert ask(body, target).side_effects is does


def literals(hint: Any) -> set[str]:
    """The words of a Literal, however deep it stands in Optional and Required."""
    return {w for arg in get_args(hint) for w in ({arg} if isinstance(arg, str) else literals(arg))}


def test_every_tool_of_the_sdks_is_told_apart() -> None:
    """The kinds that a provider's SDK knows: those that the caller runs, by name; all others run at the provider."""
    callers = {"function", "custom", "bash", "text_editor", "computer", "memory"}
    callers |= {"browser_toolset", "computer_toolset"}
    seen = set()
    for target, union in (
        ("/v1/messages", anthropic.types.beta.BetaToolUnionParam),
        ("/v1/responses", openai.types.responses.ToolParam),
    ):
        for tool in get_args(union):
            kinds = get_type_hints(tool).get("type")
            for kind in literals(kinds):
                seen.add(kind)
                name = re.sub(r"_\d{8}$", "", str(kind))
                hosted = ask({"store": False, "tools": [{"type": kind}]}, target).side_effects
                assert hosted is (name not in callers or (target, name) == ("/v1/responses", "computer")), kind
    assert len(seen) > 30


@pytest.mark.parametrize(
    ("body", "without_chance"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": -0.0}, True),
        ({"temperature": 1, "seed": 7}, True),
        ({"seed": 0}, True),
        ({"generationConfig": {"temperature": 0}}, True),
        ({"generationConfig": {"seed": 3}}, True),
        ({"temperature": 1e-9}, False),
        ({"temperature": False}, False),
        ({"temperature": "0"}, False),
        ({"temperature": None, "seed": None}, False),
        ({"seed": True}, False),
        ({}, False),
    ],
)
def test_deterministic(body: dict[str, Any], without_chance: bool) -> None:
    assert ask(body).deterministic is without_chance
    assert ask(body, "/v1/embeddings").deterministic


IMAGE = "A" * 4000


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({}, 0),
        ({"messages": [{"content": [{"image_url": {"url": f"data:image/png;base64,{IMAGE}"}}]}]}, 4000),
        ({"messages": [{"content": [{"file": {"file_data": f"data:application/pdf;base64,{IMAGE}"}}]}]}, 4000),
        ({"messages": [{"content": [{"source": {"type": "base64", "data": IMAGE}}, {"text": "x"}]}]}, 4000),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "a/b", "data": IMAGE}}] * 3}]}, 12000),
        ({"input": [{"b64_json": IMAGE}, {"image_url": "data:image/png;base64,QUJD"}]}, 4004),
        ({"data": "A" * 255}, 0),
        ({"data": "words " * 100}, 0),
        ({"data": {"a": IMAGE}}, 0),
        ({"messages": [{"content": f'say "data": "{IMAGE}"'}]}, 0),
        ({"messages": [{"content": f"what is ;base64,QUJD and then {'prose ' * 400}"}]}, 4),
    ],
)
def test_media_bytes(body: dict[str, Any], size: int) -> None:
    for separators in ((",", ":"), (", ", " :  ")):
        raw = json.dumps({"model": "x"} | body, separators=separators).encode()
        assert draft("POST", "/v1/chat/completions", raw).ask.media_bytes == size


def test_media_costs_nothing_to_find() -> None:
    """Also where every hint stands a hundred thousand times: what isn't counted stays text, the dearer guess."""
    body = b'{"model":"x","a":[' + b'{"data":1},' * 100_000 + b'"' + b";base64," * 100_000 + b'"]}'
    began = time.perf_counter()
    assert media_bytes("openai", body) <= len(body)
    assert time.perf_counter() - began < 0.5
