"""OpenAI's dialect under the official SDK."""

import io
import json

import openai
import pytest
from pydantic import BaseModel

from sidecar.provider import FakeProvider

MODEL = "gpt-test-1"
ASKED = [{"role": "user", "content": "hello you"}]
WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Bern"]}},
        "required": ["city"],
    },
}


class City(BaseModel):
    name: str
    people: int
    twin: str | None


async def test_chat_whole(openai_sdk):
    answer = await openai_sdk.chat.completions.create(model=MODEL, messages=ASKED, n=2)
    assert [choice.message.content for choice in answer.choices] == ["Hello from gpt-test-1: hello you"] * 2
    assert answer.model == MODEL
    assert answer.usage.completion_tokens == 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 10


async def test_chat_stream_without_usage(openai_sdk):
    chunks = [
        chunk async for chunk in await openai_sdk.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello from gpt-test-1: hello you"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


async def test_chat_stream_with_usage(openai_sdk):
    stream = await openai_sdk.chat.completions.create(
        model=MODEL, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.completion_tokens == 5


async def test_cap_and_wanted_tokens(openai_sdk):
    answer = await openai_sdk.chat.completions.create(model=MODEL, messages=ASKED, max_completion_tokens=2)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello from ", "length")
    answer = await openai_sdk.chat.completions.create(
        model=MODEL, messages=ASKED, extra_headers={"x-fake-tokens": "40"}
    )
    assert answer.usage.completion_tokens == 40


async def test_tool_call_whole_and_streamed(openai_sdk):
    tools = [{"type": "function", "function": WEATHER}]
    whole = await openai_sdk.chat.completions.create(model=MODEL, messages=ASKED, tools=tools)
    call = whole.choices[0].message.tool_calls[0].function
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bern"})
    async with openai_sdk.chat.completions.stream(model=MODEL, messages=ASKED, tools=tools) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.arguments == call.arguments


async def test_no_tool_call_when_refused_or_answered(openai_sdk):
    tools = [{"type": "function", "function": WEATHER}]
    refused = await openai_sdk.chat.completions.create(model=MODEL, messages=ASKED, tools=tools, tool_choice="none")
    assert refused.choices[0].message.tool_calls is None
    turns = [*ASKED, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
    answered = await openai_sdk.chat.completions.create(model=MODEL, messages=turns, tools=tools)
    assert answered.choices[0].finish_reason == "stop"


async def test_structured_output(openai_sdk):
    chat = await openai_sdk.chat.completions.parse(model=MODEL, messages=ASKED, response_format=City)
    assert chat.choices[0].message.parsed == City(name="", people=0, twin=None)
    response = await openai_sdk.responses.parse(model=MODEL, input="hi", text_format=City)
    assert response.output_parsed == City(name="", people=0, twin=None)


async def test_completions(openai_sdk):
    whole = await openai_sdk.completions.create(model=MODEL, prompt="abc")
    assert whole.choices[0].text == "Hello from gpt-test-1: abc"
    stream = await openai_sdk.completions.create(model=MODEL, prompt="abc", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text


async def test_response_life(openai_sdk):
    made = await openai_sdk.responses.create(model=MODEL, input="hello you")
    assert made.output_text == "Hello from gpt-test-1: hello you"
    assert made.usage.output_tokens == 5
    assert (await openai_sdk.responses.retrieve(made.id)).output_text == made.output_text
    items = await openai_sdk.responses.input_items.list(made.id)
    assert items.data[0].content[0].text == "hello you"
    follow_up = await openai_sdk.responses.create(model=MODEL, input="more", previous_response_id=made.id)
    assert follow_up.previous_response_id == made.id
    await openai_sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await openai_sdk.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        await openai_sdk.responses.create(model=MODEL, input="more", previous_response_id=made.id)


async def test_response_stream(openai_sdk):
    async with openai_sdk.responses.stream(model=MODEL, input="hello you") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert final.output_text == "Hello from gpt-test-1: hello you"
    assert final.usage.output_tokens == 5


async def test_response_tool_stream_and_cap(openai_sdk):
    tools = [{"type": "function", **WEATHER}]
    async with openai_sdk.responses.stream(model=MODEL, input="hi", tools=tools) as stream:
        final = await stream.get_final_response()
    assert json.loads(final.output[0].arguments) == {"city": "Bern"}
    capped = await openai_sdk.responses.create(model=MODEL, input="hi", max_output_tokens=1)
    assert (capped.status, capped.incomplete_details.reason) == ("incomplete", "max_output_tokens")


async def test_background_response(openai_sdk, provider: FakeProvider):
    made = await openai_sdk.responses.create(model=MODEL, input="hi", background=True)
    assert (made.status, made.usage) == ("in_progress", None)
    assert provider.ledger.totals[MODEL].completion_tokens == 0
    assert (await openai_sdk.responses.retrieve(made.id)).status == "completed"
    assert provider.ledger.totals[MODEL].completion_tokens == 4
    other = await openai_sdk.responses.create(model=MODEL, input="hi", background=True)
    assert (await openai_sdk.responses.cancel(other.id)).status == "cancelled"
    assert (await openai_sdk.responses.retrieve(other.id)).status == "cancelled"


async def test_embeddings_are_the_same_as_floats_and_base64(openai_sdk):
    usual = await openai_sdk.embeddings.create(model="embed-1", input=["a", "b"], dimensions=16)
    floats = await openai_sdk.embeddings.create(
        model="embed-1", input=["a", "b"], dimensions=16, encoding_format="float"
    )
    assert [entry.embedding for entry in usual.data] == [entry.embedding for entry in floats.data]
    assert len(usual.data[0].embedding) == 16
    assert usual.data[0].embedding != usual.data[1].embedding


async def test_around_the_model(openai_sdk):
    moderated = await openai_sdk.moderations.create(input=["a", "b"])
    assert [result.flagged for result in moderated.results] == [False, False]
    picture = await openai_sdk.images.generate(model="image-1", prompt="a dot")
    assert picture.data[0].b64_json.startswith("iVBOR")
    edited = await openai_sdk.images.edit(model="image-1", image=("a.png", b"\x89PNG"), prompt="a dot")
    assert edited.data[0].b64_json
    spoken = await openai_sdk.audio.speech.create(model="tts-1", voice="alloy", input="hi")
    assert spoken.content[:2] == b"\xff\xfb"
    models = [model.id async for model in openai_sdk.models.list()]
    assert "gpt-5.4-2025-11-02" in models
    assert (await openai_sdk.models.retrieve("any-model")).id == "any-model"
    assert (await openai_sdk.models.delete("any-model")).deleted


async def test_transcription_reads_multipart_byte_for_byte(openai_sdk, provider: FakeProvider):
    sound = b"\r\n--x\r\n\x00\xff" * 10
    written = await openai_sdk.audio.transcriptions.create(model="hear-1", file=("a.wav", sound))
    assert written.text == f"Hello from hear-1: {len(sound)} bytes of sound"
    assert provider.ledger.requests[-1].model == "hear-1"
    with pytest.warns(DeprecationWarning):
        translated = await openai_sdk.audio.translations.create(model="hear-1", file=("a.wav", sound))
    assert translated.text == written.text


async def test_files_and_batches(openai_sdk, provider: FakeProvider):
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": {"model": f"m-{n % 2}"}}
        for n in range(4)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    uploaded = await openai_sdk.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    assert (uploaded.bytes, uploaded.filename) == (len(content), "in.jsonl")
    assert (await openai_sdk.files.content(uploaded.id)).content == content
    assert [entry.id async for entry in openai_sdk.files.list()] == [uploaded.id]
    batch = await openai_sdk.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert batch.model_extra["fake_models"] == ["m-0", "m-1"]
    assert provider.ledger.requests[-1].model == "m-0,m-1"
    assert (await openai_sdk.batches.retrieve(batch.id)).status == "in_progress"
    assert (await openai_sdk.batches.cancel(batch.id)).status == "cancelling"
    assert [entry.id async for entry in openai_sdk.batches.list()] == [batch.id]
    await openai_sdk.files.delete(uploaded.id)
    with pytest.raises(openai.NotFoundError):
        await openai_sdk.files.retrieve(uploaded.id)


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/v1"])
async def test_paths(http, prefix):
    async with http.post(f"{prefix}/chat/completions", json={"model": "m", "messages": ASKED}) as answer:
        assert (await answer.json())["object"] == "chat.completion"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": []}', b'{"model": "m"}', b'{"model": 3, "messages": []}'])
async def test_bad_requests(http, body):
    async with http.post("/v1/chat/completions", data=body, headers={"content-type": "application/json"}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"
