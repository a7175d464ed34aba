"""What a provider turned out not to understand, remembered until restart."""

from __future__ import annotations


class Quirks:
    __slots__ = ("_no_stream_options",)

    def __init__(self) -> None:
        self._no_stream_options: set[str] = set()

    def no_stream_options(self, provider: str) -> bool:
        return provider in self._no_stream_options

    def learn_no_stream_options(self, provider: str) -> None:
        self._no_stream_options.add(provider)
