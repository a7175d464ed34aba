"""OpenAI's SDK, direct and through the sidecar."""

from __future__ import annotations

import io
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.conformance.sides import MEANING, Pair, Script, provider_of

ASKED: Any = [{"role": "user", "content": "hello you"}]
WEATHER: Any = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Bern"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
TOOLS: Any = [{"type": "function", "function": WEATHER}]
FORM = {"Content-Type": "multipart/form-data; boundary=0123456789abcdef"}

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's word on translations


class City(BaseModel):
    name: str
    people: int


async def each(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def chat_whole(sdk, model):
    return await sdk.chat.completions.create(model=model("chat"), messages=ASKED)


async def chat_several(sdk, model):
    return await sdk.chat.completions.create(model=model("chat"), messages=ASKED, n=3, temperature=0.7, seed=2**40)


async def chat_tools(sdk, model):
    return await sdk.chat.completions.create(model=model("chat"), messages=ASKED, tools=TOOLS)


async def chat_parse(sdk, model):
    parsed = await sdk.chat.completions.parse(model=model("chat"), messages=ASKED, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="", people=0)
    return parsed


async def chat_unicode(sdk, model):
    turns = [{"role": "user", "content": 'Gr\u00fc\u00dfe \u2028 \x00 \U0001f600 \\ " /'}]
    return await sdk.chat.completions.create(model=model("chat"), messages=turns, extra_body={"x": [1e22, None, {}]})


async def completion_whole(sdk, model):
    return await sdk.completions.create(model=model("instruct"), prompt="abc")


async def completion_stream(sdk, model):
    return await each(await sdk.completions.create(model=model("instruct"), prompt="abc", stream=True))


async def embed_usual(sdk, model):
    return await sdk.embeddings.create(model=model("embed"), input=["a", "b"], dimensions=16)


async def embed_floats(sdk, model):
    return await sdk.embeddings.create(model=model("embed"), input="a", encoding_format="float")


async def moderate_without_model(sdk, model):
    return await sdk.moderations.create(input=["a", "b"])


async def moderate(sdk, model):
    return await sdk.moderations.create(input="a", model=model("moderate"))


async def image(sdk, model):
    return await sdk.images.generate(model=model("paint"), prompt="a dot", n=2)


async def image_edit(sdk, model):
    return await sdk.images.edit(model=model("paint"), image=("a.png", b"\x89PNG\r\n\x1a\n\x00"), prompt="a dot")


async def transcribe(sdk, model):
    return await sdk.audio.transcriptions.create(model=model("hear"), file=("a.wav", b"\r\n--x\r\n\x00\xff" * 99))


async def translate(sdk, model):
    return await sdk.audio.translations.create(model=model("hear"), file=("a.wav", b"RIFF"), response_format="text")


async def speak(sdk, model):
    return (await sdk.audio.speech.create(model=model("say"), voice="alloy", input="hi")).content


async def response_life(sdk, model):
    made = await sdk.responses.create(model=model("chat"), input="hello you")
    more = await sdk.responses.create(model=model("other"), input="more", previous_response_id=made.id)
    fetched = await sdk.responses.retrieve(made.id)
    items = await sdk.responses.input_items.list(made.id)
    gone = await sdk.responses.delete(made.id)
    try:
        await sdk.responses.retrieve(made.id)
    except openai.NotFoundError as exc:
        return [made, more, fetched, items.data, gone, exc.body]


async def response_background(sdk, model):
    made = await sdk.responses.create(model=model("chat"), input="hi", background=True)
    return [made, await sdk.responses.cancel(made.id), await sdk.responses.retrieve(made.id)]


async def response_stream(sdk, model):
    return await each(await sdk.responses.create(model=model("chat"), input="hello you", stream=True))


async def response_helper(sdk, model):
    tools = [{"type": "function", **WEATHER}]
    async with sdk.responses.stream(model=model("chat"), input="hi", tools=tools) as stream:
        return [await each(stream), await stream.get_final_response()]


async def response_parse(sdk, model):
    return (await sdk.responses.parse(model=model("chat"), input="hi", text_format=City)).output_parsed


async def response_tokens(sdk, model):
    return await sdk.responses.input_tokens.count(model=model("chat"), input="hello you")


async def response_socket(sdk, model):
    said = []
    async with sdk.responses.connect() as socket:
        for name in ("chat", "other"):
            await socket.send({"type": "response.create", "model": model(name), "input": "hi", "stream_id": name})
            async for event in socket:
                said.append(event)
                if event.type == "response.completed":
                    break
        await socket.send({"type": "response.create", "input": "no model"})
        said.append(await socket.recv())
    return said


async def realtime(sdk, model):
    async with sdk.realtime.connect(model=model("live")) as socket:
        said = [await socket.recv()]
        await socket.session.update(session={"type": "realtime", "instructions": "be short"})
        said.append(await socket.recv())
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "say hi"}]}
        await socket.conversation.item.create(item=item)
        await socket.response.create()
        async for event in socket:
            said.append(event)
            if event.type == "response.done":
                break
    return said


