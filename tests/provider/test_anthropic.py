"""Anthropic's dialect under the official SDK."""

import anthropic
import pytest

from sidecar.provider import FakeProvider

MODEL = "claude-test-1"
ASKED = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hello you"}]}
TOOL = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"days": {"type": "integer", "minimum": 3}}, "required": ["days"]},
}


async def test_whole(anthropic_sdk):
    answer = await anthropic_sdk.messages.create(**ASKED)
    assert answer.content[0].text == "Hello from claude-test-1: hello you"
    assert (answer.model, answer.stop_reason, answer.usage.output_tokens) == (MODEL, "end_turn", 5)


async def test_stream(anthropic_sdk):
    stream = await anthropic_sdk.messages.create(**ASKED, stream=True)
    events = [event async for event in stream]
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0].message.usage.output_tokens == 0
    assert events[-2].usage.output_tokens == 5


async def test_stream_helper_adds_up(anthropic_sdk):
    async with anthropic_sdk.messages.stream(**ASKED) as stream:
        message = await stream.get_final_message()
    assert message.content[0].text == "Hello from claude-test-1: hello you"
    assert message.usage.output_tokens == 5


async def test_tools(anthropic_sdk):
    whole = await anthropic_sdk.messages.create(**ASKED, tools=[TOOL])
    assert (whole.stop_reason, whole.content[0].input) == ("tool_use", {"days": 3})
    async with anthropic_sdk.messages.stream(**ASKED, tools=[TOOL]) as stream:
        streamed = await stream.get_final_message()
    assert streamed.content[0].input == {"days": 3}
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    none = await anthropic_sdk.messages.create(**ASKED, tools=[TOOL], tool_choice={"type": "none"})
    assert none.content[0].type == "text"


async def test_cap(anthropic_sdk):
    answer = await anthropic_sdk.messages.create(**{**ASKED, "max_tokens": 1})
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 1)


async def test_count_tokens_is_free(anthropic_sdk, provider: FakeProvider):
    counted = await anthropic_sdk.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
    assert counted.input_tokens > 1
    assert provider.ledger.totals == {}


async def test_batches(anthropic_sdk):
    requests = [{"custom_id": str(n), "params": {**ASKED, "model": f"claude-{n}"}} for n in range(2)]
    batch = await anthropic_sdk.messages.batches.create(requests=requests)
    assert batch.model_extra["fake_models"] == ["claude-0", "claude-1"]
    assert (await anthropic_sdk.messages.batches.retrieve(batch.id)).processing_status == "in_progress"
    assert (await anthropic_sdk.messages.batches.cancel(batch.id)).processing_status == "canceling"
    assert [entry.id async for entry in anthropic_sdk.messages.batches.list()] == [batch.id]


async def test_models(anthropic_sdk):
    assert (await anthropic_sdk.models.retrieve("claude-any")).id == "claude-any"
    assert "claude-sonnet-5-20260112" in [model.id async for model in anthropic_sdk.models.list()]


async def test_version_header_is_required(http):
    async with http.post("/v1/messages", json=ASKED) as answer:
        assert answer.status == 400
        envelope = await answer.json()
    assert envelope["type"] == "error"
    assert envelope["error"] == {"type": "invalid_request_error", "message": "anthropic-version: header is required"}


@pytest.mark.parametrize(
    ("status", "raised"),
    [(401, anthropic.AuthenticationError), (429, anthropic.RateLimitError), (529, anthropic.APIStatusError)],
)
async def test_errors(anthropic_sdk, status, raised):
    with pytest.raises(raised) as caught:
        await anthropic_sdk.messages.create(**ASKED, extra_headers={"x-fake-fault": f"status={status}"})
    assert caught.value.status_code == status
    assert caught.value.body["type"] == "error"


async def test_error_in_stream(anthropic_sdk):
    stream = await anthropic_sdk.messages.create(**ASKED, stream=True, extra_headers={"x-fake-fault": "error=2"})
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        async for _event in stream:
            pass
