"""The limits that a budget may set: what each counts, over which time, and in which unit.

Amounts are whole numbers: requests, tokens, and billionths of a USD. Not decided here: who uses how much of a limit
(`ledger`).
"""

from __future__ import annotations

import math
from typing import Final

from sidecar.settings.schema import BudgetSpec

MINUTE_S, DAY_S = 60, 86_400
NANO = 10**9
"""USD are counted in whole billionths, rounded up, so that sums are exact."""

SPAN_S = {
    "requests_per_minute": MINUTE_S,
    "tokens_per_minute": MINUTE_S,
    "input_tokens_per_minute": MINUTE_S,
    "output_tokens_per_minute": MINUTE_S,
    "tokens_per_day": DAY_S,
    "usd_per_day": DAY_S,
}
LIMITS = tuple(SPAN_S)

REQUESTS: Final = 0
COUNTED = {
    "requests_per_minute": REQUESTS,
    "tokens_per_minute": 1,
    "tokens_per_day": 1,
    "input_tokens_per_minute": 2,
    "output_tokens_per_minute": 3,
    "usd_per_day": 4,
}
"""Which of `amounts` a limit counts."""


def amounts(requests: int, input: int, output: int, usd: float) -> tuple[int, ...]:  # noqa: A002
    """What an attempt comes to, in each of the units that limits count."""
    return requests, input + output, input, output, max(0, math.ceil(usd * NANO - 1e-3))  # less the noise of a float


def named(account: tuple[str, str], what: str) -> str:
    """A limit of an account, or what was estimated there, as an event names it."""
    return f"{account[0]} {account[1]} {what}"


def whole(spec: BudgetSpec, limit: str) -> int | None:
    """The limit in the ledger's units; None where the file sets none."""
    value = getattr(spec, limit)
    if value is None:
        return None
    return round(value * NANO) if limit == "usd_per_day" else int(value)


def shown(limit: str, amount: float) -> float:
    """An amount in the file's units: USD, else a whole number."""
    return amount / NANO if limit == "usd_per_day" else amount


def counted(limit: str, value: float) -> int:
    """An amount of the file's units in the ledger's."""
    return round(value * NANO) if limit == "usd_per_day" else math.floor(value)


def fits(amount: int, left: int, limit: int) -> bool:
    """Whether that much may be taken of what is left. More than the whole limit needs all of it to be left."""
    return amount == 0 or amount <= left or (amount > limit and left >= limit)
