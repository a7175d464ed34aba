"""What tells requests from each other: every field that the SDKs know is in the key or stands on the ignore list."""

from __future__ import annotations

import copy
import json
from typing import Any, get_type_hints

import anthropic
import openai
import pytest
from google.genai import types as genai
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from sidecar.dialects import registry
from sidecar.dialects.identity import IGNORED, MOST_BYTES, MOST_OBJECTS, canonical_body, counts, varies_beyond
from tests.dialects.test_reading import FORM, draft, form

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GEMINI = "/v1beta/models/x:generateContent"
OPENAI = {"authorization": "Bearer a"}


def identity(target: str = CHAT, body: Any = None, **headers: str) -> bytes | None:
    """The identity of a request; `body` is JSON text or a value."""
    raw = body if isinstance(body, bytes) else json.dumps({"model": "x"} | (body or {})).encode()
    named = {key: value for key, value in headers.items() if value}
    ask = draft("POST", target, raw, "application/json", **named).ask
    return ask.identity() if ask.identity is not None else None


def fields(*typed: Any) -> list[str]:
    return sorted({name for one in typed for name in get_type_hints(one)} - {"model"})


# Members of an SDK's call that aren't sent in the body (anthropic/resources/messages).
NOT_IN_BODY = {"betas", "user_profile_id", "workspace_id"}
KNOWN = {
    CHAT: fields(
        openai.types.chat.completion_create_params.CompletionCreateParamsStreaming,
        openai.types.chat.completion_create_params.CompletionCreateParamsNonStreaming,
    ),
    "/v1/completions": fields(openai.types.completion_create_params.CompletionCreateParamsStreaming),
    "/v1/embeddings": fields(openai.types.EmbeddingCreateParams),
    RESPONSES: fields(openai.types.responses.response_create_params.ResponseCreateParamsStreaming),
    MESSAGES: fields(
        anthropic.types.message_create_params.MessageCreateParamsStreaming,
        anthropic.types.beta.message_create_params.MessageCreateParamsStreaming,
    ),
    GEMINI: sorted(
        {field.alias or name for name, field in genai.GenerateContentConfig.model_fields.items()}
        | {"contents", "generationConfig", "systemInstruction", "toolConfig", "safetySettings"}
    ),
}
EVERY = [(target, name) for target, names in KNOWN.items() for name in names if name not in NOT_IN_BODY]


@pytest.mark.parametrize(("target", "name"), EVERY)
def test_every_field_of_the_sdks_changes_the_key_or_is_ignored(target: str, name: str) -> None:
    plain = identity(target)
    one, other = identity(target, {name: "one"}), identity(target, {name: "other"})
    assert plain is not None
    if name in IGNORED and target != RESPONSES:
        assert one == other == plain
    else:
        assert len({plain, one, other}) == 3


