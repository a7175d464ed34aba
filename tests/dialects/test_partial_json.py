"""A few members say the same as if the whole text had been parsed."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Struct

from sidecar.dialects.partial_json import UNREADABLE, decoder, reader


class Few(Struct):
    a: Any = UNSET
    b: Any = None


read, decode = reader(Few), decoder(Few)

ODD = [b'"', b"\\", b"\\u006", b"\\ud800", b"{", b"]", b":", b",", b"\x00", b"\x1f", b"\xff", b"\xed\xa0\x80", b"\xc3"]
ODD += [b"\xc3\xa9", b"0", b"-", b".", b"e5", b"tru", b"null", b" ", b"\n", b"\x0b", b"NaN", b"//", b"\xef\xbb\xbf"]
keys = st.sampled_from(["a", "b", "\x61", "ab", "", "é", '"a"', "c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
texts = st.builds(
    lambda members, ascii_: (
        "{" + ",".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=ascii_)}" for k, v in members) + "}"
    ).encode("utf-8", "surrogatepass"),
    st.lists(st.tuples(keys, values), max_size=5),
    st.booleans(),
)
broken = st.builds(
    lambda text, at, cut, odd: text[: at % (len(text) + 1)] + odd + text[at % (len(text) + 1) + cut :],
    texts,
    st.integers(0, 999),
    st.integers(0, 3),
    st.sampled_from(ODD),
)


def whole(text: bytes) -> Few | None:
    """By the whole value: of two members of one name the last."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return Few(value.get("a", UNSET), value.get("b")) if isinstance(value, dict) else None


@given(texts | broken)
def test_what_is_read_is_what_the_whole_says(text: bytes) -> None:
    assert read(text) == whole(text)
    try:
        assert decode(text) == whole(text)
    except UNREADABLE:
        assert whole(text) is None or b"e" in text or len(text) > 19, "only a number may be out of its reach"


@pytest.mark.parametrize(
    "text", [b"", b" ", b"[]", b'"a"', b"7", b"null", b"[" * 100_000, b'{"a":' * 3000 + b"1" + b"}" * 3000]
)
def test_anything_else_is_none(text: bytes) -> None:
    assert read(text) is None
    with pytest.raises(UNREADABLE):
        decode(text)


@pytest.mark.parametrize("string", [b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\q"', b'"\x01"'])
def test_strings_that_are_skipped_are_judged_as_well(string: bytes) -> None:
    for text in (b'{"a":1,"x":' + string + b"}", b'{"a":1,"x":[{' + string + b":2}]}"):
        assert read(text) is None


def test_a_number_beyond_a_double_is_no_reason_to_read_nothing() -> None:
    assert read(b'{"a":1,"x":1e999}') == Few(1), "the SDKs take it"
    assert read(b'{"a":1e999}') is None
