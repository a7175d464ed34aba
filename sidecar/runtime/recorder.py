"""What was sent of a stream, kept beside it."""

from __future__ import annotations


class Recorder:
    """A copy of what is sent of a stream, as long as it may become an entry. `body` is None once it is too large."""

    __slots__ = ("_left", "_parts")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._parts: list[bytes] = []

    def add(self, data: bytes) -> None:
        if self._left >= 0:
            self._left -= len(data)
            self._parts.append(data)
            if self._left < 0:
                self._parts.clear()

    @property
    def body(self) -> bytes | None:
        return b"".join(self._parts) if self._left >= 0 else None
