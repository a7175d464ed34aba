"""Budgets in slices, by a real server: pods come, go, die and lose answers; what they admit never passes the limit."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sidecar.settings.schema import BudgetSpec
from tests.fleet.kit import M, Pod, Server


def pods_of(store: Server, count: int, **limits: Any) -> list[Pod]:
    spec = BudgetSpec(scope="fleet", **limits)
    pods = [Pod(f"p{n}", store.client(), spec) for n in range(count)]
    for pod in pods:
        pod.sync()
    return pods


def allowed(pods: list[Pod], limit: str = "tokens_per_minute") -> float:
    window = math.floor(pods[0].now / (60 if limit.endswith("minute") else 86400))
    whole = next(level.whole for level in pods[0].ledger.levels(pods[0].now) if level.limit == limit)
    return sum(pod.leases.allowance(M, limit, window, whole) for pod in pods)


def test_pods_share_one_limit(store: Server) -> None:
    pods = pods_of(store, 3, tokens_per_minute=3000)
    let_in = sum(pod.ask(10) for _ in range(200) for pod in pods)
    assert let_in * 10 <= 3000
    assert let_in * 10 >= 0.95 * 3000, "the limit can be used, not only kept"


def test_a_busy_pod_gets_what_idle_ones_do_not_need(store: Server) -> None:
    busy, *idle = pods_of(store, 3, tokens_per_minute=3000)
    for second in range(20):
        for _ in range(20):
            busy.ask(10)
        for pod in (busy, *idle):
            pod.now = 30.0 + second / 10
            pod.sync()
    assert busy.admitted >= 0.95 * 3000


def test_first_requests_of_a_new_pod_are_let_in(store: Server) -> None:
    old = pods_of(store, 3, tokens_per_minute=100_000)
    for pod in old:
        pod.ask(5_000)
    (new,) = pods_of(store, 1, tokens_per_minute=100_000)
    assert new.ask(3_000)


def test_a_small_limit_is_shared_and_almost_no_request_refused_in_vain(store: Server) -> None:
    pods = pods_of(store, 3, requests_per_minute=10)
    in_vain = 0
    for round_ in range(4):
        for pod in pods:
            if not pod.ask() and sum(p.admitted for p in pods) < 10:
                in_vain += 1
        for pod in pods:
            pod.now += 0.3 * round_
            pod.sync()
    assert sum(p.admitted for p in pods) == 10
    assert in_vain <= 2


def test_a_claim_larger_than_the_slice_is_let_in_the_second_time(store: Server) -> None:
    pods = pods_of(store, 3, tokens_per_minute=9000)
    assert not pods[2].ask(5000)
    for pod in pods * 2:
        pod.sync()
    assert pods[2].ask(5000)
    assert allowed(pods) <= 9000


def test_more_than_the_whole_limit_goes_alone_into_an_empty_window(store: Server) -> None:
    pods = pods_of(store, 3, tokens_per_minute=900)
    assert not pods[0].ask(1500)
    for _ in range(3):
        for pod in pods:
            pod.sync()
        pods[0].ask(1500)
    assert pods[0].admitted == 1500
    pods[0].sync()
    assert not any(pod.ask(1) for pod in pods[1:])


def test_over_runs_are_the_fleets_debt(store: Server) -> None:
    """All of the limit was used twice by one pod: nobody has anything in the next window."""
    pods = pods_of(store, 2, tokens_per_minute=1000)
    held = pods[0].reserve(200)
    assert held is not None
    held.settle(input=2000, output=0, usd=0.0)
    for second in (0.0, 30.0):
        for pod in pods:
            pod.now = 30.0 + second
            pod.sync()
    assert not pods[1].ask(1)
    for pod in pods:
        pod.now = 125.0
        pod.sync()
    assert pods[1].ask(1)


def test_usd_of_a_day_are_counted_exactly(store: Server) -> None:
    pods = pods_of(store, 3, usd_per_day=1_000_000.0)
    assert allowed(pods, "usd_per_day") <= 1_000_000
    assert 1000 < allowed(pods[:1], "usd_per_day") < 100_000, "an idle pod holds a small part of a day"


def test_who_leaves_gives_back_and_who_dies_loses_its_slice_only(store: Server) -> None:
    leaver, dead, last = pods_of(store, 3, tokens_per_minute=9000)
    held_by_dead = allowed([dead])
    leaver.sync(leaving=True)
    for n in range(60):
        last.now = 30.0 + n / 100
        last.ask(200)
        last.sync()
    assert last.admitted > 9000 - held_by_dead - 300
    assert last.admitted <= 1.05 * 9000 - held_by_dead


def test_without_the_server_each_has_its_share(store: Server) -> None:
    pods = pods_of(store, 3, tokens_per_minute=3000)
    for pod in pods:
        pod.sync()
    for pod in pods:
        pod.leases.up = False
    assert allowed(pods) <= 3000
    for pod in pods:
        pod.now = 200.0
    assert allowed(pods) == 3000
    assert allowed(pods[:1]) == 1000


def test_a_server_that_lost_its_memory_hands_out_nothing_twice(store: Server) -> None:
    pods = pods_of(store, 3, tokens_per_minute=3000)
    for pod in pods:
        for _ in range(9):
            pod.ask(100)
            pod.sync()
    store.client().flushall()
    for _ in range(50):
        pods[0].ask(50)
        pods[0].sync()
    for _ in range(50):
        for pod in pods:
            pod.ask(50)
            pod.sync()
    assert 2900 <= sum(pod.admitted for pod in pods) <= 1.05 * 3000


def test_the_next_window_is_leased_ahead(store: Server) -> None:
    pods = pods_of(store, 2, tokens_per_minute=1000)
    for pod in pods:
        pod.now = 57.0
        pod.sync()
        pod.now = 60.5
    assert all(int(store.client().hget("sidecar:1:model:gpt-a-2026-01-01:tokens_per_minute:1", p.name)) for p in pods)
    assert 0 < allowed(pods) <= 1000
    assert all(pod.ask(100) for pod in pods)


LIMIT = 1000


class Fleet(RuleBasedStateMachine):
    """Requests, syncs, lost answers, deaths and births in any order."""

    store: Server

    @initialize()
    def begin(self) -> None:
        self.store.grown_up()
        self.client = self.store.client()
        self.pods: list[Pod] = []
        self.gone = 0
        self.born = 0
        self.add()

    def pod(self, n: int) -> Pod:
        return self.pods[n % len(self.pods)]

    @rule()
    def add(self) -> None:
        if len(self.pods) < 5:
            self.born += 1
            self.pods.append(Pod(f"p{self.born}", self.client, BudgetSpec(scope="fleet", tokens_per_minute=LIMIT)))
            self.pods[-1].sync()

    @rule(n=st.integers(0, 9), tokens=st.integers(1, 400), times=st.integers(1, 5))
    def ask(self, n: int, tokens: int, times: int) -> None:
        for _ in range(times):
            self.pod(n).ask(tokens)

    @rule(n=st.integers(0, 9), tokens=st.integers(1, 50))
    def burst(self, n: int, tokens: int) -> None:
        """All that this pod may use, before the server hears of it."""
        while self.pod(n).reserve(tokens):
            pass

    @rule(n=st.integers(0, 9), tokens=st.integers(1, 400), part=st.floats(0, 1))
    def ask_and_settle(self, n: int, tokens: int, part: float) -> None:
        pod = self.pod(n)
        if (held := pod.reserve(tokens)) is not None:
            used = int(part * tokens)
            held.settle(input=used, output=0, usd=0.0)
            pod.admitted += used - tokens

    @rule(n=st.integers(0, 9))
    def sync(self, n: int) -> None:
        self.pod(n).sync()

    @rule(n=st.integers(0, 9))
    def lose_an_answer(self, n: int) -> None:
        self.pod(n).sync(lost=True)
        self.pod(n).leases.up = True  # a try later; it goes on with what it knows

    @rule(n=st.integers(0, 9), leaving=st.booleans())
    def go(self, n: int, leaving: bool) -> None:
        if len(self.pods) > 1:
            pod = self.pods.pop(n % len(self.pods))
            if leaving:
                pod.sync(leaving=True)
            self.gone += pod.admitted

    @invariant()
    def the_limit_is_kept(self) -> None:
        if not hasattr(self, "pods"):
            return
        assert self.gone + sum(pod.admitted for pod in self.pods) <= 1.05 * LIMIT


def test_the_limit_is_kept_whatever_happens(store: Server) -> None:
    Fleet.store = store
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    run_state_machine_as_test(
        Fleet, settings=settings(max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=checks)
    )


@pytest.mark.parametrize("raw", [None, [], [b"1"], [b"x", b"1", b"1", b"1"], b"OK", [b"1", None, 1, 1]])
def test_other_answers_are_told_apart(raw: object) -> None:
    from sidecar.runtime import fleet_script

    with pytest.raises((ValueError, TypeError, IndexError)):
        fleet_script.read(raw, 1)
