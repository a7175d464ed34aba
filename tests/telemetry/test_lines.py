"""The form of lines."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from sidecar.telemetry.lines import encode, rfc3339, safe


def test_time_is_rfc3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(1_763_800_000.25) == "2025-11-22T08:26:40.250Z"


@given(st.floats(0, 4e9))
def test_time_always_has_its_form(ts: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rfc3339(ts))


@given(st.floats(0, 4e9))
def test_time_is_what_the_library_says(ts: float) -> None:
    assert rfc3339(ts) == datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


@given(st.text(st.characters()), st.integers(0, 40))
def test_safe_text_is_short_and_printable(text: str, limit: int) -> None:
    made = safe(text, limit)
    assert len(made) <= limit
    assert made.replace("\ufffd", "").isprintable()
    if text.isprintable() and len(text) <= limit:
        assert made == text


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # the first draw builds a table of Unicode
@given(st.dictionaries(st.text(st.characters(), max_size=5), ANY, max_size=4))
def test_a_line_is_always_one_line_of_json(value: dict[str, object]) -> None:
    line = encode(value)
    assert b"\n" not in line
    json.loads(line)


def test_what_json_cannot_say_does_not_raise() -> None:
    assert json.loads(encode({"n": 10**30, "s": "\ud800", "o": object}))["n"] == 10**30
    loop: dict[str, object] = {}
    loop["self"] = loop
    json.loads(encode(loop))


class Line(Struct):
    text: str
    number: object


def test_structs_are_lines_too() -> None:
    assert encode(Line("a", 1)) == b'{"text":"a","number":1}'
    assert json.loads(encode(Line("\ud800", 10**30))) == {"text": "\ud800", "number": 10**30}
    assert json.loads(encode(Line("a", object)))["text"] == "a"
