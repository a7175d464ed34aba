"""WebSocket frames: which are rewritten, and what server frames tell."""

from __future__ import annotations

import pytest

from sidecar.core.facts import Usage
from sidecar.dialects.base import Reading
from sidecar.dialects.frames import frame_reading, rewrite_frame
from sidecar.errors import RefusedError


@pytest.mark.parametrize(
    ("frame", "after"),
    [
        ('{"type":"response.create","model":"x","input":"é"}', '{"type":"response.create","model":"new","input":"é"}'),
        (
            '{"type": "response.create", "response": {"model" : "x"}}',
            '{"type": "response.create", "response": {"model" : "new"}}',
        ),
        ('{"type":"response\\u002ecreate","model":"x"}', '{"type":"response\\u002ecreate","model":"new"}'),
        ('{"type":"session.update","session":{"model":"x"}}', '{"type":"session.update","session":{"model":"new"}}'),
        (
            '{"type":"session.update","session":{"capability":"x"}}',
            '{"type":"session.update","session":{"model":"new"}}',
        ),
        ('{"type":"session.update","model":"x"}', None),
        ('{"type":"response.create"}', None),
        ('{"type":"response.create","response":null}', None),
        ('{"type":"conversation.item.create","model":"x","t":"response.create"}', None),
        ('{"type":"input_audio_buffer.append","audio":"AAAA"}', None),
        ("not JSON", None),
    ],
)
def test_rewriting(frame: str, after: str | None) -> None:
    assert rewrite_frame(frame, lambda _: "new") == (after or frame)
    assert rewrite_frame(frame.encode(), lambda _: "new") == (after or frame).encode()


def test_names_in_order() -> None:
    names: list[str] = []
    rewrite_frame('{"type":"response.create","model":"x","response":{"model":"y"}}', lambda n: names.append(n) or n)
    assert names == ["x", "y"]


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"response.create","model":"x","model":"y"}',
        '{"type":"response.create","type":"other","model":"x"}',
        '{"type":"session.update","session":{},"session":{"model":"x"}}',
        '{"type":"response.create","model":7}',
        '{"type":"response.create","model":',
    ],
)
def test_refused(frame: str) -> None:
    with pytest.raises(RefusedError):
        rewrite_frame(frame, lambda _: "new")


def test_usage_of_server_frames() -> None:
    usage = '{"input_tokens":3,"output_tokens":4,"input_token_details":{"cached_tokens":2}}'
    done = f'{{"type":"response.done","response":{{"usage":{usage}}}}}'
    assert frame_reading(done) == Reading(Usage(3, 4, cached_input=2), None)
    completed = b'{"type":"response.completed","response":{"model":"m","usage":null}}'
    assert frame_reading(completed) == Reading(None, "m")
    assert frame_reading('{"type":"response.output_text.delta","delta":"response.done"}') is None
    assert frame_reading('"response.done"') is None
    assert frame_reading("response.done") is None
