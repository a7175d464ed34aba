"""Measured time to the first useful event of each model, for policy pins."""

from __future__ import annotations

from collections.abc import Iterable

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

    def measured_ms(self, models: Iterable[str]) -> dict[str, int]:
        """Whole milliseconds, for the models that have enough samples. Whole, so that a JSON event keeps them exact."""
        known = ((m, self._means.get(m)) for m in models)
        return {m: round(entry[1] * 1000) for m, entry in known if entry is not None and entry[0] >= ENOUGH_SAMPLES}
