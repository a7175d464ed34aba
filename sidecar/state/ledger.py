"""Token budgets: what was used of each limit in its window, and whether one more attempt fits.

The rules (issue 3, DESIGN 3.8), for each limit of each account ("model" or "pin", and its name):

* Windows are fixed: UTC minutes and days, told from the monotonic clock and one offset, so that a clock that jumps
  changes nothing.
* An attempt reserves before it is sent: all limits of all its accounts are asked first, then all are taken from, so
  what is refused takes nothing of any limit. More than a whole limit is admitted alone, into an empty window.
* It settles with what was really used, in the window of its reservation. If that is over, giving back changes the
  present only as far as debt came from it.
* What was used above the limit is debt: k windows later `max(0, used - k * limit)` of it are used from the start.

A limit counts what each attempt took; what a request is and what it cost is `policies/budget`'s business. With
`scope: fleet` and `leases` set, the share that this pod has leased stands in for the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from sidecar.settings.schema import BudgetSpec
from sidecar.state.limits import COUNTED, LIMITS, REQUESTS, SPAN_S, amounts, counted, fits, named, shown, whole

Account = tuple[Literal["model", "pin"], str]

MOST_RETIRED = 1000
"""So many accounts that left the file are kept: a rollback brings them back with what they had used."""
KEPT_WINDOWS = 4
"""Of a limit, beside those with open reservations. Retries are let in some seconds ahead, so times aren't in order."""


class Claim(NamedTuple):
    """What one attempt needs of an account."""

    account: Account
    requests: int
    input: int
    output: int
    usd: float

    def amounts(self) -> tuple[int, ...]:
        """In each of the units that limits count (`limits.amounts`)."""
        return amounts(self.requests, self.input, self.output, self.usd)

    def of(self, limit: str) -> int:
        """What one of them counts."""
        return self.amounts()[COUNTED[limit]]


class Leases(Protocol):
    """A fleet's shares. Asked while a request waits: it must answer from memory."""

    def allowance(self, account: Account, limit: str, window: int, whole: float) -> float:
        """How much of the whole (in the file's units) this pod may use in that window (of its number since 1970)."""
        ...

    def soon_s(self, account: Account, limit: str, window: int, amount: float) -> float | None:
        """Seconds until so much more may have been leased; None where the fleet has no room for it."""
        ...


@dataclass(frozen=True, slots=True)
class Level:
    """One limit as it stands, in the file's units. `used` includes `reserved`, which is not settled yet, and debt.

    `allowance` is what this pod may use of `limit`. `wanted` is what was refused of it so far, ever.
    """

    account: Account
    limit: str
    scope: str
    whole: float
    allowance: float
    used: float
    reserved: float
    refused: int
    wanted: float
    window: int
    ends_in_s: float


@dataclass(frozen=True, slots=True)
class Short:
    """Refused: nothing was taken. The limit named is the one that it would take longest to wait for."""

    account: Account
    limit: str
    retry_after_s: float


class _Window:
    """What was used in one window. It knows its successor, so that a late settlement moves the debt that it left."""

    __slots__ = ("limit", "next", "number", "reserved", "used")

    def __init__(self, number: int, used: int) -> None:
        self.number = number
        self.used = used
        self.reserved = 0
        self.limit = 0  # that was in force when it ended
        self.next: _Window | None = None

    def add(self, amount: int) -> None:
        """Use more of it (or less), and pass on what changes of its debt."""
        window = self
        while window.next is not None and amount:
            spread = (window.next.number - window.number) * window.limit
            before = max(0, window.used - spread)
            window.used += amount
            amount = max(0, window.used - spread) - before
            window = window.next
        window.used += amount


