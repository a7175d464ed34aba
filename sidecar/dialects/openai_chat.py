"""Streams of OpenAI's chat/completions and completions: one JSON chunk an event, `[DONE]` at the end.

Decided here: which chunks carry something that a user waits for, and when such a stream is complete: at `[DONE]`, or
when every choice seen has its finish reason (many compatible servers send no `[DONE]`).
"""

from __future__ import annotations

from typing import Any

from sidecar.dialects.base import Kind
from sidecar.dialects.finished import OPENAI, ended
from sidecar.dialects.meters import BaseMeter, first_text, last_object, loads, openai_usage, text_of
from sidecar.dialects.sse import data

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")  # the last two: compatible servers' reasoning


class ChatMeter(BaseMeter):
    """Meters chat/completions and completions."""

    __slots__ = ("_finished", "_marked", "_seen")

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._marked = False

    @property
    def ended(self) -> bool:
        """`[DONE]`: a finish reason is followed by usage, where it was asked for."""
        return self._marked

    @property
    def normal(self) -> bool:
        return bool(self._seen) and self._seen <= self._finished and not self._odd_end

    def _whole(self, event: bytes) -> Kind:
        raw = data(event)
        if raw.startswith(b"[DONE]"):
            self._marked = self.done = True
            return Kind.PLAIN
        chunk = loads(raw) if raw else None
        if not isinstance(chunk, dict):
            return Kind.PLAIN
        if chunk.get("error"):  # what openai-python raises on (openai/_streaming.py)
            self._marked = self.done = self._odd_end = True
            return Kind.ERROR
        self.served = text_of(chunk.get("model")) or self.served
        usage = chunk.get("usage")
        if usage is not None:
            self.usage = openai_usage(usage)  # may come several times, and beside choices: the last one counts
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return Kind.PLAIN
        if not choices:
            return Kind.USAGE if usage is not None else Kind.PLAIN  # Azure begins with `choices: []` and no usage
        useful = [self._choice(choice) for choice in choices if isinstance(choice, dict)]
        self.done = self._marked or self._seen <= self._finished
        return Kind.USEFUL if any(useful) else Kind.PLAIN

    def _choice(self, choice: dict[str, Any]) -> bool:
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        self._seen.add(index)
        useful = False
        if choice.get("finish_reason") is not None:
            self._finished.add(index)
            self._odd_end = self._odd_end or not ended(choice["finish_reason"], OPENAI)
            useful = True
        if text := text_of(choice.get("text")):  # completions
            self._count(text)
            useful = True
        delta = choice.get("delta")
        return (isinstance(delta, dict) and self._delta(delta)) or useful

    def _delta(self, delta: dict[str, Any]) -> bool:
        useful = False
        for key in _TEXTS:
            if text := text_of(delta.get(key)):
                self._count(text)
                useful = True
                self._odd_end = self._odd_end or key == "refusal"
        for part in _called(delta):
            useful = True
            self._count("".join(text_of(part.get(key)) or "" for key in ("name", "arguments", "input")))
        audio = delta.get("audio")
        if isinstance(audio, dict) and audio:
            self._count(text_of(audio.get("transcript")) or "")
            useful = True
        return useful

    def _huge(self, head: bytes, last: bytes) -> None:
        self.served = first_text(head, "model") or self.served
        self.usage = openai_usage(last_object(last, "usage")) or self.usage
        self._odd_end = True  # a refusal, or the end of one of several choices, may stand in what wasn't read
        if first_text(last, "finish_reason"):
            self._finished |= self._seen
            self.done = True


def _called(delta: dict[str, Any]) -> list[dict[str, Any]]:
    """The called function's name and arguments in each call of a delta, of whatever kind."""
    calls = delta.get("tool_calls")
    listed = [call for call in calls if isinstance(call, dict) and call] if isinstance(calls, list) else []
    called = [delta.get("function_call"), *(call.get("function") or call.get("custom") or call for call in listed)]
    return [part for part in called if isinstance(part, dict) and part]
