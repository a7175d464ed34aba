"""Events: whatever the chunking, the same bytes and the same events."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.sse import PIECE, Piece, Splitter, data, event_name

STREAMS = [
    b'data: {"a":1}\n\ndata: [DONE]\n\n',
    b"event: x\r\ndata: 1\r\n\r\n: ping\r\n\r\ndata: 2\r\n\r\n",
    b"data: 1\r\rdata: 2\r\r",
    b"data: 1\n\r\ndata: 2\r\n\ndata: 3\n\rdata: 4\r\r\ndata: 5\r\n\rdata: 6\n\n\n\n",
    "data: ünïcode 😀\n\ndata: x".encode(),
    b"\n\n\r\n\r\n\r\rdata: 1\n\n",
]


def fed(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = Splitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.tail


@pytest.mark.parametrize("stream", STREAMS)
def test_every_chunking_gives_the_same_events(stream: bytes) -> None:
    whole = fed([stream])
    assert b"".join(whole[0]) + whole[1] == stream
    assert fed([stream[n : n + 1] for n in range(len(stream))]) == whole
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert fed([stream[:first], stream[first:second], stream[second:]]) == whole


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b":", b"\xc3\xa9"])), st.lists(st.integers(1, 7)))
def test_any_mixture_of_line_ends(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    whole = fed([stream])
    chunks, at = [], 0
    for size in sizes:
        chunks.append(stream[at : at + size])
        at += size
    assert fed([*chunks, stream[at:]]) == whole
    assert b"".join(whole[0]) + whole[1] == stream


@pytest.mark.parametrize(("stream", "count"), [(STREAMS[0], 2), (STREAMS[1], 3), (STREAMS[2], 2), (STREAMS[4], 1)])
def test_events_end_with_their_empty_line(stream: bytes, count: int) -> None:
    events, _ = fed([stream])
    assert len(events) == count
    assert all(event.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")) for event in events)


def test_an_event_is_handed_out_as_soon_as_it_is_whole() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: 1\n") == []
    assert splitter.feed(b"\n") == [b"data: 1\n\n"]
    assert splitter.feed(b"data: 2\r\n\r") == []
    assert splitter.feed(b"\n") == [b"data: 2\r\n\r\n"]
    assert splitter.feed(b"data: 3\r\r") == [b"data: 3\r\r"]
    assert splitter.tail == b""


@pytest.mark.parametrize("chunk", [1000, 65_536, 70_001, 1 << 24])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_huge_event_passes_in_pieces(chunk: int, end: bytes) -> None:
    size = 1 << 24 if chunk > 10_000 else 1 << 20
    huge = b"data: " + b"x" * size + end
    stream = b"data: 1\n\n" + huge + b"data: 2\n\n"
    splitter = Splitter()
    events: list[bytes] = []
    for at in range(0, len(stream), chunk):
        events += splitter.feed(stream[at : at + chunk])
        assert len(splitter.tail) <= PIECE
    assert b"".join(events) == stream
    assert not splitter.inside
    pieces = [event for event in events if isinstance(event, Piece)]
    if pieces:
        assert b"".join(pieces) == huge
        assert [p.first for p in pieces] == [True] + [False] * (len(pieces) - 1)
        assert [p.last for p in pieces] == [False] * (len(pieces) - 1) + [True]
    assert events[0] == b"data: 1\n\n"
    assert events[-1] == b"data: 2\n\n"


def test_inside_tells_that_an_event_was_begun() -> None:
    splitter = Splitter()
    splitter.feed(b"data: " + b"x" * PIECE + b"\n")
    assert splitter.inside
    splitter.feed(b"\n")
    assert not splitter.inside


def test_many_tiny_chunks_are_cheap() -> None:
    begun = time.perf_counter()
    splitter = Splitter()
    for _ in range(150_000):
        splitter.feed(b"x")
    assert time.perf_counter() - begun < 1.5


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"event: e\r\ndata: a\r\ndata:b\r\n\r\n", b"a\nb"),
        (b"data: a\rdata: b\r\r", b"a\nb"),
        (b": comment\n\n", b""),
        (b"data\n\n", b""),
        (b"id: 1\nretry: 5\ndata: x\n\n", b"x"),
        (b"\ndata: x\n\n", b"x"),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        ("data: a\u2028b\x0b\x85\n\n".encode(), "a\u2028b\x0b\x85".encode()),
        (b"data: x", b"x"),
    ],
)
def test_data(event: bytes, expected: bytes) -> None:
    assert data(event) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"event: e\ndata: x\n\n", b"e"),
        (b"event:e\r\ndata: x\r\n\r\n", b"e"),
        (b"event: e\r\rdata", b"e"),
        (b"data: x\nevent: e\n\n", b"e"),
        (b"event: a\nevent: b\n\n", b"b"),
        (b"event: e", b"e"),
        (b"data: x\n\n", b""),
    ],
)
def test_event_name(event: bytes, expected: bytes) -> None:
    assert event_name(event) == expected
