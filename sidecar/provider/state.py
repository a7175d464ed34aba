"""What the fake provider remembers between requests: responses, files, batches.

Bounded stores that forget their oldest entry; no persistence, no ownership.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from sidecar.provider.call import Json

KEPT_OBJECTS: Final = 1000

Entry = TypeVar("Entry")


class Store(Generic[Entry]):
    """A mapping by id that keeps its newest `limit` entries."""

    __slots__ = ("_entries", "_limit")

    def __init__(self, limit: int = KEPT_OBJECTS) -> None:
        self._entries: dict[str, Entry] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def put(self, key: str, entry: Entry) -> None:
        """Keeps `entry`, forgetting the oldest one if the store is full."""
        self._entries[key] = entry
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]

    def get(self, key: str) -> Entry | None:
        """The entry under `key`, if it is still kept."""
        return self._entries.get(key)

    def pop(self, key: str) -> Entry | None:
        """Forgets and returns the entry under `key`."""
        return self._entries.pop(key, None)


@dataclass(slots=True)
class KeptResponse:
    """A response and what it answered. `due_tokens` are billed once a background response completes."""

    response: Json
    input_items: list[Json]
    completed: Json | None = None
    due_tokens: int = 0


@dataclass(slots=True)
class KeptFile:
    """An uploaded file: its public object and its bytes."""

    info: Json
    content: bytes


@dataclass(slots=True)
class State:
    """All stores of one fake provider, and the models that its lists name."""

    responses: Store[KeptResponse] = field(default_factory=Store)
    files: Store[KeptFile] = field(default_factory=lambda: Store(100))
    batches: Store[Json] = field(default_factory=Store)
    message_batches: Store[Json] = field(default_factory=Store)
    openai_models: tuple[str, ...] = (
        "gpt-5.4-2025-11-02",
        "gpt-5.5-2026-01-15",
        "gpt-5.5-mini-2026-01-10",
        "gpt-5.6-sol-2026-02-10",
        "gpt-5.6-luna-2026-02-10",
        "text-embedding-3-small",
    )
    anthropic_models: tuple[str, ...] = ("claude-sonnet-5-20260112", "claude-haiku-5-20260112")
    gemini_models: tuple[str, ...] = ("gemini-3-pro-002",)
