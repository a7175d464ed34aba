"""The ledger's rules one by one, and its laws against a model that adds up every window from scratch."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.core.facts import Hold
from sidecar.settings.schema import BudgetSpec
from sidecar.state.ledger import KEPT_WINDOWS, MOST_RETIRED, Account, Claim, Ledger, Reservation, Short

M: Account = ("model", "m")
P: Account = ("pin", "p")
MINUTES = 60.0


def ledger(**limits: float) -> Ledger:
    book = Ledger()
    book.configure({M: BudgetSpec(**limits)})  # type: ignore[arg-type]
    return book


def claim(tokens: int = 0, *, output: int = 0, usd: float = 0.0, account: Account = M, requests: int = 1) -> Claim:
    return Claim(account, requests, tokens, output, usd)


def take(book: Ledger, tokens: int, now: float, **more: float) -> Reservation:
    hold = book.reserve([claim(tokens, **more)], now)  # type: ignore[arg-type]
    assert isinstance(hold, Reservation)
    return hold


def refused(book: Ledger, tokens: int, now: float, **more: float) -> Short:
    short = book.reserve([claim(tokens, **more)], now)  # type: ignore[arg-type]
    assert isinstance(short, Short)
    return short


def left(book: Ledger, now: float, limit: str = "tokens_per_minute", account: Account = M) -> float:
    return book.left(account, now)[limit]


def test_a_limit_holds_to_the_token() -> None:
    for size, fits in ((99, True), (100, True), (101, False)):
        book = ledger(tokens_per_minute=1000)
        take(book, 900, 0)
        assert isinstance(book.reserve([claim(size)], 1), Reservation) is fits


def test_each_limit_counts_its_own() -> None:
    book = ledger(
        requests_per_minute=10, tokens_per_minute=100, input_tokens_per_minute=80, output_tokens_per_minute=50,
        tokens_per_day=1000, usd_per_day=2,
    )  # fmt: skip
    take(book, 30, 0, output=7, usd=0.25)
    assert book.left(M, 0) == {
        "requests_per_minute": 9, "tokens_per_minute": 63, "input_tokens_per_minute": 50,
        "output_tokens_per_minute": 43, "tokens_per_day": 963, "usd_per_day": 1.75,
    }  # fmt: skip
    assert refused(book, 10, 1, output=44).limit == "output_tokens_per_minute"
    assert refused(book, 51, 1).limit == "input_tokens_per_minute"
    assert refused(book, 1, 1, usd=1.76).limit == "usd_per_day"


def test_what_is_refused_takes_nothing_of_any_limit() -> None:
    book = Ledger()
    book.configure({M: BudgetSpec(requests_per_minute=5, tokens_per_minute=100), P: BudgetSpec(tokens_per_minute=10)})
    before = (book.left(M, 0), book.left(P, 0))
    assert isinstance(book.reserve([claim(10), claim(10, account=P)], 0), Reservation)
    middle = (book.left(M, 0), book.left(P, 0))
    assert middle != before
    short = book.reserve([claim(1), claim(1, account=P)], 0)
    assert isinstance(short, Short)
    assert (short.account, short.limit) == (P, "tokens_per_minute")
    assert (book.left(M, 0), book.left(P, 0)) == middle


def test_windows_are_utc_minutes_and_days() -> None:
    book = ledger(tokens_per_minute=100, tokens_per_day=1000)
    book.utc_offset_s = 1_700_000_000.0  # 22:13:20
    take(book, 100, 0)
    assert refused(book, 1, 0).retry_after_s == pytest.approx(40)
    assert left(book, 39.9) == 0
    assert left(book, 40.1) == 100
    day = 86_400 - 1_700_000_000 % 86_400
    assert (left(book, day - 0.1, "tokens_per_day"), left(book, day + 0.1, "tokens_per_day")) == (900, 1000)


def test_settled_with_less_it_gives_back_to_its_own_window_only() -> None:
    book = ledger(tokens_per_minute=100, tokens_per_day=1000)
    early, late = take(book, 60, 0), take(book, 40, 30)
    early.settle(input=10, output=5, usd=0)
    assert left(book, 31) == 45
    take(book, 50, 70)
    late.settle(input=1, output=0, usd=0)  # its minute is over, its day is not
    assert (left(book, 70), left(book, 70, "tokens_per_day")) == (50, 1000 - 15 - 1 - 50)


def test_released_it_gives_back_the_request_too() -> None:
    book = ledger(requests_per_minute=2, tokens_per_minute=100)
    settled, released = take(book, 10, 0), take(book, 10, 0)
    settled.settle(input=0, output=0, usd=0)
    released.release()
    assert book.left(M, 0) == {"requests_per_minute": 1, "tokens_per_minute": 100}


def test_it_is_closed_once() -> None:
    book = ledger(tokens_per_minute=100)
    hold = take(book, 10, 0)
    hold.settle(input=10, output=0, usd=0)
    with pytest.raises(RuntimeError):
        hold.release()
    assert left(book, 0) == 90


def test_an_over_run_is_debt() -> None:
    book = ledger(tokens_per_minute=100)
    take(book, 10, 0).settle(input=250, output=0, usd=0)
    assert [left(book, minute * MINUTES) for minute in range(4)] == [-150, -50, 50, 100]
    assert refused(book, 40, 0).retry_after_s == 120
    assert refused(book, 60, 0).retry_after_s == 180
    book = ledger(tokens_per_minute=100)
    take(book, 10, 0).settle(input=250, output=0, usd=0)
    assert left(book, 2 * MINUTES) == 50  # whether or not anybody asked in between


def test_an_over_run_told_late_is_debt_of_its_own_window() -> None:
    book = ledger(tokens_per_minute=100)
    hold, slack = take(book, 50, 0), take(book, 10, 0)
    assert left(book, 65) == 100
    slack.settle(input=50, output=0, usd=0)  # 100 of 100: nothing above the limit
    assert left(book, 65) == 100
    hold.settle(input=80, output=0, usd=0)  # 130 of 100
    assert left(book, 65) == 70


def test_debt_that_was_only_an_estimate_goes_with_it() -> None:
    book = ledger(tokens_per_minute=100)
    hold = take(book, 350, 0)
    assert left(book, 61) == -150
    hold.settle(input=120, output=0, usd=0)
    assert (left(book, 61), left(book, 121)) == (80, 100)


def test_more_than_the_whole_limit_is_admitted_alone_into_an_empty_window() -> None:
    book = ledger(tokens_per_minute=100)
    small = take(book, 1, 0)
    assert refused(book, 101, 0).retry_after_s == 60
    small.release()
    take(book, 101, 0)
    refused(book, 1, 0)
    assert refused(book, 500, 0).retry_after_s == 120  # the next minute begins with a debt of 1
    assert left(book, 60) == 99
    take(book, 500, 120)


def test_a_changed_limit_holds_at_once_and_what_was_used_stays() -> None:
    book = ledger(tokens_per_minute=100, tokens_per_day=1000)
    take(book, 80, 0)
    book.configure({M: BudgetSpec(tokens_per_minute=50)})
    assert book.left(M, 0) == {"tokens_per_minute": -30}
    book.configure({})
    assert book.left(M, 0) == {}
    book.configure({M: BudgetSpec(tokens_per_minute=200, tokens_per_day=1000)})
    assert book.left(M, 0) == {"tokens_per_minute": 120, "tokens_per_day": 920}


def test_nothing_taken_is_never_refused() -> None:
    book = ledger(output_tokens_per_minute=10, requests_per_minute=1)
    take(book, 5, 0, output=10).settle(input=5, output=99, usd=0)
    assert isinstance(book.reserve([claim(5, requests=0)], 0), Reservation)


def test_accounts_and_windows_do_not_pile_up() -> None:
    book = Ledger()
    for round_ in range(5):
        book.configure({("pin", f"{round_}-{i}"): BudgetSpec(tokens_per_minute=1) for i in range(700)})
        assert len(book._gauges) <= MOST_RETIRED + 700
    book = ledger(tokens_per_minute=10)
    for minute in range(100):
        take(book, 1, minute * MINUTES)
        window, count = book._gauges[M]["tokens_per_minute"].first, 1
        while window.next is not None:
            window, count = window.next, count + 1
        assert count <= KEPT_WINDOWS


def test_a_retry_let_in_ahead_does_not_end_the_minute() -> None:
    book = ledger(tokens_per_minute=100)
    take(book, 60, 50)
    ahead = take(book, 30, 130)  # two windows on
    assert (left(book, 51), left(book, 70), left(book, 121)) == (40, 100, 70)
    take(book, 30, 51).settle(input=190, output=0, usd=0)  # 250 in the first minute
    assert (left(book, 52), left(book, 71), left(book, 122)) == (-150, -50, 20)
    ahead.release()
    assert left(book, 122) == 50


def test_levels_tell_what_stands() -> None:
    book = Ledger()
    book.configure({M: BudgetSpec(tokens_per_minute=100, usd_per_day=1.5), P: BudgetSpec(requests_per_minute=3)})
    book.reserve([claim(40, usd=0.5), claim(40, account=P)], 20)
    refused(book, 70, 20)
    levels = {(level.account, level.limit): level for level in book.levels(20)}
    tokens = levels[M, "tokens_per_minute"]
    assert (tokens.whole, tokens.allowance, tokens.used, tokens.reserved) == (100, 100, 40, 40)
    assert (tokens.refused, tokens.wanted, tokens.ends_in_s, tokens.scope) == (1, 70, 40, "pod")
    assert (levels[M, "usd_per_day"].whole, levels[M, "usd_per_day"].used) == (1.5, 0.5)
    assert levels[P, "requests_per_minute"].used == 1


class Slices:
    """What a fleet would lease to this pod."""

    def __init__(self) -> None:
        self.share = 0.0
        self.room = 0.0

    def allowance(self, account: Account, limit: str, window: int, whole: float) -> float:
        return min(self.share, whole)

    def soon_s(self, account: Account, limit: str, window: int, amount: float) -> float | None:
        return 1.0 if amount <= self.room else None


def test_a_fleets_limit_is_what_was_leased_of_it() -> None:
    book = Ledger()
    book.configure({M: BudgetSpec(scope="fleet", tokens_per_minute=100), P: BudgetSpec(tokens_per_minute=100)})
    book.leases = slices = Slices()
    assert book.left(P, 0) == {"tokens_per_minute": 100}
    refused(book, 10, 0)
    slices.share = 50
    take(book, 50, 0)
    refused(book, 10, 0)
    slices.share = 60
    take(book, 10, 0)
    level = next(book.levels(0))
    assert (level.scope, level.whole, level.allowance, level.used, level.wanted) == ("fleet", 100, 60, 60, 20)


def test_while_a_fleet_has_room_a_refused_request_fits_soon() -> None:
    book = Ledger()
    book.configure({M: BudgetSpec(scope="fleet", tokens_per_minute=100)})
    book.leases = slices = Slices()
    assert refused(book, 10, 0).retry_after_s == 60
    slices.room = 10
    assert refused(book, 10, 0).retry_after_s == 1
    assert refused(book, 11, 0).retry_after_s == 60


class Windows(RuleBasedStateMachine):
    """Against a list of all that was ever taken: (minute, tokens, open)."""

    LIMIT = 100

    def __init__(self) -> None:
        super().__init__()
        self.book = ledger(tokens_per_minute=self.LIMIT, requests_per_minute=10**6)
        self.book.utc_offset_s = 1_700_000_000.0 - 1_700_000_000 % 60
        self.now = 0.0
        self.entries: list[list[int]] = []
        self.open: list[tuple[Hold, list[int]]] = []

    def used(self, minute: int) -> int:
        """Of that minute, with the debt of those before it."""
        debt = 0
        for number in range(minute + 1):
            total = debt + sum(tokens for at, tokens in self.entries if at == number)
            debt = max(0, total - self.LIMIT)
        return total

    @rule(seconds=st.sampled_from([0.5, 20.0, 59.5, 60.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(tokens=st.integers(0, 260))
    def reserve(self, tokens: int) -> None:
        minute = int(self.now // 60)
        used = self.used(minute)
        hold = self.book.reserve([claim(tokens)], self.now)
        fits = tokens == 0 or used + tokens <= self.LIMIT or (tokens > self.LIMIT and used == 0)
        assert isinstance(hold, Reservation) is fits
        if isinstance(hold, Reservation):
            entry = [minute, tokens]
            self.entries.append(entry)
            self.open.append((hold, entry))
        else:
            self.check_wait(hold, tokens)

    def check_wait(self, short: Short, tokens: int) -> None:
        """At that time it would fit; a moment before it would not."""
        for at, fits in ((self.now + short.retry_after_s, True), (self.now + short.retry_after_s - 0.001, False)):
            used = self.used(math.floor(at / 60))
            assert (used + tokens <= self.LIMIT or (tokens > self.LIMIT and used == 0)) is fits

    @precondition(lambda self: self.open)
    @rule(data=st.data(), tokens=st.integers(0, 400))
    def settle(self, data: st.DataObject, tokens: int) -> None:
        hold, entry = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        hold.settle(input=tokens, output=0, usd=0)
        entry[1] = tokens

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        hold, entry = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        hold.release()
        entry[1] = 0

    @invariant()
    def conserved(self) -> None:
        level = next(v for v in self.book.levels(self.now) if v.limit == "tokens_per_minute")
        assert level.used == self.used(int(self.now // 60))
        assert level.reserved == sum(e[1] for _, e in self.open if e[0] == int(self.now // 60))
        assert level.used >= level.reserved >= 0


Windows.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestWindows = Windows.TestCase


@given(st.lists(st.floats(0, 3), min_size=1, max_size=30), st.data())
def test_usd_add_up_exactly(costs: list[float], data: st.DataObject) -> None:
    book = ledger(usd_per_day=10**6)
    holds = [take(book, 1, 0, usd=cost) for cost in costs]
    assert left(book, 0, "usd_per_day") <= 10**6 - sum(costs) + 1e-6
    for hold in data.draw(st.permutations(holds)):
        hold.release()
    assert left(book, 0, "usd_per_day") == 10**6
