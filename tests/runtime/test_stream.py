"""What a stream's pieces mean together, whatever the chunks that they come in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.dialects.openai_responses import TypedMeter
from sidecar.runtime.stream import Stream


def event(kind: str, **more: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **more}).encode())


ERROR = event("error", code="server_error", message="m")
FAILED = event("response.failed", response={"status": "failed", "error": {"code": "server_error", "message": "m"}})
DELTA = event("response.output_text.delta", delta="hi")
PIECES = {
    "at once": [ERROR + FAILED],
    "apart": [ERROR, FAILED],
    "alone": [FAILED],
    "with something after it": [ERROR + DELTA],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=list(PIECES))
def test_an_error_before_anything_useful_is_never_taken_for_an_answer(pieces: list[bytes]) -> None:
    """OpenAI ends a response that failed by `error`, `response.failed`, or both, often in the same bytes."""
    stream = Stream(TypedMeter(), hide_usage=False)
    useful = []
    for piece in pieces:
        stream.feed(piece)
        useful.append(stream.useful)
    assert stream.error is not None
    assert not any(useful)


def test_an_answer_that_fails_later_in_the_same_bytes_was_one() -> None:
    stream = Stream(TypedMeter(), hide_usage=False)
    stream.feed(DELTA + ERROR + FAILED)
    assert stream.useful
    assert stream.error == ERROR