def test_the_table_is_not_empty_and_the_list_is_as_written() -> None:
    assert len(EVERY) > 130
    assert set(IGNORED) == {"metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    assert all(IGNORED.values()), "each with its reason"


def test_only_members_of_the_body_itself_are_ignored() -> None:
    assert identity(body={"messages": [{"metadata": 1}]}) != identity(body={"messages": [{"metadata": 2}]})


def test_what_a_responses_answer_repeats_is_not_ignored() -> None:
    for name in IGNORED:
        assert identity(RESPONSES, {name: "a"}) != identity(RESPONSES, {name: "b"})


def test_the_model_and_its_spelling_are_no_part() -> None:
    plain = identity(body=b'{"model":"x"}')
    assert identity(body=b'{"model":"other"}') == plain
    assert identity(body=b'{"capability":"c"}') == plain
    assert identity(body=b'{"capability":"c","model":"y"}', x_model_capability="h") == plain
    assert identity(GEMINI, b"{}") == identity("/v1beta/models/y:generateContent", b'{"model":"models/y"}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CHAT, RESPONSES),
        (CHAT, "/v1/completions"),
        (CHAT, "/azure/v1/chat/completions"),
        (CHAT, CHAT + "?api-version=2"),
        (CHAT + "?a=1", CHAT + "?a=2"),
        (CHAT + "?key=1", CHAT + "?key=2"),
        (CHAT + "?key=1", CHAT),
        (GEMINI, "/v1/models/x:generateContent"),
        (GEMINI, "/v1beta/models/x:embedContent"),
        ("/v1beta/models/x:streamGenerateContent", "/v1beta/models/x:streamGenerateContent?alt=sse"),
    ],
)
def test_where_it_goes_counts(one: str, other: str) -> None:
    assert identity(one) not in (None, identity(other))


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "x_api_key", "api_key", "x_goog_api_key", "cookie", "anthropic_version", "anthropic_beta",
        "anthropic_workspace_id", "openai_beta", "openai_organization", "openai_project", "x_goog_user_project",
        "x_goog_fieldmask", "accept", "accept_encoding", "accept_language", "x_ms_anything", "helicone_cache_enabled",
    ],
)  # fmt: skip
def test_headers_that_count(name: str) -> None:
    same = {} if name == "anthropic_version" else {"anthropic_version": "v"}  # so that all are one dialect
    all_of_them = {identity(MESSAGES, **same), *(identity(MESSAGES, **same | {name: v}) for v in ("one", "other"))}
    assert len(all_of_them) == 3


@pytest.mark.parametrize(
    "name",
    [
        "user_agent", "x_stainless_retry_count", "x_request_id", "traceparent", "x_goog_api_client",
        "x_sidecar_unit", "x_sidecar_task", "x_sidecar_cache", "x_sidecar_explain", "x_user_id", "idempotency_key",
    ],
)  # fmt: skip
def test_headers_that_do_not(name: str) -> None:
    assert identity(**OPENAI, **{name: "one"}) == identity(**OPENAI, **{name: "other"}) == identity(**OPENAI)


def test_lines_of_one_header_keep_their_order() -> None:
    def read(*lines: tuple[str, str]) -> bytes | None:
        headers = CIMultiDict(lines)
        route = registry.find("POST", MESSAGES, "", headers, {})
        ask = registry.read(route, headers, b'{"model":"x"}', content_type="application/json").ask
        return ask.identity() if ask.identity is not None else None

    version, one, other = ("Anthropic-Version", "v"), ("anthropic-beta", "a"), ("Anthropic-Beta", "b")
    assert read(version, one, other) == read(one, version, other)
    assert read(version, one, other) != read(version, other, one)


def test_no_secret_stands_in_it() -> None:
    shown = identity(CHAT + "?key=s3cret-q", authorization="Bearer s3cret-a", cookie="s3cret-c")
    assert shown is not None
    assert b"s3cret" not in shown


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"x","a":1,"a":1}',
        b'{"model":"x","a":[{"b":1,"b":2}]}',
        b'{"model":"x","\\u0061":1,"a":1}',
        b'{"model":"x","a":' + b"[" * 400 + b"]" * 400 + b',"b":1,"b":2}',
    ],
)
def test_a_body_with_two_members_of_one_name_has_none(body: bytes) -> None:
    assert identity(body=body) is None


