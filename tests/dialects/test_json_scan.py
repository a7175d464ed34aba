"""Offsets of members and elements, checked against the standard library; depth; speed."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.json_scan import MAX_DEPTH, TooDeepError, check_depth, elements, members, skip_blank

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
# What a scanner may stumble over: quotes, backslashes, brackets, commas.
nasty = st.text(alphabet='a"\\{}[]:, \nmodel', max_size=12)
objects = st.dictionaries(st.one_of(nasty, st.sampled_from(["model", "capability"])), st.one_of(values, nasty))
spaces = st.sampled_from([None, 0, 1, "\t"])


@given(objects, spaces, st.booleans())
def test_every_member_is_found_where_it_stands(
    value: dict[str, object], indent: str | int | None, ascii_: bool
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    found = members(body, skip_blank(body), tuple(value))
    assert [m.key for m in found] == list(value)
    for member in found:
        assert json.loads(body[member.key_start : member.key_end]) == member.key
        assert json.loads(body[member.start : member.end]) == value[member.key]


@given(st.lists(values | nasty), spaces)
def test_every_element_is_found(value: list[object], indent: str | int | None) -> None:
    body = json.dumps(value, indent=indent).encode()
    assert [json.loads(body[start:end]) for start, end in elements(body, 0)] == [*value]


def test_values_deeper_than_one_match_can_take() -> None:
    deep = b"[" * 50 + b'{"a":"]"}' + b"]" * 50
    body = b'{ "x" : ' + deep + b' , "model":"m" }'
    (x, model) = members(body, 0, ("x", "model"))
    assert body[x.start : x.end] == deep
    assert body[model.start : model.end] == b'"m"'
    both = b"[" + deep + b" , " + deep + b"]"
    assert [both[s:e] for s, e in elements(both, 0)] == [deep, deep]


def test_an_escaped_key_and_a_duplicate() -> None:
    found = members(b'{"\\u006dodel":1,"model":2}', 0, ("model",))
    assert [m.key for m in found] == ["model", "model"]


@pytest.mark.parametrize("levels", [1, 6, 7, 511, 512])
@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_up_to_the_limit(levels: int, open_: bytes, close: bytes) -> None:
    check_depth(b" " + open_ * levels + b"1" + close * levels)


@pytest.mark.parametrize("levels", [513, 1025, 100_000])
@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[0,"[",', b"]")])
def test_deeper_is_told_at_once(levels: int, open_: bytes, close: bytes) -> None:
    begun = time.perf_counter()
    with pytest.raises(TooDeepError):
        check_depth(open_ * levels + b"1" + close * levels)
    assert time.perf_counter() - begun < 0.5
    assert MAX_DEPTH == 512


def height(text: bytes) -> int:
    """Bracket by bracket."""
    depth = most = 0
    inside = escaped = False
    for char in text.decode():
        if inside:
            inside, escaped = escaped or char != '"', not escaped and char == "\\"
        else:
            inside = char == '"'
            depth += (char in "[{") - (char in "]}")
            most = max(most, depth)
    return most


SHUT = {"[": "]", '{"a":': "}"}
WHOLE = ['"["', '"\\""', '"\\\\"', '"]\\\\\\"["', '"{"', "[]", "{}", '""']


@given(st.lists(st.sampled_from(list(SHUT))), st.lists(st.sampled_from(WHOLE)), st.integers(1, 300))
def test_depth_is_that_of_the_brackets(opened: list[str], whole: list[str], times: int) -> None:
    """Brackets in strings and quotes behind backslashes don't count, whatever stands beside them."""
    opened = opened * times
    deep = "".join(opened) + f"[{','.join(whole)}]" + "".join(SHUT[part] for part in reversed(opened))
    body = f"[{deep},{deep},{'[],' * MAX_DEPTH}0]".encode()  # so many brackets that they are looked at
    if height(body) > MAX_DEPTH:
        with pytest.raises(TooDeepError):
            check_depth(body)
    else:
        check_depth(body)


def test_a_megabyte_of_brackets_is_no_work() -> None:
    """4 ms are promised."""
    for block in (b"[" * 8 + b"]" * 8, b"[" * 500 + b"]" * 500, b'{"a":' * 400 + b"1" + b"}" * 400, b'"["'):
        body = b"[" + b",".join([block] * (1_000_000 // len(block))) + b"]"
        begun = time.perf_counter()
        check_depth(body)
        assert time.perf_counter() - begun < 0.1


def test_brackets_within_strings_are_no_depth() -> None:
    check_depth(json.dumps({"a": "[" * 5000, "b": ['{"' * 5000]}).encode())


def test_speed() -> None:
    """Ten times the promised figures: 2 ms for a megabyte in few strings, 150 ms for 100,000 keys."""
    large = json.dumps({"messages": [{"role": "user", "content": "some text, " * 95_000}], "model": "m"}).encode()
    many = json.dumps({f"k{n}": n for n in range(100_000)} | {"model": "m"}).encode()
    for body, limit_s in ((large, 0.02), (many, 1.5)):
        begun = time.perf_counter()
        assert len(members(body, 0, ("model",))) == 1
        assert time.perf_counter() - begun < limit_s
