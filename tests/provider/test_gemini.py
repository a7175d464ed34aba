"""Gemini's dialect under the official SDK."""

from collections.abc import AsyncIterator

import orjson
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from sidecar.provider import FakeProvider

# The SDK subclasses aiohttp's session, which aiohttp deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

MODEL = "gemini-test-1"
ASKED = {"contents": [{"role": "user", "parts": [{"text": "hello you"}]}]}


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
async def gemini_sdk(provider: FakeProvider) -> AsyncIterator[genai.client.AsyncClient]:
    client = genai.Client(api_key="key", http_options=types.HttpOptions(base_url=provider.url))
    yield client.aio
    await client.aio.aclose()
    client.close()


async def test_whole(gemini_sdk):
    answer = await gemini_sdk.models.generate_content(model=MODEL, contents="hello you")
    assert answer.text == "Hello from gemini-test-1: hello you"
    assert (answer.model_version, answer.usage_metadata.candidates_token_count) == (MODEL, 5)


async def test_stream_states_cumulative_usage(gemini_sdk):
    stream = await gemini_sdk.models.generate_content_stream(model=MODEL, contents="hello you")
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text or "" for chunk in chunks) == "Hello from gemini-test-1: hello you"
    assert [chunk.usage_metadata.candidates_token_count for chunk in chunks] == [1, 2, 3, 4, 5, 5]
    assert chunks[-1].candidates[0].finish_reason == "STOP"


async def test_tool_and_structured_output(gemini_sdk):
    parameters = {"type": "OBJECT", "properties": {"on": {"type": "BOOLEAN"}}, "required": ["on"]}
    tool = types.Tool(function_declarations=[{"name": "lamp", "parameters": parameters}])
    called = await gemini_sdk.models.generate_content(
        model=MODEL, contents="hi", config=types.GenerateContentConfig(tools=[tool])
    )
    assert (called.function_calls[0].name, called.function_calls[0].args) == ("lamp", {"on": False})
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    shaped = await gemini_sdk.models.generate_content(model=MODEL, contents="hi", config=config)
    assert shaped.parsed == City(name="", people=0)


async def test_count_and_embed(gemini_sdk):
    assert (await gemini_sdk.models.count_tokens(model=MODEL, contents="hi")).total_tokens > 0
    embedded = await gemini_sdk.models.embed_content(model=MODEL, contents="a")
    assert [len(entry.values) for entry in embedded.embeddings] == [8]


async def test_models(gemini_sdk):
    assert (await gemini_sdk.models.get(model="gemini-any")).name == "models/gemini-any"
    assert "models/gemini-3-pro-002" in [model.name async for model in await gemini_sdk.models.list()]


async def test_error_and_pings(gemini_sdk):
    def config(fault: str) -> types.GenerateContentConfig:
        return types.GenerateContentConfig(http_options=types.HttpOptions(headers={"x-fake-fault": fault}))

    with pytest.raises(errors.ClientError) as caught:
        await gemini_sdk.models.generate_content(model=MODEL, contents="hi", config=config("status=429; retry-after=2"))
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    stream = await gemini_sdk.models.generate_content_stream(
        model=MODEL, contents="hi", config=config("first=60ms; ping")
    )
    assert "".join([chunk.text or "" async for chunk in stream]) == "Hello from gemini-test-1: hi"


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_json_array_stream(http, version):
    async with http.post(f"/{version}/models/{MODEL}:streamGenerateContent", json=ASKED) as answer:
        chunks = orjson.loads(await answer.read())
    assert len(chunks) == 6
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_single_embedding(http):
    body = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 3}
    async with http.post(f"/v1beta/models/{MODEL}:embedContent", json=body) as answer:
        assert len((await answer.json())["embedding"]["values"]) == 3