class _Gauge:
    """One limit of one account: its newest windows, oldest first. Only windows that were used or asked for exist."""

    __slots__ = (
        "account", "counts", "first", "limit", "name", "newest", "refused", "scope", "span_s", "wanted", "whole",
    )  # fmt: skip

    def __init__(self, account: Account, limit: str) -> None:
        self.account = account
        self.limit = limit
        self.name = named(account, limit)
        self.counts = COUNTED[limit]
        self.span_s = SPAN_S[limit]
        self.scope = "pod"
        self.whole = 1
        self.first = self.newest = _Window(-1, 0)
        self.refused = 0
        self.wanted = 0

    def allowance(self, leases: Leases | None, window: int) -> int:
        if leases is None or self.scope != "fleet":
            return self.whole
        return counted(self.limit, leases.allowance(self.account, self.limit, window, shown(self.limit, self.whole)))

    def at(self, utc_s: float, leases: Leases | None) -> _Window:
        """The window of that time."""
        number = math.floor(utc_s / self.span_s)
        if number == self.newest.number:
            return self.newest
        window = self.first
        while window.next is not None and window.next.number <= number:
            window = window.next
        if number <= window.number:
            return window
        if window.next is None and window.number >= 0:
            window.limit = self.allowance(leases, window.number)
        fresh = _Window(number, max(0, window.used - (number - window.number) * window.limit))
        fresh.limit, fresh.next, window.next = window.limit, window.next, fresh
        if fresh.next is None:
            self.newest = fresh
        self._forget()
        return fresh

    def _forget(self) -> None:
        kept, window = 1, self.first
        while window.next is not None:
            kept, window = kept + 1, window.next
        for _ in range(kept - KEPT_WINDOWS):
            assert self.first.next is not None
            self.first = self.first.next

    def windows_until(self, amount: int, used: int) -> int:
        """How many windows later that much would fit, if nothing else changed. The whole limit counts, not a share."""
        over = used if amount > self.whole else used + amount - self.whole
        return max(1, -(-over // self.whole))


_Lot = tuple[_Gauge, _Window, int]


class Reservation:
    """What was taken for one attempt, of all limits of its accounts (`core.facts.Hold`)."""

    __slots__ = ("_lots",)

    def __init__(self, lots: list[_Lot]) -> None:
        self._lots: list[_Lot] | None = lots

    def settle(self, *, input: int, output: int, usd: float, sent: bool = True) -> None:  # noqa: A002 - field names
        """Put what was really used in its place. The request stays counted; if it was never sent, for a pin only."""
        told = amounts(0, input, output, usd)
        for gauge, window, amount in self._close():
            used = told[gauge.counts]
            if gauge.counts == REQUESTS and (sent or gauge.account[0] == "pin"):
                used = amount
            window.reserved -= amount
            window.add(used - amount)

    def release(self) -> None:
        """Give all of it back: nothing was sent."""
        for _, window, amount in self._close():
            window.reserved -= amount
            window.add(-amount)

    def _close(self) -> list[_Lot]:
        if self._lots is None:
            raise RuntimeError("a reservation is settled once")
        lots, self._lots = self._lots, None
        return lots


class Ledger:
    """All budgets of this pod. `utc_offset_s` (UTC minus the monotonic clock) is set once, when the process starts."""

    __slots__ = ("_gauges", "_in_force", "leases", "utc_offset_s")

    def __init__(self) -> None:
        self.utc_offset_s = 0.0
        self.leases: Leases | None = None
        self._gauges: dict[Account, dict[str, _Gauge]] = {}  # also of limits that left the file
        self._in_force: dict[Account, tuple[_Gauge, ...]] = {}

    def configure(self, budgets: Mapping[Account, BudgetSpec]) -> None:
        """The limits of a new pin file. They hold at once, for what was used already too."""
        retired = [account for account in self._gauges if account not in budgets]
        for account in retired[: max(0, len(retired) - MOST_RETIRED)]:
            del self._gauges[account]
        self._in_force = {}
        for account, spec in budgets.items():
            known = self._gauges.setdefault(account, {})
            for limit in LIMITS:
                amount = whole(spec, limit)
                if amount is not None and limit not in known:
                    known[limit] = _Gauge(account, limit)
                if (gauge := known.get(limit)) is not None:
                    gauge.whole, gauge.scope = max(1, amount or 0), spec.scope
            self._in_force[account] = tuple(g for limit, g in known.items() if whole(spec, limit) is not None)

    def reserve(
        self, claims: Sequence[Claim], now: float, *, force: bool = False, left: dict[str, float] | None = None
    ) -> Reservation | Short:
        """Take what is claimed of all limits of all accounts, or nothing of any. Accounts without limits are free.

        `force`: take it in any case; what is above a limit becomes debt. `left` is told what was left of each of these
        limits before, by its name (`named`), in the file's units.
        """
        utc_s = now + self.utc_offset_s
        lots: list[_Lot] = []
        short: Short | None = None
        for claim in claims:
            needs = claim.amounts()
            for gauge in self._in_force.get(claim.account, ()):
                window = gauge.at(utc_s, self.leases)
                amount = needs[gauge.counts]
                whole = gauge.whole if self.leases is None else gauge.allowance(self.leases, window.number)
                room = whole - window.used
                lots.append((gauge, window, amount))
                if left is not None:
                    left[gauge.name] = shown(gauge.limit, room)
                if force or amount <= room or fits(amount, room, gauge.whole):
                    continue
                gauge.refused += 1
                gauge.wanted += amount
                wait_s = self._wait_s(gauge, window, amount, now)
                if short is None or wait_s > short.retry_after_s:
                    short = Short(gauge.account, gauge.limit, wait_s)
        if short is not None:
            return short
        for _, window, amount in lots:
            window.reserved += amount
            window.add(amount)
        return Reservation(lots)

    def left(self, account: Account, now: float) -> dict[str, float]:
        """What is left of each limit of an account, in the file's units; below zero where there is debt."""
        return {
            gauge.limit: shown(gauge.limit, gauge.allowance(self.leases, window.number) - window.used)
            for gauge, window in self._of(account, now)
        }

    def levels(self, now: float, accounts: Iterable[Account] | None = None) -> Iterator[Level]:
        """Every limit of the file (or of some accounts) as it stands: for metrics, /pins, and who leases shares."""
        for account in list(self._in_force) if accounts is None else accounts:
            for gauge, window in self._of(account, now):
                name = gauge.limit
                yield Level(
                    account=account,
                    limit=name,
                    scope=gauge.scope,
                    whole=shown(name, gauge.whole),
                    allowance=shown(name, gauge.allowance(self.leases, window.number)),
                    used=shown(name, window.used),
                    reserved=shown(name, window.reserved),
                    refused=gauge.refused,
                    wanted=shown(name, gauge.wanted),
                    window=window.number,
                    ends_in_s=(window.number + 1) * gauge.span_s - (now + self.utc_offset_s),
                )

    def _of(self, account: Account, now: float) -> Iterator[tuple[_Gauge, _Window]]:
        utc_s = now + self.utc_offset_s
        for gauge in self._in_force.get(account, ()):
            yield gauge, gauge.at(utc_s, self.leases)

    def _wait_s(self, gauge: _Gauge, window: _Window, amount: int, now: float) -> float:
        """Seconds until the same claim would fit this limit, if nothing else changed."""
        if self.leases is not None and gauge.scope == "fleet":
            more = shown(gauge.limit, amount)
            if (soon_s := self.leases.soon_s(gauge.account, gauge.limit, window.number, more)) is not None:
                return soon_s
        later = window.number + gauge.windows_until(amount, window.used)
        wait_s = later * gauge.span_s - (now + self.utc_offset_s)
        while math.floor((now + wait_s + self.utc_offset_s) / gauge.span_s) < later:
            wait_s += 1e-6  # a float of today's date is no finer than a quarter of that
        return wait_s
