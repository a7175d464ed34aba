"""The ordinary call of each SDK, whole and streamed, with headers that tell the fake provider how to misbehave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.genai import types

Call = Callable[..., Awaitable[Any]]

TURNS: Any = [{"role": "user", "content": "hello you"}]


async def _openai_chat(sdk, model, **headers):
    return await sdk.chat.completions.create(model=model("chat"), messages=TURNS, extra_headers=headers)


async def _openai_chat_stream(sdk, model, **headers):
    create = sdk.chat.completions.create
    return [c async for c in await create(model=model("chat"), messages=TURNS, stream=True, extra_headers=headers)]


async def _openai_response(sdk, model, **headers):
    return await sdk.responses.create(model=model("chat"), input="hello you", extra_headers=headers)


async def _openai_response_stream(sdk, model, **headers):
    create = sdk.responses.create
    return [e async for e in await create(model=model("chat"), input="hello you", stream=True, extra_headers=headers)]


async def _anthropic(sdk, model, **headers):
    return await sdk.messages.create(model=model("assistant"), max_tokens=50, messages=TURNS, extra_headers=headers)


async def _anthropic_stream(sdk, model, **headers):
    stream = await sdk.messages.create(
        model=model("assistant"), max_tokens=50, messages=TURNS, stream=True, extra_headers=headers
    )
    return [event async for event in stream]


def _config(headers: dict[str, str]) -> types.GenerateContentConfig:
    return types.GenerateContentConfig(http_options=types.HttpOptions(headers=headers))


async def _gemini(sdk, model, **headers):
    return await sdk.models.generate_content(model=model("vision"), contents="hello you", config=_config(headers))


async def _gemini_stream(sdk, model, **headers):
    generate = sdk.models.generate_content_stream
    return [c async for c in await generate(model=model("vision"), contents="hello you", config=_config(headers))]


WHOLE: dict[str, tuple[str, Call]] = {
    "chat": ("openai", _openai_chat),
    "response": ("openai", _openai_response),
    "messages": ("anthropic", _anthropic),
    "generate": ("gemini", _gemini),
}
STREAMED: dict[str, tuple[str, Call]] = {
    "chat-stream": ("openai", _openai_chat_stream),
    "response-stream": ("openai", _openai_response_stream),
    "messages-stream": ("anthropic", _anthropic_stream),
    "generate-stream": ("gemini", _gemini_stream),
}
ALL = WHOLE | STREAMED
