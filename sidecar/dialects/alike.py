"""Events of one stream that differ in nothing but one text: such an event needs no parser, only a comparison.

Most of a stream is the same JSON over and over, with another `content` each time. Decided here: when that is sure.
Not decided here: what an event means (the meters, which say what was learned from a whole one).

An event was parsed, and all that it told was one text. If no backslash is in it (so that nothing is spelled in two
ways), and the text's key stands in it once as a quoted word, then that is where the text is. Another event with the
same bytes before and behind it has the same value but for that text, as long as what stands between is the inside of a
JSON string without escapes: no quote, no backslash, no control character, valid UTF-8. Nor can there be a line end.
"""

from __future__ import annotations

_QUOTE, _BACKSLASH = b'"\\'
_MOST_LEARNED = 8
"""Of one stream. Where every event differs in more (OpenAI's `obfuscation`), trying again is given up."""


class Alike:
    """The bytes before and behind the text of the newest event that was learned."""

    __slots__ = ("_head", "_tail", "may_learn", "served")

    def __init__(self) -> None:
        self._head = self._tail = b""
        self.may_learn = _MOST_LEARNED
        self.served: str | None = None
        """The model that it names."""

    def text(self, event: bytes) -> bytes | None:
        """The text of an event that differs from the learned one in its text alone; None for any other event."""
        head, tail = self._head, self._tail
        if not head or not event.startswith(head) or not event.endswith(tail):
            return None
        text = event[len(head) : -len(tail)]
        if not text or _QUOTE in text or _BACKSLASH in text:
            return None
        try:
            return text if text.decode().isprintable() else None  # no control character is printable
        except UnicodeDecodeError:
            return None

    def learn(self, event: bytes, key: str, text: str, served: str | None) -> None:
        """All that this event says: this text, the value of a member `key`, was received from the model `served`."""
        self.may_learn -= 1
        word = f'"{key}"'.encode()
        if _BACKSLASH in event or event.count(word) != 1:
            return
        start = event.find(_QUOTE, event.find(word) + len(word)) + 1
        end = event.find(_QUOTE, start)
        if event[start:end] == text.encode():
            self._head, self._tail, self.served = event[:start], event[end:], served
