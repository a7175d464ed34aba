"""What was sent of a stream, kept beside it."""

from __future__ import annotations

from collections.abc import Callable


class Recorder:
    """A copy of what is sent of a stream, as long as it may become an entry. `body` is None once it can't any more.

    `room` is asked for each piece's bytes: False where too much is held already.
    """

    __slots__ = ("_left", "_parts", "_room")

    def __init__(self, limit: int, room: Callable[[int], bool]) -> None:
        self._left = limit
        self._parts: list[bytes] = []
        self._room = room

    def add(self, data: bytes) -> None:
        if self._left < 0:
            return
        self._left -= len(data)
        if self._left < 0 or not self._room(len(data)):
            self._left = -1
            self._parts.clear()
            return
        self._parts.append(data)

    @property
    def body(self) -> bytes | None:
        return b"".join(self._parts) if self._left >= 0 else None
