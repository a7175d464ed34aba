"""What JSON is refused, and that only the model's bytes change."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.drafts import splice
from sidecar.dialects.json_model import model_edits, parse, usage_edit
from sidecar.dialects.json_scan import skip_blank
from sidecar.errors import Code, RefusedError


def rewritten(body: bytes, new: str = "new", *, header: str | None = None, **options: Any) -> bytes:
    asked = model_edits(body, skip_blank(body), header=header, required=True, **options)
    assert asked.name is not None
    return splice(body, asked.edits, {asked.name: new})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"nope", "not valid JSON"),
        (b'{"a":', "not valid JSON"),
        (b'{"a":1,}', "not valid JSON"),
        (b"{} {}", "goes on after"),
        (b"{}x", "goes on after"),
        (b'{"a":NaN}', "NaN"),
        (b"[-Infinity]", "NaN"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "UTF-8"),
        (b"[" * 513 + b"]" * 513, "deeper than 512"),
        (b"[" * 100_000, "deeper than 512"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "deeper than 512"),
        (b"01", "goes on after"),
        (b'"\x01"', "not valid JSON"),
    ],
)
def test_refused(body: bytes, says: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(RefusedError) as caught:
        parse(body)
    assert caught.value.refusal.code is Code.BAD_REQUEST
    assert says in caught.value.refusal.message
    assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"9" * 5000 + b"]",
        b"[1e999, -1e999, 1e-999, 123456789012345678901234567890]",
        b'["\\ud800", "\\udc00x"]',
        b" \t\r\n{}\n",
        b"[" * 512 + b"]" * 512,
        b'{"a":1,"a":2}',
    ],
)
def test_what_rfc_8259_allows_is_taken(body: bytes) -> None:
    parse(body)


def test_a_message_never_repeats_the_body() -> None:
    for body in (b'{"secret-prompt"', b'{"model":["secret-prompt"]}', b'{"model":"secret-prompt\\u0000"}'):
        with pytest.raises(RefusedError) as caught:
            parse(body)
            rewritten(body)
        assert "secret" not in caught.value.refusal.message


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b'{"model":"x"}', b'{"model":"new"}'),
        (b' {\n "messages" : [ ] ,\t"model"\n:  "x" \n}\n', b' {\n "messages" : [ ] ,\t"model"\n:  "new" \n}\n'),
        (b'{"mode\\u006c":"x","n":1.0,"s":1e-7}', b'{"mode\\u006c":"new","n":1.0,"s":1e-7}'),
        (b'{"a":{"model":"inner"},"model":"x"}', b'{"a":{"model":"inner"},"model":"new"}'),
        (b'{"a":"\\"model\\":","model":"x"}', b'{"a":"\\"model\\":","model":"new"}'),
        (b'{"a":1,"a":2,"model":"x"}', b'{"a":1,"a":2,"model":"new"}'),
        # capability beats model and goes with one comma and the white space before it
        (b'{"model":"x","capability":"c"}', b'{"model":"new"}'),
        (b'{"capability":"c","model":"x"}', b'{"model":"new"}'),
        (b'{"a":1, "capability": "c", "model":"x"}', b'{"a":1, "model":"new"}'),
        (b'{\n  "capability": "c",\n  "model": "x"\n}', b'{\n  "model": "new"\n}'),
        (b'{\n  "model": "x" ,\n  "capability": "c"\n}', b'{\n  "model": "new" \n}'),
        # capability alone becomes the model where it stands
        (b'{"a":1, "capability" : "c" }', b'{"a":1, "model" : "new" }'),
        (b'{"capability":"c"}', b'{"model":"new"}'),
    ],
)
def test_rewriting(body: bytes, after: bytes) -> None:
    assert rewritten(body) == after


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b"{}", b'{"model":"new"}'),
        (b" { } ", b' {"model":"new" } '),
        (b'{"a":1}', b'{"model":"new","a":1}'),
        (b'{"a":1,"model":"x"}', b'{"a":1,"model":"new"}'),
        (b'{"capability":"c","a":1}', b'{"model":"new","a":1}'),
        (b'{"capability":"c","model":"x"}', b'{"model":"new"}'),
    ],
)
def test_a_header_beats_all(body: bytes, after: bytes) -> None:
    assert model_edits(body, skip_blank(body), header="chat.core", required=True).name == "chat.core"
    assert rewritten(body, header="chat.core") == after


def test_a_prefix_stays_where_the_body_has_it() -> None:
    assert rewritten(b'{"model":"models/x"}', prefix="models/") == b'{"model":"models/new"}'
    assert rewritten(b'{"model":"x"}', prefix="models/") == b'{"model":"new"}'
    assert rewritten(b"{}", header="c", prefix="models/") == b'{"model":"models/new"}'


def test_a_name_that_stays_keeps_its_bytes() -> None:
    body = b'{"model":"gpt\\u002d4"}'
    assert rewritten(body, "gpt-4") == body
    assert rewritten(b'{"capability":"gpt-4"}', "gpt-4") == b'{"model":"gpt-4"}'


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"model":"x","model":"x"}',
        b'{"model":"x","mode\\u006c":"y"}',
        b'{"capability":"x","capability":"y"}',
        b'{"model":1}',
        b'{"model":null}',
        b'{"model":["x"]}',
        b'{"model":{"model":"x"}}',
        b'{"model":""}',
        b'{"model":"a\\r\\nb"}',
        b'{"model":"\\ud800"}',
        b'{"model":"x","capability":null}',
        b'{"model":"' + b"x" * 257 + b'"}',
        b'{"model":"' + b"x" * 1_000_000 + b'"}',
    ],
)
def test_a_model_that_is_none(body: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        rewritten(body)
    assert caught.value.refusal.code is Code.BAD_REQUEST
    assert len(caught.value.refusal.message) < 200


@pytest.mark.parametrize("body", [b"{}", b'{"model":null}'])
def test_an_optional_model_may_be_absent(body: bytes) -> None:
    assert model_edits(body, 0, header=None, required=False).edits == []


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options": {}}', b'{"stream_options": {"include_usage":true}}'),
        (b'{"stream_options":{ "a":1}}', b'{"stream_options":{"include_usage":true, "a":1}}'),
        (b'{"stream_options":{"include_usage":null}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{"include_usage":false}}', None),
        (b'{"stream_options":{"include_usage":true}}', None),
        (b'{"stream_options":{"include_us\\u0061ge":false}}', None),
        (b'{"stream_options":7}', None),
        (b'{"stream_options":{},"stream_options":{}}', None),
    ],
)
def test_include_usage(body: bytes, after: bytes | None) -> None:
    edit = usage_edit(body, 0, said="stream_options" in json.loads(body))
    assert (splice(body, [edit], {}) if edit is not None else None) == after


# Fuzzed bodies: members as text, so that white space, escapes, numbers and duplicates are as odd as JSON allows.
blank = st.text(alphabet=" \t\r\n", max_size=3)
number = st.from_regex(r"\A-?(?:0|[1-9][0-9]{0,40})(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,4})?\Z")
escaped = st.lists(
    st.sampled_from(
        ["a", "é", "😀", '\\"', "\\\\", "\\/", "\\n", "\\u00e9", "\\ud800", "{", "[", "]", ":", ",", "model"]
    )
).map(lambda parts: '"' + "".join(parts) + '"')
plain = number | escaped | st.sampled_from(["true", "false", "null", "[]", "{ }"])
value = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: "[ " + " , ".join(v) + "]")
        | st.lists(st.tuples(escaped, inner), max_size=3).map(
            lambda kv: "{" + ",".join(f"{k} :\t{v}" for k, v in [*kv, ('"model"', '"inner"')]) + "}"
        )
    ),
    max_leaves=12,
)
other = st.tuples(escaped.filter(lambda k: json.loads(k) not in ("model", "capability")), value)
names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=9)
model_key = st.sampled_from(['"model"', '"\\u006dodel"', '"mod\\u0065l"'])


@given(st.lists(other, max_size=5), st.lists(other, max_size=5), model_key, blank, blank, names)
def test_only_the_models_bytes_change(
    before: list[tuple[str, str]], after: list[tuple[str, str]], key: str, a: str, b: str, new: str
) -> None:
    def text(model: str) -> bytes:
        parts = [f"{k}{a}:{b}{v}" for k, v in [*before, (key, model), *after]]
        return (f"{a}{{{b}" + f"{a},{b}".join(parts) + f"{b}}}{a}").encode()

    body = text('"old"')
    parse(body)
    out = rewritten(body, new)
    assert out == (body if new == "old" else text(json.dumps(new, ensure_ascii=False)))
    assert out == rewritten(body, new)
    assert rewritten(out, "back") == rewritten(body, "back")
