"""Anthropic's SDK, direct and through the sidecar."""

from __future__ import annotations

import anthropic
import pytest
from pydantic import BaseModel

from tests.conformance.calls import TURNS
from tests.conformance.sides import MEANING, Pair, Script, normal

TOOL = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"days": {"type": "integer", "minimum": 3}}, "required": ["days"]},
}


class City(BaseModel):
    name: str


def asked(model, **more):
    return {"model": model("assistant"), "max_tokens": 50, "messages": TURNS} | more


async def whole(sdk, model):
    return await sdk.messages.create(
        **asked(model, system="be short", metadata={"user_id": "u-1"}, extra_body={"x": 0.10})
    )


async def parts_and_thinking(sdk, model):
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "ü 😀 \u2028"},
    ]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    return await sdk.messages.create(**asked(model, messages=turns, max_tokens=2000, thinking=thinking))


async def tools(sdk, model):
    return await sdk.messages.create(**asked(model, tools=[TOOL], tool_choice={"type": "tool", "name": "weather"}))


async def stream(sdk, model):
    return [event async for event in await sdk.messages.create(**asked(model, stream=True))]


async def stream_helper(sdk, model):
    async with sdk.messages.stream(**asked(model)) as events:
        return [[event async for event in events], await events.get_final_message()]


async def stream_helper_text(sdk, model):
    async with sdk.messages.stream(**asked(model)) as events:
        return [text async for text in events.text_stream]


async def stream_tools(sdk, model):
    async with sdk.messages.stream(**asked(model, tools=[TOOL])) as events:
        return await events.get_final_message()


async def stream_with_pings(sdk, model):
    create = sdk.messages.create
    slow = {"x-fake-fault": "first=120ms; ping"}
    return [event async for event in await create(**asked(model, stream=True, extra_headers=slow))]


async def parse(sdk, model):
    return (await sdk.messages.parse(**asked(model), output_format=City)).parsed_output


async def count(sdk, model):
    return await sdk.messages.count_tokens(model=model("assistant"), messages=TURNS)


async def beta(sdk, model):
    return await sdk.beta.messages.create(**asked(model, betas=["a-2026-01-01", "b-2026-01-01"]))


async def batches(sdk, model):
    asks = [
        {"custom_id": str(n), "params": asked(lambda _, name=name: model(name))}
        for n, name in enumerate(["assistant", "quick", "assistant"])
    ]
    made = await sdk.messages.batches.create(requests=asks)
    fetched = await sdk.messages.batches.retrieve(made.id)
    cancelled = await sdk.messages.batches.cancel(made.id)
    return [made, fetched, cancelled, [batch async for batch in sdk.messages.batches.list()]]


async def model_card(sdk, model):
    return await sdk.models.retrieve(model("quick"))


async def raw(sdk, model):
    answer = await sdk.messages.with_raw_response.create(**asked(model))
    names = ("request-id", "anthropic-organization-id", "anthropic-ratelimit-requests-remaining")
    return [{name: answer.headers[name] for name in names}, await answer.text(), await answer.parse()]


async def streaming_response(sdk, model):
    async with sdk.messages.with_streaming_response.create(**asked(model, stream=True)) as answer:
        return [line async for line in answer.iter_lines()]


SCRIPTS: list[Script] = [
    whole, parts_and_thinking, tools, stream, stream_helper, stream_helper_text, stream_tools, stream_with_pings, parse,
    count, beta, model_card, raw, streaming_response,
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_same(pair: Pair, script: Script) -> None:
    assert await pair.same("anthropic", script)


async def test_batches_name_a_model_in_each_request(pair: Pair) -> None:
    said = await pair.same("anthropic", batches)
    assert said[0]["said"]["fake_models"] == sorted([MEANING["assistant"], MEANING["quick"]])


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_models_are_the_names_that_an_app_may_use(pair: Pair, limit: int) -> None:
    """By design (3.2) the list is ours, in Anthropic's shape and paging; the SDK asks for page after page."""

    async def script(sdk, model):
        return [entry async for entry in sdk.models.list(limit=limit)]

    seen = await pair.proxied.play("anthropic", script)
    claude = {name: model for name, model in MEANING.items() if model.startswith("claude")}
    found = {entry["said"]["id"]: entry["said"]["resolves_to"] for entry in seen.result}
    assert found == claude | {model: model for model in claude.values()}
    assert len(seen.answers) == -(-len(found) // limit)
    assert not pair.proxied.provider.ledger.requests


async def test_models_page_backwards(pair: Pair) -> None:
    async def script(sdk, model):
        page = await sdk.models.list(limit=2, before_id=MEANING["quick"])
        return [page.first_id, page.last_id, page.has_more, (await page.get_next_page()).first_id]

    seen = await pair.proxied.play("anthropic", script)
    assert seen.result == ["quick", MEANING["assistant"], True, "assistant"]


async def test_ours_refuses_in_its_own_words(pair: Pair) -> None:
    """An unknown name is a `not_found_error`, as an unknown model is at Anthropic."""

    async def script(sdk, model):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await sdk.messages.create(**asked(lambda _: "asistant"))
        return normal(caught.value.body)

    seen = await pair.proxied.play("anthropic", script)
    assert seen.result["error"]["type"] == "not_found_error"
    assert "assistant" in seen.result["error"]["message"]
