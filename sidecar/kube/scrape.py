"""One sidecar's metrics → what it serves by and how that goes. No I/O.

Decides: which samples tell the generation, refused files and errors. Does not decide: what is worth a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Arm = tuple[str, str, str]
"""Name, variant and the model that served, or was tried."""
NOT_THE_MODELS = ("caller", "stale", "stream_options")
"""Faults of attempts that say nothing of the model: the alerts leave them out, too."""


@dataclass(frozen=True, slots=True)
class Tally:
    """`total`, of which `bad` went wrong."""

    total: float = 0.0
    bad: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.total + other.total, self.bad + other.bad)

    def since(self, before: Tally) -> Tally:
        """What came in between; all of it where the counter began anew."""
        if self.total < before.total or self.bad < before.bad:
            return self
        return Tally(self.total - before.total, self.bad - before.bad)

    @property
    def ratio(self) -> float | None:
        return self.bad / self.total if self.total else None


@dataclass(frozen=True, slots=True)
class Scraped:
    """`generation` as the sidecar shows it (`7`, `7+stop`), None with no pin file. Tallies count since its start.

    A request is bad if it ended with an error, ours or the provider's; one whose client left is no one's fault.
    Attempts tell of a variant whose every call falls back: it has no bad request, and only bad attempts.
    """

    generation: str | None = None
    sha256: str | None = None
    degraded: bool = False
    rejected: float = 0.0
    requests: Mapping[Arm, Tally] = field(default_factory=dict)
    attempts: Mapping[Arm, Tally] = field(default_factory=dict)


def scraped(text: str) -> Scraped:
    """The samples that matter. Raises ValueError where the text is no metrics of a sidecar, or of too old a one."""
    try:
        return _scraped(text)
    except KeyError as error:
        raise ValueError(f"a metric lacks the label {error}") from None


def _scraped(text: str) -> Scraped:
    generation = sha256 = None
    degraded, rejected, ours = False, 0.0, False
    requests: dict[Arm, Tally] = {}
    attempts: dict[Arm, Tally] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name, labels, value = sample.name, sample.labels, sample.value
            if name == "sidecar_pins_info" and value:
                generation, sha256 = labels["generation"], labels["sha256"]
            elif name == "sidecar_pins_degraded":
                degraded, ours = bool(value), True
            elif name == "sidecar_pins_reloads_total" and labels["result"] == "rejected":
                rejected = value
            elif name == "sidecar_requests_total":
                key = (labels["pin"], labels["variant"], labels["model"])
                left = labels["code"] == "none"
                bad = value if labels["error"] and not left else 0.0
                requests[key] = requests.get(key, Tally()) + Tally(value, bad)
            elif name == "sidecar_variant_attempts_total" and _judged(labels):
                key = (labels["pin"], labels["variant"], labels["model"])
                bad = value if labels["outcome"] == "failed" else 0.0
                attempts[key] = attempts.get(key, Tally()) + Tally(value, bad)
    if not ours:
        raise ValueError("these are no metrics of a sidecar")
    return Scraped(generation, sha256, degraded, rejected, requests, attempts)


def _judged(attempt: Mapping[str, str]) -> bool:
    """Whether a model is judged by such attempts; by lost hedges and clients that left it is not."""
    return attempt["outcome"] in ("ok", "failed") and attempt["fault"] not in NOT_THE_MODELS