async def batch_life(sdk, model):
    content = batch_lines(model)
    uploaded = await sdk.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    made = await sdk.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    fetched, listed = await sdk.batches.retrieve(made.id), await sdk.batches.list()
    return [(await sdk.files.content(uploaded.id)).content, uploaded, made, fetched, listed.data]


async def other_file(sdk, model):
    uploaded = await sdk.files.create(file=("a.jsonl", b'{"body": {"model": "chat"}}\n'), purpose="user_data")
    return [uploaded, (await sdk.files.content(uploaded.id)).content, await sdk.files.delete(uploaded.id)]


async def raw_response(sdk, model):
    raw = await sdk.chat.completions.with_raw_response.create(model=model("chat"), messages=ASKED)
    names = ("x-request-id", "openai-version", "openai-organization", "x-ratelimit-limit-requests", "content-type")
    return [{name: raw.headers[name] for name in names}, raw.status_code, raw.text, raw.parse()]


async def streaming_response(sdk, model):
    create = sdk.completions.with_streaming_response.create
    async with create(model=model("instruct"), prompt="abc", stream=True) as raw:
        return [line async for line in raw.iter_lines()]


async def streamed_speech(sdk, model):
    async with sdk.audio.speech.with_streaming_response.create(model=model("say"), voice="a", input="hi") as raw:
        return b"".join([chunk async for chunk in raw.iter_bytes()])


async def model_card(sdk, model):
    return await sdk.models.retrieve(model("chat"))


def batch_lines(model) -> bytes:
    """Odd but valid JSONL: blank lines, CRLF, spaces, escapes, numbers, no last line end."""
    return (
        f'{{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{{"model":"{model("chat")}","n":1e0}}}}\n'
        f"\r\n {json.dumps({'body': {'messages': [], 'model': model('other')}, 'custom_id': 'ü'})} \r\n"
        f'{{"body": {{ "model" : "{model("chat")}" , "x":"\\u00e9\\/" }}, "method":"POST"}}'
    ).encode()


SCRIPTS: list[Script] = [
    chat_whole, chat_several, chat_tools, chat_parse, chat_unicode, completion_whole, completion_stream, embed_usual,
    embed_floats, moderate_without_model, moderate, image, image_edit, transcribe, translate, speak, response_life,
    response_background, response_stream, response_helper, response_parse, response_tokens, response_socket, realtime,
    other_file, raw_response, streaming_response, streamed_speech, model_card,
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_same(pair: Pair, script: Script) -> None:
    await pair.same("openai", script)


async def chat_stream(sdk, model):
    return await each(await sdk.chat.completions.create(model=model("chat"), messages=ASKED, stream=True, n=2))


async def chat_stream_tools(sdk, model):
    async with sdk.chat.completions.stream(model=model("chat"), messages=ASKED, tools=TOOLS) as stream:
        return [await each(stream), await stream.get_final_completion()]


@pytest.mark.parametrize("script", [chat_stream, chat_stream_tools], ids=lambda script: script.__name__)
async def test_streams_to_whose_body_include_usage_is_added(pair: Pair, script: Script) -> None:
    await pair.same("openai", script, bodies=False)
    sent, received = pair.direct.provider.ledger.requests[0], pair.proxied.provider.ledger.requests[0]
    assert received.body_sha256 != sent.body_sha256


@pytest.mark.parametrize("wanted", [True, False])
async def test_include_usage_is_respected(pair: Pair, wanted: bool) -> None:
    async def script(sdk, model):
        options = {"include_usage": wanted}
        stream = sdk.chat.completions.create(model=model("chat"), messages=ASKED, stream=True, stream_options=options)
        return await each(await stream)

    said = await pair.same("openai", script)
    assert (said[-1]["said"]["choices"] == []) is wanted


async def test_batch_file_is_rewritten_line_by_line(pair: Pair) -> None:
    said = await pair.same("openai", batch_life)
    assert said[0] == batch_lines(MEANING.__getitem__)
    assert said[2]["said"]["fake_models"] == sorted([MEANING["chat"], MEANING["other"]])


async def test_models_are_the_names_that_an_app_may_use(pair: Pair) -> None:
    """By design (3.2) the list is ours; its shape is OpenAI's, so that the SDK pages through it."""

    async def script(sdk, model):
        return await each(sdk.models.list())

    direct, proxied = await pair.play("openai", script)
    assert {entry["class"] for entry in proxied.result} == {entry["class"] for entry in direct.result} == {"Model"}
    names = {entry["said"]["id"]: entry["said"]["resolves_to"] for entry in proxied.result}
    of_openai = {name: model for name, model in MEANING.items() if provider_of(model) == "openai"}
    assert names == of_openai | {model: model for model in of_openai.values()}
    assert not pair.proxied.provider.ledger.requests


async def test_a_pin_s_model_is_told_by_headers(pair: Pair) -> None:
    seen = await pair.proxied.play("openai", chat_whole)
    headers = dict(seen.answers[0][1])
    assert headers["x-sidecar-pin"] == "chat"
    assert headers["x-sidecar-model"] == seen.result["said"]["model"] == MEANING["chat"]
