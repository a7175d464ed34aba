"""What this pod may use of budgets that a fleet shares: slices, leased ahead from a server, spent here without asking.

Decided here: how much to ask for, what may be used meanwhile, and what to count on where nothing is leased. Not decided
here: what the server hands out (`runtime/fleet_script`), and when it is asked (`runtime/fleet`).

For each limit and window the server keeps what every pod holds; the sum never passes the limit. A pod reports what it
holds as an absolute amount, never less than it used, so an answer that got lost does no harm: the next one mends it.
It gives back by lowering its own holding first, and then says so.

Where nothing is leased, because the server is away, slow, or hasn't been asked yet, a pod has its share: of a window in
which it heard of the server, what it holds and an equal part of what was free then; of any other, limit ÷ pods last
known. And while more is on its way a pod may use a little of what was free: all pods together `OVERDRAFT` of the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sidecar.state.ledger import Account, Level
from sidecar.state.limits import DAY_S, MINUTE_S, counted, shown

AHEAD_S = 5.0
"""So long before a window ends something is leased of the next one."""
NEED_S = 2.0
"""A slice holds what so many seconds used lately."""
FADE_S = 3.0
"""Demand is remembered about that long."""
DAY_PART = 256
"""An idle pod holds at most this part of a day's limit: what a dead pod held is lost until the window ends."""

OVERDRAFT = 0.04
"""A fleet promises 1.05 x the limit at most. This is spent so that no request is refused while a slice is fetched."""

SOON_S = 1.0
"""When a request comes again that was refused for want of a larger slice."""

Key = tuple[Account, str]


@dataclass(frozen=True, slots=True)
class Ask:
    """One line of what the server is told and asked, in the ledger's units."""

    account: Account
    limit: str
    window: int
    span_s: int
    whole: int
    held: int  # what this pod holds, used or not
    used: int
    need: int  # what recent demand would like to have beside what is used
    claim: int  # a large single claim of late
    active: bool  # it was claimed lately
    urgent: int  # the largest claim that was refused lately
    most_idle: int  # what a pod without demand may hold


@dataclass(frozen=True, slots=True)
class Grant:
    """What the server says to it: what this pod holds now, what it should hold, what is left for all."""

    held: int
    target: int
    free: int


@dataclass(slots=True)
class _Slice:
    held: int
    target: int
    free: int


@dataclass(slots=True)
class _Lease:
    """One limit: its slices by window, and the demand for it."""

    slices: dict[int, _Slice] = field(default_factory=dict)
    window: int = -1
    used: int = 0
    wanted: int = 0
    refused: int = 0
    taken: int = 0  # since the last plan
    rate: float = 0.0  # units a second
    claim: float = 0.0
    urgent: int = 0  # what was refused; asked for until it is there, or for `FADE_S`
    urgent_s: float = 0.0
    low: int = 0  # ask for more when less than that is left

    def hear(self, level: Level) -> None:
        """Take note of what was used and refused since the last look."""
        used, wanted = counted(level.limit, level.used), counted(level.limit, level.wanted)
        more = used - self.used if level.window == self.window else used
        if more > 0:
            self.taken += more
            self.claim = max(self.claim, float(more))
        if level.refused > self.refused:
            each = (wanted - self.wanted) // (level.refused - self.refused)
            most = min(each, counted(level.limit, level.whole))
            self.urgent, self.urgent_s = max(self.urgent, most), 0.0
            self.claim = max(self.claim, float(most))
        self.window, self.used, self.wanted, self.refused = level.window, used, wanted, level.refused