def test_requests_of_other_kinds_have_none() -> None:
    assert draft("POST", "/v1/audio/transcriptions", form(("model", b"x")), FORM).ask.identity is None
    assert draft("POST", "/v1/images/edits", form(("model", b"x")), FORM).ask.identity is None
    assert draft("GET", "/v1/models/x").ask.identity is None
    assert draft("POST", "/v1/messages/count_tokens", b'{"model":"x"}').ask.identity is None
    assert draft("POST", "/v1/responses", b'{"input":"no model"}').ask.identity is None
    two = b'{"requests":[{"model":"models/x"},{"model":"models/y"}]}'
    assert draft("POST", "/v1beta/models/x:batchEmbedContents", two).ask.identity is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"),
        ("1", '"1"'),
        ("1", "1.0000000000000001"),  # one double, two numbers
        ("1.0", '["NaN","1.0"]'),
        ("0", "-0"),
        ("1e400", "1e401"),
        ("9007199254740993", "9007199254740992"),
        ("9007199254740993.0", "9007199254740992.0"),
        ("18446744073709551616", "18446744073709551617"),
        ("1" * 5000, "1" * 4999 + "2"),
        ("true", "1"),
        ("null", '"null"'),
        ("false", "0"),
        ("[]", "{}"),
        ("[1,2]", "[2,1]"),
        ("[[1],2]", "[1,[2]]"),
        ('"\\ud800"', '"\\ud801"'),
        ('"\\ud800"', '"\\\\ud800"'),
        ('"a\\u0000b"', '"ab"'),
        ('{"a":null}', "{}"),
    ],
)
def test_different_values_never_meet(one: str, other: str) -> None:
    first, second = (canonical_body(b'{"v":%s}' % text.encode()) for text in (one, other))
    assert first is not None
    assert second is not None
    assert first != second


def test_equal_texts_of_a_value_meet() -> None:
    assert canonical_body(b'{"b":"\\u00e4","a":"\\/"}') == canonical_body(b' { "a" : "/",\n"b":"\xc3\xa4" } ')


def test_what_can_not_be_compared_has_none() -> None:
    for body in (b"[]", b'"x"', b"", b"{", b'{"a":NaN}', b'{"a":"\xff"}', b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"):
        assert canonical_body(body) is None, body[:20]


keys = st.text(max_size=4)
numbers = st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, min_size=1, max_size=5)


def shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(one, random)) for key, one in value.items()]
        random.shuffle(items)
        return dict(items)
    return [shuffled(one, random) for one in value] if isinstance(value, list) else value


@given(objects, st.randoms(use_true_random=False), st.booleans())
def test_order_and_blanks_mean_nothing(value: dict[str, Any], random: Any, escaped: bool) -> None:
    plain = canonical_body(json.dumps(value).encode())
    again = json.dumps(shuffled(value, random), indent=random.choice([None, 1, "\t"]), ensure_ascii=escaped)
    assert canonical_body(again.encode()) == plain


@given(objects, objects)
def test_equal_keys_are_equal_values(one: dict[str, Any], other: dict[str, Any]) -> None:
    def exact(value: Any) -> str:  # Python holds 1, 1.0 and True for the same
        return json.dumps(value, sort_keys=True)

    first, second = (canonical_body(json.dumps(value).encode()) for value in (one, other))
    assert (first == second) == (exact(one) == exact(other))


@given(objects, values, st.data())
def test_changing_any_value_changes_the_key(value: dict[str, Any], new: Any, data: st.DataObject) -> None:
    changed = copy.deepcopy(value)
    at: Any = changed
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not (isinstance(at[key], dict | list) and at[key]) or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = new
    same = json.dumps(changed, sort_keys=True) == json.dumps(value, sort_keys=True)
    assert (canonical_body(json.dumps(changed).encode()) == canonical_body(json.dumps(value).encode())) is same


def test_vary() -> None:
    assert not varies_beyond(["Accept-Encoding", "Origin, X-Origin, Referer", ""])
    assert varies_beyond(["*"])
    assert varies_beyond(["accept, x-experiment"])
    assert counts("anthropic-anything-new")
    assert not counts("x-goog-api-client")


def test_a_huge_body_has_no_identity() -> None:
    """Working it out would hold up everybody else."""
    words = "x" * MOST_BYTES
    assert identity(body={"model": "m", "messages": [{"role": "user", "content": words}]}) is None
    assert identity(body={"model": "m", "messages": [{"role": "user", "content": words[:-200]}]}) is not None


def test_a_body_of_very_many_objects_has_no_identity() -> None:
    messages = [{"role": "user", "content": "x"}] * MOST_OBJECTS
    assert identity(body={"model": "m", "messages": messages}) is None
    assert identity(body={"model": "m", "messages": messages[1:]}) is not None
