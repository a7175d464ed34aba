"""Events that aren't parsed mean what they would mean if they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.alike import Alike
from sidecar.dialects.anthropic import MessagesMeter
from sidecar.dialects.base import Kind
from sidecar.dialects.meters import BaseMeter
from sidecar.dialects.openai_chat import ChatMeter

# What stands between the quotes, as it is spelled: also what no JSON string may hold, or would end it.
SPELLED = [
    b"a",
    b" token",
    b"",
    b"\xc3\xa9",
    "日本😀".encode(),
    b"\xff",
    b"\xed\xa0\x80",
    b"\\n",
    b"\\u00e9",
    b"\\",
    b"\\ud800",
]
SPELLED += [
    b"\n",
    b"\r",
    b"\x00",
    b"\x1f",
    b"\x7f",
    b'"',
    b'","x":"y',
    b'"}}]}\n\ndata: {"a":"',
    b"content",
    b'"content":"',
    b"x" * 300,
]
spelled = st.sampled_from(SPELLED)

CHAT = [
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}',
    b'{"choices":[{"index":0,"delta":{"role":"assistant","content":"@"},"finish_reason":null}],"usage":null}',
    b'{"model":"n","choices":[{"index":1,"delta":{"reasoning_content":"@","content":null}}]}',
    b'{"model":"n","choices":[{"index":0,"delta":{"refusal":"@"}}]}',
    b'{"choices":[{"delta":{"content":"@"},"finish_reason":"stop"}]}',
    b'{"choices":[{"delta":{"content":"@"}}],"usage":{"prompt_tokens":3}}',
    b'{"choices":[{"delta":{"content":"@","tool_calls":[{"function":{"name":"f"}}]}}]}',
    b'{"choices":[{"delta":{"content":"@"}},{"index":1,"delta":{"content":"a"}}]}',
    b'{"x":{"content":"@"},"choices":[{"delta":{"content": "a"}}]}',
    b'{"x":{"content":"@"},"choices":[{"delta":{"\\u0063ontent":"a"}}]}',
    b'{"choices":[{"text":"@"}]}',
    b'{"choices":[{"index":0,"delta":{"content":"@"}}],"obfuscation":"@"}',
    b'{"choices":[],"usage":null,"content":"@"}',
    b'{"error":{"message":"@"}}',
]
MESSAGES = [
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"@"}}',
    b'{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"@"}}',
    b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"@"}}',
    b'{"type":"content_block_delta","delta":{"text":"a","thinking":"@"}}',
    b'{"type":"content_block_delta","text":"@","delta":{"text":"a"}}',
    b'{"type":"message_delta","text":"@","delta":{"stop_reason":"end_turn"}}',
    b'{"type":"@","delta":{"text":"a"}}',
]


def seen(meter: BaseMeter, events: list[bytes]) -> list[Any]:
    return [
        (meter.see(e), meter.served, meter.usage, meter.done, meter.normal, meter.text_bytes, meter.deltas)
        for e in events
    ]


def without_comparing(meter: ChatMeter | MessagesMeter) -> BaseMeter:
    meter._alike.may_learn = 0
    return meter


@given(st.lists(st.tuples(st.sampled_from(CHAT), spelled), max_size=20))
def test_chat_chunks_mean_what_they_say(parts: list[tuple[bytes, bytes]]) -> None:
    events = [b"data: " + shape.replace(b"@", text) + b"\n\n" for shape, text in parts]
    assert seen(ChatMeter(), events) == seen(without_comparing(ChatMeter()), events)


@given(st.lists(st.tuples(st.sampled_from(MESSAGES), spelled), max_size=20), st.sampled_from([b"\n", b"\r\n"]))
def test_messages_mean_what_they_say(parts: list[tuple[bytes, bytes]], end: bytes) -> None:
    events = [
        b"event: content_block_delta" + end + b"data: " + shape.replace(b"@", text) + end + end for shape, text in parts
    ]
    assert seen(MessagesMeter(), events) == seen(without_comparing(MessagesMeter()), events)


def event(text: str) -> bytes:
    return b'data: {"a":{"content":' + json.dumps(text, ensure_ascii=False).encode() + b'},"b":1}\n\n'


def test_only_the_text_may_differ() -> None:
    alike = Alike()
    assert alike.text(event("a")) is None, "nothing was learned"
    alike.learn(event("a"), "content", "a", "m")
    assert alike.text(event("hällo")) == "hällo".encode()
    assert alike.served == "m"
    other = event("a").replace(b"1", b"2")
    for no in (event(""), event('"'), event("\\"), event("\n"), event("a")[:-1], event("a") * 2, other, b"", b"\n\n"):
        assert alike.text(no) is None


@pytest.mark.parametrize(
    "raw", [b'{"a":"content","content":"x"}', b'{"content":"x","b":"\\n"}', b'{"content":"y"}', b"{}"]
)
def test_what_is_not_sure_is_not_learned(raw: bytes) -> None:
    alike = Alike()
    alike.learn(raw, "content", "x", None)
    assert alike.text(raw) is None
    assert alike.text(raw.replace(b"x", b"z")) is None


@pytest.mark.parametrize(("meter", "shape"), [(ChatMeter, CHAT[0]), (MessagesMeter, MESSAGES[0])])
def test_the_usual_chunk_is_not_parsed(meter: type[BaseMeter], shape: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every chunk costs hangs on that."""
    made = meter()
    made.see(b"data: " + shape.replace(b"@", b"first") + b"\n\n")
    for name in ("openai_chat", "anthropic"):
        monkeypatch.setattr(f"sidecar.dialects.{name}._read", None)
    assert made.see(b"data: " + shape.replace(b"@", "zweiter …".encode()) + b"\n\n") is Kind.USEFUL
    assert (made.deltas, made.text_bytes) == (2, len("firstzweiter …".encode()))


def test_learning_is_given_up_where_everything_differs() -> None:
    made = ChatMeter()
    for n in range(20):
        made.see(b'data: {"id":"%d","choices":[{"delta":{"content":"a"}}]}\n\n' % n)
    assert made._alike.may_learn == 0
    assert made.deltas == 20
