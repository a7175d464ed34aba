"""Streams of OpenAI's chat/completions and completions: one JSON chunk an event, `[DONE]` at the end.

Decided here: which chunks carry something that a user waits for, and when such a stream is complete: at `[DONE]`, or
when every choice seen has its finish reason (many compatible servers send no `[DONE]`).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sidecar.dialects.alike import Alike
from sidecar.dialects.base import ERROR, PLAIN, USAGE, USEFUL, Kind
from sidecar.dialects.finished import OPENAI, ended
from sidecar.dialects.meters import BaseMeter, first_text, last_object, openai_usage, text_of
from sidecar.dialects.partial_json import reader
from sidecar.dialects.sse import data

_TEXTS = frozenset({"content", "refusal", "reasoning_content", "reasoning"})  # the last two: compatible servers'

_CALL = ("name", "arguments", "input")


class _Chunk(Struct, gc=False):
    choices: Any = None
    model: Any = None
    usage: Any = None
    error: Any = None


_read = reader(_Chunk)


class ChatMeter(BaseMeter):
    """Meters chat/completions and completions."""

    __slots__ = ("_alike", "_finished", "_marked", "_seen")

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._marked = False
        self._alike = Alike()

    @property
    def ended(self) -> bool:
        """`[DONE]`: a finish reason is followed by usage, where it was asked for."""
        return self._marked

    @property
    def normal(self) -> bool:
        return bool(self._seen) and self._seen <= self._finished and not self._odd_end

    def _whole(self, event: bytes) -> Kind:
        text = self._alike.text(event)
        if text is not None:  # its choice was seen before, so it can't change whether all are finished
            self.deltas += 1
            self.text_bytes += len(text)
            self.served = self._alike.served or self.served
            return USEFUL
        raw = data(event)
        chunk = _read(raw)
        if chunk is None:
            if raw.startswith(b"[DONE]"):
                self._marked = self.done = True
            return PLAIN
        if chunk.error:  # what openai-python raises on (openai/_streaming.py)
            self._marked = self.done = self._odd_end = True
            return ERROR
        model = chunk.model
        if model and isinstance(model, str):
            self.served = model
        if chunk.usage is not None:
            self.usage = openai_usage(chunk.usage)  # may come several times, and beside choices: the last one counts
        choices = chunk.choices
        if not isinstance(choices, list):
            return PLAIN
        if not choices:
            return USAGE if chunk.usage is not None else PLAIN  # Azure begins with `choices: []` and no usage
        if not self._choices(choices):
            return PLAIN
        if self._alike.may_learn and chunk.usage is None:
            self._learn(event, choices, text_of(chunk.model))
        return USEFUL

    def _choices(self, choices: list[Any]) -> bool:
        useful = False
        for choice in choices:
            if isinstance(choice, dict) and self._choice(choice):
                useful = True
        self.done = self._marked or self._seen <= self._finished
        return useful

    def _learn(self, event: bytes, choices: list[Any], served: str | None) -> None:
        choice = choices[0]
        if len(choices) > 1 or choice.get("finish_reason") is not None or choice.get("text"):
            return
        told = [(key, value) for key, value in choice["delta"].items() if value and key != "role"]
        if len(told) == 1 and told[0][0] in _TEXTS - {"refusal"}:
            self._alike.learn(event, *told[0], served)

    def _choice(self, choice: dict[str, Any]) -> bool:
        index = choice.get("index")
        if not isinstance(index, int):
            index = 0
        self._seen.add(index)
        useful = False
        reason = choice.get("finish_reason")
        if reason is not None:
            self._finished.add(index)
            self._odd_end = self._odd_end or not ended(reason, OPENAI)
            useful = True
        text = choice.get("text")
        if text and isinstance(text, str):  # completions
            self._count(text)
            useful = True
        delta = choice.get("delta")
        if delta and isinstance(delta, dict) and self._delta(delta):
            useful = True
        return useful

    def _delta(self, delta: dict[str, Any]) -> bool:
        useful = False
        for key, value in delta.items():
            if not value or key == "role":
                continue
            if key in _TEXTS:
                if isinstance(value, str):
                    self._count(value)
                    useful = True
                    if key == "refusal":
                        self._odd_end = True
            elif key in ("tool_calls", "function_call"):
                for part in _called(value) if key == "tool_calls" else [value]:
                    if isinstance(part, dict) and part:
                        self._count("".join(text_of(part.get(name)) or "" for name in _CALL))
                        useful = True
            elif key == "audio" and isinstance(value, dict):
                self._count(text_of(value.get("transcript")) or "")
                useful = True
        return useful

    def _huge(self, head: bytes, last: bytes) -> None:
        self.served = first_text(head, "model") or self.served
        self.usage = openai_usage(last_object(last, "usage")) or self.usage
        self._odd_end = True  # a refusal, or the end of one of several choices, may stand in what wasn't read
        if first_text(last, "finish_reason"):
            self._finished |= self._seen
            self.done = True


def _called(calls: Any) -> list[Any]:
    """What each call of a delta calls, of whatever kind: its name and arguments."""
    listed = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [call.get("function") or call.get("custom") or call for call in listed]
