from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.compose import build
from sidecar.core.answers import Flight, Stored, entry_key
from sidecar.core.facts import Ask, Exchange, Outcome, Target
from sidecar.core.policy import Follow, Hit
from sidecar.policies.cache import Cache
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State

PINS = """
version: 1
unlisted: reject
models:
  m-2026-01-01: {provider: openai}
  n-2026-01-01: {provider: openai}
pins:
  kept: {stable: m-2026-01-01, cache: {ttl: 60s}}
  same: {stable: m-2026-01-01, cache: {ttl: 60s}}
  brief: {stable: m-2026-01-01, cache: {ttl: 5s}}
  other: {stable: n-2026-01-01, cache: {ttl: 60s}}
  always: {stable: m-2026-01-01, cache: {ttl: 60s, always: true}}
  plain: {stable: m-2026-01-01}
  falls: {stable: m-2026-01-01, fallback: [n-2026-01-01], cache: {ttl: 60s}}
"""
TARGET = Target("openai", "m-2026-01-01")


class Bench:
    """A pipeline with its state, and requests that go through it."""

    def __init__(self) -> None:
        self.state = State()
        self.pins = read_pins(PINS.encode(), "pins.yaml", None)
        self.snapshot = build(Parts({}, {"openai": "openai"}, self.pins, self.state))
        self.count = 0

    def ask(self, pin: str = "kept", now: float = 0.0, **facts: Any) -> tuple[Exchange, Any]:
        """A request and its verdict. `facts` go to its Ask."""
        defaults: dict[str, Any] = {"generates": True, "deterministic": True, "identity": lambda: b"same"}
        self.count += 1
        x = Exchange(f"r{self.count}", Ask("openai", name=pin, **(defaults | facts)), now)
        return x, self.snapshot.pipeline.admit(x, now)

    def settle(self, x: Exchange) -> None:
        self.snapshot.pipeline.settle(x, Outcome((), None, None, 200), 0.0)

    def keep(self, x: Exchange, target: Target = TARGET, now: float = 0.0) -> Stored:
        """What the runtime does with a good answer."""
        assert x.cache_key is not None
        stored = Stored(200, "OK", (), b"{}", target.provider, target.model or "", None, now)
        self.state.answers.put(entry_key(x.cache_key.identity, target), stored, x.cache_key.ttl_s, now)
        flight = self.state.flights.led_by(x.id)
        if flight is not None:
            self.state.flights.land(flight, stored)
        return stored


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_without_any_cache_in_the_pins_there_is_no_policy() -> None:
    pins = read_pins(b"version: 1\nunlisted: reject\n", "pins.yaml", None)
    assert Cache.build(Parts({}, {}, pins, State())) is None


def test_a_miss_and_then_a_hit(bench: Bench) -> None:
    x, verdict = bench.ask()
    assert (x.cache, verdict) == ("miss", None)
    stored = bench.keep(x)
    bench.settle(x)
    x, verdict = bench.ask(now=59.0)
    assert (x.cache, verdict) == ("hit", Hit(stored))
    assert "cache: hit" in x.why
    x, verdict = bench.ask(now=60.0)
    assert (x.cache, verdict) == ("miss", None)


@pytest.mark.parametrize(
    "facts",
    [
        {"generates": False},
        {"deterministic": False},
        {"side_effects": True},
        {"bound": True},
        {"identity": None},
        {"identity": lambda: None},
        {"pin": "plain"},
        {"pin": "m-2026-01-01"},
        {"pin": "always", "side_effects": True},
        {"pin": "always", "bound": True},
    ],
)
@pytest.mark.parametrize("said", ["use", "bypass", "refresh"])
def test_what_is_never_kept(bench: Bench, facts: dict[str, Any], said: str) -> None:
    x, verdict = bench.ask(**facts, cache=said)
    assert (x.cache, x.cache_key, verdict) == ("off", None, None)
    assert not bench.state.flights


def test_always_keeps_what_chance_made(bench: Bench) -> None:
    x, _ = bench.ask("always", deterministic=False)
    bench.keep(x)
    assert bench.ask("always", deterministic=False)[0].cache == "hit"
    assert bench.ask("kept", deterministic=False)[0].cache == "off"


def test_names_of_one_model_share_and_those_of_another_do_not(bench: Bench) -> None:
    bench.keep(bench.ask()[0])
    assert bench.ask("same")[0].cache == "hit"
    assert bench.ask("other")[0].cache == "miss"
    assert bench.ask(identity=lambda: b"else")[0].cache == "miss"


