"""Our errors in each dialect, read by the official SDKs; whole answers; the lists of models."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest
from anthropic.types import ModelInfo
from google.genai import errors as google_errors
from openai._streaming import SSEDecoder
from openai.types import Model
from openai.types.responses import ResponseErrorEvent, ResponseFailedEvent

from sidecar.core.facts import Usage
from sidecar.dialects import anthropic, gemini, openai
from sidecar.dialects.base import Endpoint, Kind, Listed, Reading
from sidecar.dialects.openai_chat import ChatMeter
from sidecar.dialects.openai_responses import TypedMeter
from sidecar.dialects.sse import Splitter, data
from sidecar.errors import STATUS, Code, Refusal, RefusedError

ALL: list[Any] = [openai, anthropic, gemini]
CHAT = Endpoint("chat/completions")


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("code", list(STATUS))
def test_every_code_in_every_dialect(dialect: Any, code: Code) -> None:
    refusal = Refusal(code, 'no "such" thing')
    body = json.loads(dialect.refuse(refusal, "req_1"))
    assert body["error"]["message"] == 'no "such" thing'
    event = dialect.refuse_in_stream(refusal, "req_1", CHAT)
    assert Splitter().feed(event) == [event]
    assert json.loads(data(event)) == body


def test_openai_envelope() -> None:
    error = json.loads(openai.refuse(Refusal(Code.UNKNOWN_MODEL, "m"), "r"))["error"]
    assert error == {"message": "m", "type": "invalid_request_error", "param": "model", "code": "sidecar_unknown_model"}
    error = json.loads(openai.refuse(Refusal(Code.BUDGET_EXCEEDED, "m"), "r"))["error"]
    assert (error["type"], error["param"]) == ("rate_limit_error", None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.UNKNOWN_MODEL, "not_found_error"),
        (Code.BAD_REQUEST, "invalid_request_error"),
        (Code.FORBIDDEN, "permission_error"),
        (Code.TOO_LARGE, "request_too_large"),
        (Code.BUDGET_EXCEEDED, "rate_limit_error"),
        (Code.OVERLOADED, "overloaded_error"),
        (Code.NO_TARGET, "overloaded_error"),
        (Code.UNREACHABLE, "api_error"),
        (Code.TIMEOUT, "timeout_error"),
    ],
)
def test_anthropic_envelope(code: Code, kind: str) -> None:
    body = json.loads(anthropic.refuse(Refusal(code, "m"), "r"))
    assert body == {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "r"}


def test_gemini_envelope() -> None:
    body = gemini.refuse(Refusal(Code.UNKNOWN_MODEL, "m"), "r")
    assert body.startswith(b'{"error":')
    error = json.loads(body)["error"]
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert error["details"][0]["reason"] == "sidecar_unknown_model"
    assert error["details"][0]["domain"] == "model-sidecar"


class Canned:
    """An HTTP answer for a client of an official SDK, without a network."""

    def __init__(self, body: bytes, content_type: str = "text/event-stream") -> None:
        self.body, self.content_type = body, content_type


def transport(sdk: ModuleType, canned: Canned) -> Any:
    http = __import__(sdk.DefaultHttpxClient.__mro__[1].__module__.split(".")[0])
    answer = lambda _: http.Response(200, content=canned.body, headers={"content-type": canned.content_type})  # noqa: E731
    return http.Client(transport=http.MockTransport(answer))


START = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'


def test_openai_sdk_raises_on_an_interrupted_chat() -> None:
    event = openai.refuse_in_stream(Refusal(Code.INTERRUPTED, "it broke off"), "r", CHAT)
    client = openai_sdk.OpenAI(
        api_key="k", base_url="http://x/v1", http_client=transport(openai_sdk, Canned(START + event))
    )
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    with pytest.raises(openai_sdk.APIError, match="it broke off"):
        list(stream)


def test_openai_sdk_raises_on_an_interrupted_response() -> None:
    event = openai.refuse_in_stream(Refusal(Code.INTERRUPTED, "it broke off"), "r", Endpoint("responses"))
    client = openai_sdk.OpenAI(api_key="k", base_url="http://x/v1", http_client=transport(openai_sdk, Canned(event)))
    with pytest.raises(openai_sdk.APIError, match="it broke off"):
        list(client.responses.create(model="m", input="x", stream=True))
    with (
        pytest.raises(openai_sdk.APIError, match="it broke off"),
        client.responses.stream(model="m", input="x") as events,
    ):
        list(events)


def test_both_events_of_an_interrupted_response_are_as_the_sdk_types_them() -> None:
    raw = openai.refuse_in_stream(Refusal(Code.INTERRUPTED, "m"), "r", Endpoint("responses"))
    first, second = (json.loads(event.data) for event in SSEDecoder().iter_bytes(iter([raw])))
    assert ResponseErrorEvent.model_validate(first).code == "sidecar_stream_interrupted"
    assert ResponseFailedEvent.model_validate(second).response.status == "failed"
    meter = TypedMeter()
    assert [meter.see(event) for event in Splitter().feed(raw)] == [Kind.ERROR, Kind.ERROR]


def test_anthropic_sdk_raises_on_an_interrupted_message() -> None:
    event = anthropic.refuse_in_stream(Refusal(Code.INTERRUPTED, "it broke off"), "r", Endpoint("messages"))
    client = anthropic_sdk.Anthropic(
        api_key="k", base_url="http://x", http_client=transport(anthropic_sdk, Canned(event))
    )
    stream = client.messages.create(max_tokens=5, model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    with pytest.raises(anthropic_sdk.APIStatusError, match="it broke off"):
        list(stream)


def test_google_sdk_takes_our_error() -> None:
    body = json.loads(data(gemini.refuse_in_stream(Refusal(Code.INTERRUPTED, "it broke off"), "r", CHAT)))
    with pytest.raises(google_errors.ServerError, match="it broke off"):
        google_errors.APIError.raise_error(body["error"]["code"], body, None)


@pytest.mark.parametrize(
    ("dialect", "body", "expected"),
    [
        (
            openai,
            b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":null}}',
            Reading(Usage(3, 4), "m"),
        ),
        (openai, b'{"model":"m","usage":{"input_tokens":3,"output_tokens":4}}', Reading(Usage(3, 4), "m")),
        (openai, b'{"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}', Reading(Usage(3), "m")),
        (openai, b'{"text":"x","usage":{"type":"duration","seconds":3}}', Reading(None, None)),
        (
            anthropic,
            b'{"model":"m","usage":{"input_tokens":3,"cache_read_input_tokens":5,"output_tokens":4}}',
            Reading(Usage(8, 4, cached_input=5), "m"),
        ),
        (anthropic, b'{"input_tokens":9}', Reading(None, None)),
        (
            gemini,
            b'{"modelVersion":"m","usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4,"thoughtsTokenCount":2}}',
            Reading(Usage(3, 6, reasoning=2), "m"),
        ),
        (
            gemini,
            b'[{"usageMetadata":{"promptTokenCount":3}},{"modelVersion":"m","usageMetadata":{"promptTokenCount":5}}]',
            Reading(Usage(5), "m"),
        ),
    ],
)
def test_reading_a_whole_answer(dialect: Any, body: bytes, expected: Reading) -> None:
    assert dialect.reading(CHAT, body) == expected


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"null", b"[]", b'"usage"', b'{"usage":', b"[1]", b"[" * 5000, b'{"model":7}']
)
def test_reading_nonsense_never_raises(dialect: Any, body: bytes) -> None:
    assert dialect.reading(CHAT, body) == Reading(None, None)


@pytest.mark.parametrize(
    ("dialect", "last"),
    [
        (openai, b'0.1]}],"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'),
        (anthropic, b'"}],"model":"m","usage":{"input_tokens":3,"output_tokens":4}}'),
        (gemini, b'"}]}}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4},"modelVersion":"m"}]'),
    ],
)
def test_reading_the_ends_of_an_answer_too_large_to_hold(dialect: Any, last: bytes) -> None:
    assert dialect.reading_ends(CHAT, b'{"data":[{"embedding":[0.1', last) == Reading(Usage(input=3, output=4), "m")
    assert dialect.reading_ends(CHAT, b"{", b'x"usage": {') == Reading(None, None)


def test_credentials() -> None:
    assert openai.credential("s") == ("authorization", "Bearer s")
    assert anthropic.credential("s") == ("x-api-key", "s")
    assert gemini.credential("s") == ("x-goog-api-key", "s")


LISTED = [Listed(f"m{n}", f"id-{n}", "p", 1_700_000_000) for n in range(45)]


def page(dialect: Any, **query: str) -> Any:
    return json.loads(dialect.models_page(LISTED, query))


def test_openai_lists_all_at_once() -> None:
    listed = page(openai)
    assert [entry["id"] for entry in listed["data"]] == [model.name for model in LISTED]
    first = Model.model_validate(listed["data"][0])
    assert (first.owned_by, first.created, first.model_extra) == ("p", 1_700_000_000, {"resolves_to": "id-0"})


def test_anthropic_pages_by_cursor() -> None:
    first = page(anthropic)
    assert (len(first["data"]), first["has_more"], first["first_id"], first["last_id"]) == (20, True, "m0", "m19")
    last = page(anthropic, after_id="m39")
    assert (len(last["data"]), last["has_more"], last["first_id"]) == (5, False, "m40")
    before = page(anthropic, before_id="m39", limit="2")
    assert [entry["id"] for entry in before["data"]] == ["m37", "m38"]
    assert before["has_more"]
    info = ModelInfo.model_validate(first["data"][0])
    assert info.created_at.year == 2023
    assert page(anthropic, after_id="m44") == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"after_id": "nope"}])
def test_anthropic_refuses_odd_pages(query: dict[str, str]) -> None:
    with pytest.raises(RefusedError):
        page(anthropic, **query)


def test_gemini_pages_by_token() -> None:
    names: list[str] = []
    token = ""
    while True:
        listed = page(gemini, pageSize="20", pageToken=token)
        names += [entry["name"] for entry in listed["models"]]
        token = listed.get("nextPageToken", "")
        if not token:
            break
    assert names == [f"models/{model.name}" for model in LISTED]
    assert listed["models"][0]["resolves_to"] == "id-40"
    with pytest.raises(RefusedError):
        page(gemini, pageToken="nope")


def test_the_meter_sees_our_own_error() -> None:
    assert ChatMeter().see(openai.refuse_in_stream(Refusal(Code.INTERRUPTED, "m"), "r", CHAT)) is Kind.ERROR