class Leases:
    """`state.ledger.leases` of a pod in a fleet. `on_touch` is called when somebody asked, once until the next look."""

    __slots__ = ("_at", "_leases", "_reading", "_touched", "late", "on_touch", "pods", "up")

    def __init__(self, on_touch: Callable[[], None] = lambda: None) -> None:
        self.on_touch = on_touch
        self.pods = 1  # alive, as last heard
        self.up = False
        self.late = False  # an answer is awaited for longer than usual
        self._at: float | None = None
        self._leases: dict[Key, _Lease] = {}
        self._touched: set[Account] = set()
        self._reading = False

    def allowance(self, account: Account, limit: str, window: int, whole: float) -> float:
        """See `ledger.Leases`. In the file's units."""
        if not self._reading:
            if not self._touched:
                self.on_touch()
            self._touched.add(account)
        total = counted(limit, whole)
        lease = self._leases.get((account, limit))
        part = lease.slices.get(window) if lease is not None else None
        if lease is None or part is None:
            return shown(limit, min(total, max(1, total // self.pods)))
        extra = part.free // self.pods
        if self.up and not self.late:
            extra = min(extra, int(OVERDRAFT * total) // self.pods)
        if window == lease.window:
            total = max(total, lease.used)  # an over-run that the server knows of is the fleet's debt, not ours
        return shown(limit, min(total, part.held + extra))

    def soon_s(self, account: Account, limit: str, window: int, amount: float) -> float | None:
        """See `ledger.Leases`. More is fetched within a moment of a refusal, as long as the server has it."""
        lease = self._leases.get((account, limit))
        part = lease.slices.get(window) if lease is not None and self.up else None
        return SOON_S if part is not None and counted(limit, amount) <= part.free else None

    def look(self, levels: Callable[[list[Account]], Iterable[Level]]) -> bool:
        """After requests asked: whether the server should be asked at once."""
        touched, self._touched = list(self._touched), set()
        hurry = False
        for level in self._read(lambda: levels(touched)):
            lease = self._leases.setdefault((level.account, level.limit), _Lease())
            lease.hear(level)
            part = lease.slices.get(level.window)
            if part is None or lease.urgent > 0 or (part.free > 0 and part.held - lease.used <= lease.low):
                hurry = True
        return hurry

    def plan(self, levels: Callable[[], Iterable[Level]], now: float) -> list[Ask]:
        """What to tell and to ask the server now. What it wants back is given back here."""
        passed_s = max(1e-3, now - self._at) if self._at is not None else 1.0
        self._at = now
        asks, known = [], set()
        for level in self._read(levels):
            key = (level.account, level.limit)
            known.add(key)
            lease = self._leases.setdefault(key, _Lease())
            lease.hear(level)
            lease.rate += (lease.taken / passed_s - lease.rate) * min(1.0, passed_s / FADE_S)
            asks.append(self._ask(lease, level, level.window, lease.used))
            if level.ends_in_s < AHEAD_S:
                asks.append(self._ask(lease, level, level.window + 1, 0))
            lease.slices = {n: part for n, part in lease.slices.items() if n >= level.window}
            lease.taken = 0
            lease.urgent_s += passed_s
            if lease.urgent_s > FADE_S:
                lease.urgent = 0
            lease.claim *= max(0.0, 1.0 - passed_s / FADE_S)
        for key in self._leases.keys() - known:
            del self._leases[key]
        return asks

    def take(self, asks: Sequence[Ask], grants: Sequence[Grant], pods: int) -> None:
        """What the server answered."""
        self.pods = max(1, pods)
        for ask, grant in zip(asks, grants, strict=True):
            lease = self._leases.get((ask.account, ask.limit))
            if lease is None:
                continue
            lease.slices[ask.window] = _Slice(grant.held, grant.target, max(0, grant.free))
            if ask.window == lease.window:
                if grant.held - ask.used >= ask.urgent:
                    lease.urgent = 0
                lease.low = max(1, (grant.held - ask.used) // 2, ask.claim if ask.active else 0)

    @property
    def gives_back(self) -> bool:
        """Whether the server wants something back."""
        return any(part.target < part.held for lease in self._leases.values() for part in lease.slices.values())

    def _ask(self, lease: _Lease, level: Level, window: int, used: int) -> Ask:
        whole = counted(level.limit, level.whole)
        day = level.limit.endswith("_day")
        part = lease.slices.get(window)
        held = used
        if part is not None:
            part.held = max(used, min(part.held, part.target))
            held = part.held
        claim = int(lease.claim)
        return Ask(
            account=level.account,
            limit=level.limit,
            window=window,
            span_s=DAY_S if day else MINUTE_S,
            whole=whole,
            held=held,
            used=used,
            need=max(int(NEED_S * lease.rate), 2 * claim),
            claim=max(claim, 1 if level.limit == "requests_per_minute" else whole // DAY_PART, 1),
            active=claim > 0,
            urgent=lease.urgent if window == level.window else 0,
            most_idle=whole // DAY_PART if day else whole,
        )

    def _read(self, levels: Callable[[], Iterable[Level]]) -> list[Level]:
        """Levels ask for allowances in their turn: that isn't a request."""
        self._reading = True
        try:
            return [level for level in levels() if level.scope == "fleet"]
        finally:
            self._reading = False
