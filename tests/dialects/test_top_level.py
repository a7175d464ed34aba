"""The short way through a body gives what the long way gives: the same members, refusals, place of the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.facts import Ask
from sidecar.dialects import top_level as module
from sidecar.dialects.describe import describe
from sidecar.dialects.json_model import model_edits, parse
from sidecar.dialects.json_scan import skip_blank
from sidecar.dialects.openai import route
from sidecar.dialects.partial_json import wanted
from sidecar.dialects.top_level import TopLevel, hints, sole_model, top_level
from sidecar.errors import RefusedError
from tests.dialects.test_json_model import blank, value
from tests.dialects.test_reading import draft

MODEL = ['"model"', '"\\u006dodel"', '"mode\\u006C"']
WORDS = [
    "model",
    "capability",
    "file_id",
    "container",
    "audio",
    "data",
    "b64_json",
    "type",
    "n",
    "seed",
    "tools",
    "user",
]
strings = st.sampled_from([*WORDS, "x", '\\"model\\"', 'say \\"model', "\\\\", "item_reference", ";base64,QUJD"])
quoted = strings.map(lambda s: f'"{s}"')
members = st.lists(
    st.tuples(
        st.sampled_from(MODEL) | quoted, quoted | value | st.sampled_from(['"gpt"', '{"model":"inner"}', "1e999"])
    ),
    max_size=6,
)


def text(members: list[tuple[str, str]], space: str) -> bytes:
    return (space + "{" + ",".join(f"{space}{k}{space}:{space}{v}{space}" for k, v in members) + "}").encode()


bodies = st.builds(text, members, blank)
odd = st.sampled_from([b'"', b"\xff", b"]", b"\\", b",", b"\x00", b"NaN", b"x"])
spoiled = st.builds(lambda b, at, odd: b[: at % len(b)] + odd + b[at % len(b) :], bodies, st.integers(0, 999), odd)
OBJECT = b"{" + b'"x":' + b"[" * 511 + b"]" * 511 + b"}"


def by_parsing(body: bytes) -> TopLevel | None:
    parsed = parse(body)
    return wanted(TopLevel, parsed) if isinstance(parsed, dict) else None


def plain(found: TopLevel | None) -> dict[str, Any] | None:
    """Without the tools' text, which isn't parsed, and with numbers as they compare."""
    if found is None:
        return None
    named = {name: getattr(found, name) for name in found.__struct_fields__}
    tools = named.pop("tools")
    named["tools"] = json.loads(bytes(tools)) if isinstance(tools, module.msgspec.Raw) else tools
    return {name: float(v) if isinstance(v, int) and abs(v) > 2**63 else v for name, v in named.items()}


@given(bodies | spoiled)
@example(OBJECT)
@example(OBJECT.replace(b"[", b"[["))
@example(b"\xef\xbb\xbf{}")
@example(b"")
@example(b'{"tools":[{"type":"function"}],"n":1}')
def test_the_same_members_and_refusals_as_by_parsing(body: bytes) -> None:
    try:
        expected = by_parsing(body)
    except RefusedError as error:
        with pytest.raises(RefusedError) as caught:
            top_level(body)
        assert caught.value.refusal == error.refusal
    else:
        assert plain(top_level(body)) == plain(expected)


@given(bodies)
@example(b'{"mod\\u0065l":"x","a":{"model":"y"}}')
@example(b'{"model":"x","mod\\u0065l":"y"}')
@example(b'{"model":"x","a":"say \\"model"}')
@example(b'{"a":"model","\\u006dodel":"x"}')
def test_a_model_that_stands_alone_stands_where_the_scanner_finds_it(body: bytes) -> None:
    try:
        top = top_level(body)
    except RefusedError:
        return
    if top is None or not isinstance(top.model, str) or top.capability is not module.UNSET:
        return
    alone = sole_model(body)
    if alone is None:
        return
    assert not hints(body)
    asked = model_edits(body, skip_blank(body), header=None, required=True)
    assert [(edit.start, edit.end) for edit in asked.edits] == [alone.span(1)]
    assert (asked.name, asked.by_capability) == (top.model, False)


@given(bodies, st.sampled_from(["openai", "anthropic", "gemini"]))
def test_a_body_without_hints_is_described_as_by_a_search(body: bytes, dialect: str) -> None:
    try:
        top = top_level(body)
    except RefusedError:
        return
    if top is None or hints(body):
        return
    found = route("POST", "/v1/responses")
    assert found is not None
    short, long = Ask(dialect), Ask(dialect)
    describe(short, found[0], top, body, ordinary=True)
    describe(long, found[0], top, body, ordinary=False)
    assert short == long


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"say \\"model\\""}],"model" : "x"}'),
        ("/v1/chat/completions", b'{"model":"x","tools":[{"type":"function","function":{"name":"f"}}],"stream":true}'),
        ("/v1/messages", '{"model":"x","max_tokens":9,"system":"é\\n","messages":[]}'.encode()),
        ("/v1/responses", b'{"model":"x","input":"hi","temperature":0.5,"metadata":{"user_id":"u"}}'),
        ("/v1/embeddings", b'{"model":"x","input":[1,2,3]}'),
        ("/v1beta/models/x:generateContent", b'{"contents":[{"role":"model","parts":[{"text":"hi"}]}]}'),
    ],
)
def test_ordinary_requests_take_the_short_way(target: str, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither parsed whole nor walked: what every request costs hangs on that."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the long way")

    for name in ("sidecar.dialects.top_level.parse", "sidecar.dialects.reading.model_edits"):
        monkeypatch.setattr(name, never)
    assert draft("POST", target, body).names == ("x",)
