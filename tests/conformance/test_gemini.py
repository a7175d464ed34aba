"""Google's SDK, direct and through the sidecar."""

from __future__ import annotations

import aiohttp
import pytest
from google.genai import errors, types
from pydantic import BaseModel

from tests.conformance.sides import MEANING, Pair, Script, end_to_end

# The SDK subclasses aiohttp's session, which aiohttp deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

Config = types.GenerateContentConfig
LAMP = {"name": "lamp", "parameters": {"type": "OBJECT", "properties": {"on": {"type": "BOOLEAN"}}, "required": ["on"]}}


class City(BaseModel):
    name: str
    people: int


async def whole(sdk, model):
    return await sdk.models.generate_content(
        model=model("vision"), contents="hello ü 😀", config=Config(system_instruction="be short", max_output_tokens=3)
    )


async def with_prefix(sdk, model):
    return await sdk.models.generate_content(model=f"models/{model('vision')}", contents="hello you")


async def stream(sdk, model):
    return [chunk async for chunk in await sdk.models.generate_content_stream(model=model("vision"), contents="hi you")]


async def tools(sdk, model):
    config = Config(tools=[types.Tool(function_declarations=[LAMP])])
    answer = await sdk.models.generate_content(model=model("vision"), contents="hi", config=config)
    return [answer, answer.function_calls]


async def stream_tools(sdk, model):
    config = Config(tools=[types.Tool(function_declarations=[LAMP])])
    chunks = await sdk.models.generate_content_stream(model=model("vision"), contents="hi", config=config)
    return [chunk.function_calls async for chunk in chunks]


async def structured(sdk, model):
    config = Config(response_mime_type="application/json", response_schema=City)
    return (await sdk.models.generate_content(model=model("vision"), contents="hi", config=config)).parsed


async def count(sdk, model):
    return await sdk.models.count_tokens(model=model("vision"), contents="hello you")


async def embed(sdk, model):
    return await sdk.models.embed_content(model=model("vectors"), contents="a")


async def embed_many(sdk, model):
    config = types.EmbedContentConfig(output_dimensionality=4)
    return await sdk.models.embed_content(model=model("vectors"), contents=["a", "b", "c"], config=config)


async def chat(sdk, model):
    talk = sdk.chats.create(model=model("vision"))
    first = await talk.send_message("one")
    more = [chunk async for chunk in await talk.send_message_stream("two")]
    return [first, more, talk.get_history()]


async def card(sdk, model):
    return await sdk.models.get(model=model("vision"))


async def with_pings(sdk, model):
    config = Config(http_options=types.HttpOptions(headers={"x-fake-fault": "first=120ms; ping"}))
    chunks = await sdk.models.generate_content_stream(model=model("vision"), contents="hi", config=config)
    return [chunk async for chunk in chunks]


SCRIPTS: list[Script] = [
    whole, with_prefix, stream, tools, stream_tools, structured, count, embed, embed_many, chat, card, with_pings,
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_same(pair: Pair, script: Script) -> None:
    assert await pair.same("gemini", script)


@pytest.mark.parametrize("size", [1, 3, 50])
async def test_models_are_the_names_that_an_app_may_use(pair: Pair, size: int) -> None:
    """By design (3.2) the list is ours, in Gemini's shape and paging; the SDK asks for page after page."""

    async def script(sdk, model):
        return [entry.name async for entry in await sdk.models.list(config={"page_size": size})]

    seen = await pair.proxied.play("gemini", script)
    google = {name: model for name, model in MEANING.items() if model.startswith("gemini")}
    assert sorted(seen.result) == sorted(f"models/{name}" for name in {*google, *google.values()})
    assert not pair.proxied.provider.ledger.requests


async def test_ours_refuses_in_its_own_words(pair: Pair) -> None:
    async def script(sdk, model):
        with pytest.raises(errors.ClientError) as caught:
            await sdk.models.generate_content(model="visoin", contents="hi")
        return [caught.value.code, caught.value.status, caught.value.message]

    seen = await pair.proxied.play("gemini", script)
    assert seen.result[:2] == [404, "NOT_FOUND"]
    assert "vision" in seen.result[2]


REST = [
    ("POST", "/v1beta/models/{}:streamGenerateContent", {"contents": [{"parts": [{"text": "hello you"}]}]}),
    ("POST", "/v1beta/models/{}:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "hello"}]}]}),
    ("POST", "/v1/models/{}:generateContent", {"contents": [{"parts": [{"text": "hello"}]}]}),
    ("POST", "/v1beta/models/{}:embedContent", {"model": "models/{}", "content": {"parts": [{"text": "a"}]}}),
    ("POST", "/v1beta/models/{}:countTokens", {"generateContentRequest": {"model": "models/{}", "contents": []}}),
    ("GET", "/v1beta/models/{}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), REST)
async def test_rest(pair: Pair, method: str, path: str, body: dict | None) -> None:
    """Forms that the SDK doesn't use: a stream as one JSON array, `embedContent`, the model in the body as well."""
    seen = []
    async with aiohttp.ClientSession(headers={"x-goog-api-key": "key"}) as http:
        for side in (pair.direct, pair.proxied):
            name = side.model("vectors" if "embed" in path else "vision")
            text = None if body is None else repr(body).replace("'", '"').replace("{}", name)
            async with http.request(method, side.url + path.format(name), data=text) as answer:
                headers = [(k.decode(), v.decode()) for k, v in answer.raw_headers]
                seen.append((answer.status, end_to_end(headers), await answer.read()))
    assert seen[0] == seen[1]
    assert seen[0][0] == 200
    records = [side.provider.ledger.requests[0] for side in (pair.direct, pair.proxied)]
    assert records[0].body_sha256 == records[1].body_sha256
    assert records[0].path == records[1].path
