"""The ledger: what the provider billed and which requests it saw.

Counts tokens when they are produced, so that a test can hold a proxy's books
against the provider's. It keeps the last 1,000 requests, never their bodies.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from sidecar.provider.call import Call

KEPT_REQUESTS: Final = 1000

Outcome = Literal["open", "ok", "failed", "cut", "client_gone"]


@dataclass(slots=True)
class Totals:
    """What one model was billed. `requests` counts the prompts that were processed."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(slots=True)
class Record:
    """One request as the provider saw it. Times are milliseconds since the ledger began."""

    n: int
    time: float
    method: str
    path: str
    query: str
    model: str
    dialect: str
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body_sha256: str
    status: int = 0
    stream: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    outcome: Outcome = "open"
    closed_at: float | None = None

    @property
    def headers(self) -> list[list[str]]:
        """The request's headers as received, in order, with their duplicates."""
        return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.raw_headers]

    def as_json(self) -> dict[str, Any]:
        """The record as `GET /fake/ledger` shows it."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "raw_headers"}
        shown["headers"] = self.headers
        return shown


class Ledger:
    """Totals per model, the requests under way, and the last requests."""

    __slots__ = ("_began_s", "_seen", "aborted", "open", "requests", "totals")

    def __init__(self) -> None:
        self._seen = 0
        self.open = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the requests that are still under way."""
        self._began_s = time.monotonic()
        self.aborted = 0
        self.totals: dict[str, Totals] = {}
        self.requests: deque[Record] = deque(maxlen=KEPT_REQUESTS)

    def begin(self, call: Call) -> Record:
        """Opens the record of a request whose body has been read."""
        self._seen += 1
        self.open += 1
        record = Record(
            n=self._seen,
            time=self._now_ms(),
            method=call.method,
            path=call.path,
            query=call.query,
            model=call.model,
            dialect=call.dialect,
            raw_headers=call.raw_headers,
            body_sha256=call.body_sha256,
            stream=call.stream,
        )
        self.requests.append(record)
        return record

    def end(self, record: Record, outcome: Outcome) -> None:
        """Closes a record. The first outcome that it was given stands."""
        self.open -= 1
        if record.outcome == "open":
            record.outcome = outcome
        if record.outcome == "client_gone":
            self.aborted += 1
            record.closed_at = self._now_ms()

    def bill_prompt(self, record: Record, model: str, tokens: int) -> None:
        """Counts a prompt that the model has begun to work on."""
        totals = self.totals.setdefault(model, Totals())
        totals.requests += 1
        totals.prompt_tokens += tokens
        record.prompt_tokens += tokens

    def bill_completion(self, record: Record, model: str, tokens: int) -> None:
        """Counts tokens that the model has just produced."""
        self.totals.setdefault(model, Totals()).completion_tokens += tokens
        record.completion_tokens += tokens

    def as_json(self) -> dict[str, Any]:
        """The ledger as `GET /fake/ledger` shows it."""
        return {
            "totals": {model: asdict(totals) for model, totals in self.totals.items()},
            "open": self.open,
            "aborted": self.aborted,
            "requests": [record.as_json() for record in self.requests],
        }

    def _now_ms(self) -> float:
        return round((time.monotonic() - self._began_s) * 1000, 3)
