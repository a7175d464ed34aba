"""W3C traceparent, strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.traceparent import TraceParent, parse

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_standards_example() -> None:
    parsed = parse(GOOD)
    assert parsed == TraceParent(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)
    assert parsed.sampled
    assert parsed.header() == GOOD


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_what_is_written_is_read(trace_id: int, span_id: int, flags: int) -> None:
    made = TraceParent(trace_id, span_id, flags)
    assert parse(made.header()) == made


@given(st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"))
def test_nothing_raises_and_what_is_read_is_valid(header: str) -> None:
    parsed = parse(header)
    if parsed is not None:
        assert parse(parsed.header()) == parsed


def test_a_later_version_may_say_more() -> None:
    assert parse("cc" + GOOD[2:] + "-what-comes-later") == parse(GOOD)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        GOOD.upper(),
        GOOD + "-more",
        GOOD + "\n",
        " " + GOOD,
        "ff" + GOOD[2:],
        GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        GOOD.replace("00f067aa0ba902b7", "0" * 16),
        GOOD.replace("-01", "-1"),
        GOOD.replace("4bf9", "4bg9"),
        GOOD.replace("4bf9", "\u0664bf9"[:4]),
        "cc" + GOOD[2:] + "-" + "x" * 300,
        "cc" + GOOD[2:] + "x",
    ],
)
def test_bad_forms(header: str | None) -> None:
    assert parse(header) is None
