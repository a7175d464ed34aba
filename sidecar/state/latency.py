"""Measured time to the first useful event of each model, for policy pins."""

from __future__ import annotations

from collections.abc import Mapping

ENOUGH_SAMPLES = 20
WEIGHT = 0.1
"""Of the newest sample. About the last twenty count, so that a model that got slower is noticed in minutes."""


class Latency:
    __slots__ = ("_means",)

    def __init__(self) -> None:
        self._means: dict[str, tuple[int, float]] = {}

    def observe(self, model: str, seconds: float) -> None:
        """Only catalogued ids are observed, so this stays as small as the catalogues that were loaded."""
        count, mean = self._means.get(model, (0, seconds))
        self._means[model] = (count + 1, mean + WEIGHT * (seconds - mean))

    def measured_ms(self, places: Mapping[str, int]) -> dict[str, int]:
        """Of those of the models that have enough samples, by their places: whole milliseconds.

        Whole, so that a JSON event keeps them exact.
        """
        known = [m for m, (count, _) in self._means.items() if count >= ENOUGH_SAMPLES and m in places]
        return {m: round(self._means[m][1] * 1000) for m in sorted(known, key=places.__getitem__)}