def test_a_pin_s_own_ttl_holds_for_what_others_kept(bench: Bench) -> None:
    bench.keep(bench.ask()[0])
    assert bench.ask("brief", now=4.0)[0].cache == "hit"
    assert bench.ask("brief", now=5.0)[0].cache == "miss"


def test_an_answer_is_kept_under_the_model_that_served(bench: Bench) -> None:
    """A fallback's answer is no hit for the model that failed."""
    x, _ = bench.ask()
    bench.keep(x, Target("openai", "n-2026-01-01"))
    assert bench.ask()[0].cache == "miss"
    assert bench.ask("other")[0].cache == "hit"


def test_bypass_neither_asks_nor_keeps_nor_waits(bench: Bench) -> None:
    bench.keep(bench.ask()[0])
    x, verdict = bench.ask(cache="bypass")
    assert (x.cache, x.cache_key, verdict) == ("bypass", None, None)


def test_refresh_does_not_ask_but_keeps(bench: Bench) -> None:
    bench.keep(bench.ask()[0])
    x, verdict = bench.ask(cache="refresh", now=50.0)
    assert (x.cache, verdict) == ("miss", None)
    newer = bench.keep(x, now=50.0)
    assert bench.ask(now=100.0)[1] == Hit(newer)


def test_one_asks_and_the_others_wait(bench: Bench) -> None:
    leader, _ = bench.ask()
    assert leader.cache_key is not None
    assert leader.cache_key.leads
    followers = [bench.ask() for _ in range(1000)]
    assert {x.cache for x, _ in followers} == {"coalesced"}
    assert all(isinstance(verdict, Follow) for _, verdict in followers)
    assert {verdict.flight for _, verdict in followers} == {bench.state.flights.led_by(leader.id)}
    assert bench.ask(identity=lambda: b"else")[0].cache == "miss"


def test_refresh_does_not_wait_for_others(bench: Bench) -> None:
    bench.ask()
    x, verdict = bench.ask(cache="refresh")
    assert (x.cache, verdict) == ("miss", None)
    assert x.cache_key is not None
    assert not x.cache_key.leads
    bench.settle(x)
    assert len(bench.state.flights) == 1, "the flight of another is not its to end"


def test_nobody_waits_for_a_call_that_may_end_at_a_model_which_it_must_not_get(bench: Bench) -> None:
    bench.ask("falls")
    strict = {"no_fallback": True}
    assert bench.ask("falls", **strict)[0].cache == "miss", "x-sidecar-fallback: off"
    assert bench.ask("falls", **strict)[0].cache == "coalesced", "both refuse it"
    assert bench.ask("falls", no_hedge=True)[0].cache == "miss", "x-sidecar-hedge: off"
    assert bench.ask("kept")[0].cache == "miss", "another pin, without that fallback"
    assert bench.ask("falls")[0].cache == "coalesced"


def test_streams_are_kept_but_never_shared_while_under_way(bench: Bench) -> None:
    x, _ = bench.ask(stream=True)
    assert x.cache_key is not None
    assert not x.cache_key.leads
    assert bench.ask(stream=True)[0].cache == "miss"
    bench.keep(x)
    assert bench.ask(stream=True)[0].cache == "hit"


def test_however_a_leader_ends_nobody_waits_for_ever(bench: Bench) -> None:
    told: list[Stored | None] = []
    leader, _ = bench.ask()
    _, verdict = bench.ask()
    bench.state.flights.join(verdict.flight, "f", told.append)
    bench.settle(leader)
    assert told == [None]
    assert bench.ask()[0].cache == "miss", "the next one leads"


def test_a_follower_s_settlement_ends_nothing(bench: Bench) -> None:
    bench.ask()
    follower, _ = bench.ask()
    bench.settle(follower)
    assert len(bench.state.flights) == 1


@pytest.mark.parametrize(
    ("found", "decides"), [("hit", Hit), ("coalesced", Follow), ("miss", None), ("bypass", None), ("off", None)]
)
def test_a_replayed_request_decides_the_same_without_its_text(
    bench: Bench, found: str, decides: Callable[..., Any] | None
) -> None:
    x = Exchange("r", Ask("openai", name="kept", generates=True, deterministic=True), 0.0, cache=found)
    verdict = bench.snapshot.pipeline.admit(x, 0.0)
    assert type(verdict) is (decides or type(None))
    assert x.cache == found
    assert [why for why in x.why if why.startswith("cache")] == ([f"cache: {found}"] if decides else [])
    assert not bench.state.flights


def test_shapes() -> None:
    assert Flight(b"k", "r") != Flight(b"k", "r"), "flights are told apart by themselves"
