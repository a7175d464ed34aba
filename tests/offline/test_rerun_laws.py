"""Law: whatever providers, clients and clocks do, an event says enough to run its race again to the same end."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.compose import build
from sidecar.core.charge import charge
from sidecar.core.facts import Ask, Attempt, Exchange, Fault, Outcome
from sidecar.core.race import Command, Finish, Phase, Race
from sidecar.core.record import Record
from sidecar.errors import Refusal
from sidecar.offline.replay import COMPARED, Bench
from sidecar.offline.rerun import recorded
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State
from sidecar.telemetry.lines import encode
from sidecar.telemetry.request_line import request_line

PINS = """\
generation: 3
unlisted: reject
defaults: {extra_load: {burst: 3}, retry: {base: 100ms, max: 2s}}
models:
  a-002: {provider: openai, context: 9000, budget: {tokens_per_minute: 9000}, breaker: {failures: 2, cooldown: 2s}}
  b-002: {provider: openai-eu, context: 9000, breaker: {failures: 2, cooldown: 2s}}
  c-002: {provider: openai, budget: {requests_per_minute: 3}}
pins:
  plain: {stable: a-002}
  backed: {stable: a-002, fallback: [b-002, c-002]}
  hedged: {stable: a-002, fallback: [c-002], hedge: {model: b-002, after: 300ms}, over_budget: c-002}
  same: {stable: b-002, hedge: {after: 300ms}, max_attempts: 5}
"""
LOADED = read_pins(PINS.encode(), "pins.yaml", None)
CALLERS_OWN = ("openai",)
FAULTS = st.sampled_from([f for f in Fault if f is not Fault.STREAM_OPTIONS])
STEP = st.tuples(
    st.sampled_from(["fail", "fail", "fail", "useful", "release", "gone", "wait", "wait", "sleep"]),
    st.floats(0.0001, 0.5),
    FAULTS,
    st.none() | st.sampled_from([429, 503]),
    st.none() | st.floats(0.0, 3.0),
    st.booleans(),
)
REQUEST = st.tuples(
    st.sampled_from(list(LOADED.pins)),
    st.integers(0, 12_000),  # bytes
    st.none() | st.integers(1, 5000),  # cap on output
    st.booleans(),  # fallback off
    st.floats(0.5, 8.0),  # its time
    st.lists(STEP, min_size=1, max_size=9),
)


class Site:
    """A sidecar without sockets: one state, one clock, requests one after another."""

    def __init__(self) -> None:
        self.state = State()
        self.state.credentials.put("openai-eu", "sk")
        self.snapshot = build(Parts({}, {"openai": "openai"}, LOADED, self.state))
        self.now = 1000.0
        self.count = 0

    def serve(self, request: tuple[Any, ...]) -> dict[str, Any]:
        pin, size, cap, no_fallback, time_s, steps = request
        self.count += 1
        ask = Ask("openai", "chat", pin, body_bytes=size, max_output=cap, generates=True, no_fallback=no_fallback)
        x = Exchange(f"req_{self.count}", ask, self.now)
        verdict = self.snapshot.pipeline.admit(x, self.now)
        if isinstance(verdict, Refusal):
            return self._event(x, None, verdict.code.value, verdict.status)
        x.deadline = self.now + time_s
        tries = LOADED.tries(pin)
        race = Race(
            x.targets, self.snapshot.pipeline.bound(x), attempts=x.attempts, max_attempts=tries.max_attempts,
            deadline=x.deadline, slow_after_s=x.hedge_after_s,
        )  # fmt: skip
        show, gone = self._run(race, steps)
        if gone:
            return self._event(x, race.winner, "client_gone", None)
        if race.winner is not None:
            error = None if race.winner.fault is None else "sidecar_stream_interrupted"
            return self._event(x, race.winner, error, race.winner.status)
        if show is None:
            return self._event(x, None, "sidecar_upstream_unreachable", 502)
        return self._event(x, None, show.fault and show.fault.value, show.status)

    def _run(self, race: Race, steps: list[tuple[Any, ...]]) -> tuple[Attempt | None, bool]:
        shown: list[Attempt | None] = []

        def heed(commands: list[Command]) -> None:
            shown.extend(c.show for c in commands if isinstance(c, Finish))

        def tick() -> None:
            self.now += 1e-4
            heed(race.tick(self.now))

        heed(race.start(self.now))
        for kind, dt, fault, status, retry_after_s, retryable in steps:
            self.now += dt
            running = [a for a in race.attempts if a.result is None]
            if race.phase is Phase.OVER:
                break
            if kind == "gone":
                heed(race.gone(self.now))
                return None, True
            if kind == "sleep" and race.wake_at is not None:
                self.now = max(self.now, race.wake_at)
            elif kind == "fail" and running:
                attempt = running[0]
                committed = race.phase is Phase.COMMITTED
                attempt.status = attempt.status if committed else status
                attempt.retry_after_s, attempt.retryable = retry_after_s, retryable
                heed(race.failed(attempt, fault, self.now))
            elif kind in ("useful", "release") and running and race.phase is Phase.OPEN:
                running[-1].status = 200
                heed(race.useful(running[-1], self.now) if kind == "useful" else race.release(running[-1], self.now))
            tick()
        while race.phase is not Phase.OVER:  # all the rest goes well
            self.now += 0.01
            running = [a for a in race.attempts if a.result is None]
            if race.wake_at is not None and not running:
                self.now = max(self.now, race.wake_at)
            elif running and race.phase is Phase.OPEN:
                running[0].status = 200
                heed(race.useful(running[0], self.now))
            elif running:
                heed(race.ended(running[0], self.now))
            tick()
        return (shown[-1] if shown else None), False

    def _event(self, x: Exchange, winner: Attempt | None, error: str | None, status: int | None) -> dict[str, Any]:
        outcome = Outcome(tuple(x.attempts), winner, error, status)
        self.snapshot.pipeline.settle(x, outcome, self.now)
        assert not x.purses
        record = Record(
            1.0, x, outcome, LOADED.shown, LOADED.sha256, (), self.now - x.received_at, None, 0.0, None, x.cache
        )
        record = record._replace(charges=tuple(charge(a, 1, 1) for a in x.attempts))
        event: dict[str, Any] = json.loads(encode(request_line(record)))
        return event


@given(st.lists(REQUEST, min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_an_event_says_enough(requests: list[tuple[Any, ...]]) -> None:
    site = Site()
    bench = Bench({LOADED.sha256: LOADED}, None)
    for request in requests:
        event = site.serve(request)
        decided = bench.decide(event)
        assert decided == {key: event[key] for key in COMPARED} | {"attempts": recorded(event)}
