"""Who is charged what and when: admission, further attempts, the cheaper model, every way out, 200 at once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Fault, Outcome, Purse, Result, Target, Usage
from sidecar.errors import Code, Refusal
from sidecar.policies.budget import ADMITTED, Budget, go_duration
from sidecar.policies.parts import Parts
from sidecar.settings.load import read_pins
from sidecar.state import State
from sidecar.state.ledger import Account

BIG, MINI, NONE = "gpt-5.4-2025-11-02", "gpt-5.5-mini-2026-01-10", "free-2026-01-01"
PINS = """
version: 1
generation: 1
unlisted: pass
models:
  {big}: {{provider: openai, max_output: 400, price: {{input: 10, cache_write: 15, output: 20}}, budget: {model}}}
  {mini}: {{provider: openai, context: 5000, price: {{input: 1, output: 2}}, budget: {cheap}}}
  {none}: {{provider: openai}}
pins:
  chat: {{stable: {big}, fallback: [{mini}, {none}], budget: {pin}}}
  mixed: {{stable: {big}, fallback: [{none}], over_budget: {mini}, budget: {pin}}}
"""
OPEN = "{requests_per_minute: 1000000}"
DONE = Outcome((), None, None, 200)
Limit = tuple[str, str, str]


class Bench:
    """A budget policy, its state, and what may be asked of it."""

    def __init__(self, model: str = OPEN, pin: str = OPEN, cheap: str = OPEN) -> None:
        text = PINS.format(big=BIG, mini=MINI, none=NONE, model=model, pin=pin, cheap=cheap)
        self.state = State()
        self.pins = read_pins(text.encode(), "pins.yaml", None)
        policy = Budget.build(Parts({}, {"openai": "openai"}, self.pins, self.state))
        assert policy is not None
        self.policy = policy

    def exchange(self, pin: str = "chat", **facts: Any) -> Exchange:
        """400 bytes: 100 tokens in, 400 out at most, unless `facts` say otherwise."""
        defaults = {"operation": "chat", "body_bytes": 400, "generates": True}
        x = Exchange("r", Ask("openai", **(defaults | facts)), 0.0)
        x.kind, x.pin, x.usable, x.default_provider = "pin", pin, ("openai",), "openai"
        fallback = [Target("openai", m.id) for m in self.pins.pins[pin].fallback]
        x.targets = (Target("openai", BIG), *fallback)
        return x

    def admitted(self, now: float = 0.0, pin: str = "chat", **facts: Any) -> Exchange:
        x = self.exchange(pin, **facts)
        assert self.policy.admit(x, now) is None
        return x

    def refused(self, now: float = 0.0, pin: str = "chat", **facts: Any) -> Refusal:
        refusal = self.policy.admit(self.exchange(pin, **facts), now)
        assert isinstance(refusal, Refusal)
        return refusal

    def launch(self, x: Exchange, cause: Cause = Cause.FIRST, model: str | None = None) -> Attempt | None:
        target = x.targets[0] if model is None else Target("openai", model)
        attempt = Attempt(len(x.attempts) + 1, target, cause, 0.0)
        if not self.policy.enter(x, attempt, 0.0):
            return None
        x.attempts.append(attempt)
        return attempt

    def end(self, x: Exchange, attempt: Attempt, usage: Usage | None = None, **facts: Any) -> None:
        attempt.result, attempt.status, attempt.usage = Result.OK, 200, usage
        for key, value in facts.items():
            setattr(attempt, key, value)
        self.policy.leave(x, attempt, 1.0)

    def left(self, limit: str, account: Account = ("model", BIG), now: float = 0.0) -> float:
        return self.state.ledger.left(account, now)[limit]


TPM = "{tokens_per_minute: 1000, requests_per_minute: 10}"


def test_it_is_built_where_a_budget_or_a_context_asks_for_it() -> None:
    def built(model: str, pin: str = "") -> bool:
        text = f"generation: 1\nunlisted: pass\nmodels:\n  a-002: {{provider: openai{model}}}\n"
        text += f"pins:\n  p: {{stable: a-002{pin}}}\n"
        pins = read_pins(text.encode(), "pins.yaml", None)
        return Budget.build(Parts({}, {}, pins, State())) is not None

    assert not built("")
    assert built(", context: 5")
    assert built(", budget: {tokens_per_day: 5}")
    assert built("", ", budget: {tokens_per_day: 5}")


def test_what_is_set_aside() -> None:
    bench = Bench(model=TPM)
    x = bench.admitted()
    assert (x.purses[ADMITTED].input, x.purses[ADMITTED].output) == (100, 400)  # the catalogue's max_output
    assert bench.left("tokens_per_minute") == 500
    assert x.budget == {
        f"model {BIG} tokens_per_minute": 1000,
        f"model {BIG} requests_per_minute": 10,
        "pin chat requests_per_minute": 1000000,
        f"model {BIG} input": 100,
        f"model {BIG} output": 400,
    }


@pytest.mark.parametrize(
    ("facts", "tokens"),
    [
        ({"max_output": 50}, 150),
        ({"max_output": 50, "choices": 3}, 250),
        ({"max_output": 10**12}, 500),
        ({"operation": "embeddings"}, 100),
        ({"operation": "moderation"}, 100),
        ({"body_bytes": 800, "media_bytes": 400}, 600),
        ({"body_bytes": 401}, 501),
        ({"generates": False}, 0),
    ],
)
def test_the_estimate(facts: dict[str, Any], tokens: int) -> None:
    bench = Bench(model=TPM)
    bench.admitted(**facts)
    assert bench.left("tokens_per_minute") == 1000 - tokens


def test_the_estimate_learns() -> None:
    bench = Bench(model="{tokens_per_minute: 100000}", cheap="{tokens_per_minute: 100000}")
    x = bench.exchange()
    x.chosen, x.targets = MINI, (Target("openai", MINI),)
    assert bench.policy.admit(x, 0) is None
    assert x.purses[ADMITTED].output == 1024  # at first
    for _ in range(20):
        bench.policy.leave(x, Attempt(9, x.targets[0], Cause.RETRY, 0, result=Result.OK, usage=Usage(50, 30)), 0)
        bench.policy.leave(x, Attempt(9, x.targets[0], Cause.RETRY, 0, result=Result.FAILED, usage=Usage(1, 999)), 0)
    y = bench.exchange()
    y.targets = x.targets
    assert bench.policy.admit(y, 0) is None
    assert y.purses[ADMITTED].output == 30
    assert 50 <= y.purses[ADMITTED].input < 70


def test_settled_by_the_providers_count() -> None:
    bench = Bench(model="{tokens_per_minute: 1000, requests_per_minute: 10, usd_per_day: 1}")
    x = bench.admitted()
    attempt = bench.launch(x)
    assert attempt is not None
    bench.end(x, attempt, Usage(90, 30))
    assert bench.left("tokens_per_minute") == 880
    assert bench.left("requests_per_minute") == 9
    assert bench.left("usd_per_day") == pytest.approx(1 - (90 * 10 + 30 * 20) / 1e6)
    assert not x.purses
    bench.policy.settle(x, DONE, 2)
    assert bench.left("tokens_per_minute") == 880


@pytest.mark.parametrize(
    ("ending", "used"),
    [
        ({"status": 503, "result": Result.FAILED, "fault": Fault.OVERLOAD}, 0),
        ({"status": None, "result": Result.FAILED, "fault": Fault.TIMEOUT}, 500),
        ({"result": Result.CLIENT_GONE}, 500),
        ({"result": Result.LOST_HEDGE, "status": None}, 500),
        ({}, 500),
    ],
    ids=["refused", "timeout", "client gone", "lost", "complete without usage"],
)
def test_other_endings(ending: dict[str, Any], used: int) -> None:
    bench = Bench(model=TPM)
    x = bench.admitted()
    attempt = bench.launch(x)
    assert attempt is not None
    bench.end(x, attempt, **ending)
    assert bench.left("tokens_per_minute") == 1000 - used
    assert bench.left("requests_per_minute") == 9


def test_usd_that_are_kept_hold_for_the_dearest_input() -> None:
    bench = Bench(model="{usd_per_day: 1}")
    x = bench.admitted()
    attempt = bench.launch(x)
    assert attempt is not None
    bench.end(x, attempt, result=Result.CLIENT_GONE)  # what was written to a cache by then, nobody tells
    assert bench.left("usd_per_day") == pytest.approx(1 - (100 * 15 + 400 * 20) / 1e6)


def test_never_launched_gives_all_back() -> None:
    bench = Bench(model=TPM, pin=TPM)
    x = bench.admitted()
    bench.policy.settle(x, DONE, 1)
    for account in (("model", BIG), ("pin", "chat")):
        assert bench.state.ledger.left(account, 0) == {"tokens_per_minute": 1000, "requests_per_minute": 10}
    y = bench.admitted()
    assert bench.launch(y) is not None
    hedge = bench.launch(y, Cause.HEDGE)
    assert hedge is not None
    bench.policy.leave(y, hedge, 1)  # result None: another policy said no
    assert bench.left("tokens_per_minute") == 500
    assert bench.left("requests_per_minute") == 9


def test_refused_on_tokens_leaves_requests_alone() -> None:
    bench = Bench(model=TPM, pin=TPM)
    bench.admitted()
    bench.admitted()
    refusal = bench.refused(now=15.0)
    assert refusal.code is Code.BUDGET_EXCEEDED
    assert refusal.status == 429
    assert refusal.retry_after_s == 45
    assert "tokens_per_minute" in refusal.message
    assert BIG in refusal.message
    for account in (("model", BIG), ("pin", "chat")):
        assert bench.state.ledger.left(account, 15) == {"tokens_per_minute": 0, "requests_per_minute": 8}
    assert refusal.headers == (
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "8"),
        ("x-ratelimit-reset-requests", "45s"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "45s"),
    )
    assert bench.policy.admit(bench.exchange(), 60) is None  # at that time it passes


def test_the_spent_limit_is_the_one_in_the_headers() -> None:
    bench = Bench(model="{tokens_per_minute: 9999999, input_tokens_per_minute: 50, tokens_per_day: 9999999}")
    bench.admitted()
    assert dict(bench.refused().headers)["x-ratelimit-limit-tokens"] == "50"
    assert "x-ratelimit-limit-requests" not in dict(bench.refused().headers)
    bench = Bench(model="{usd_per_day: 0.009}")
    bench.admitted()
    assert bench.refused().headers == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.1, "100ms"), (1, "1s"), (59.9, "59.9s"), (360, "6m0s"), (86399.5, "23h59m59.5s"), (3600, "1h0m0s")],
)
def test_go_durations(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_a_further_attempt_needs_budget_of_its_own() -> None:
    bench = Bench(model=TPM, pin="{requests_per_minute: 1, tokens_per_minute: 1500}", cheap="{tokens_per_day: 1150}")
    x = bench.admitted()
    assert bench.launch(x) is not None
    assert bench.launch(x, Cause.RETRY) is not None  # the pin's one request is not asked again
    assert bench.left("requests_per_minute") == 8
    assert bench.left("tokens_per_minute") == 0
    assert bench.launch(x, Cause.HEDGE) is None
    assert x.why[-1] == "budget: no hedge, model tokens_per_minute spent"
    assert bench.launch(x, Cause.FALLBACK, MINI) is None  # 100 + 1024 for the pin: 500 left
    assert x.why[-1] == "budget: no fallback, pin tokens_per_minute spent"
    assert bench.left("tokens_per_day", ("model", MINI)) == 1150
    x.ask.max_output = 50
    assert bench.launch(x, Cause.FALLBACK, MINI) is not None
    assert bench.left("tokens_per_day", ("model", MINI)) == 1000
    assert bench.left("tokens_per_minute", ("pin", "chat")) == 350


def test_what_mends_our_own_doing_is_never_refused() -> None:
    bench = Bench(model="{requests_per_minute: 1, tokens_per_minute: 500}", pin="{requests_per_minute: 1}")
    x = bench.admitted()
    first = bench.launch(x)
    assert first is not None
    bench.end(x, first, status=None, result=Result.FAILED, fault=Fault.STALE)
    assert (bench.left("requests_per_minute"), bench.left("requests_per_minute", ("pin", "chat"))) == (1, 0)
    again = bench.launch(x, Cause.RESEND)
    assert again is not None
    bench.end(x, again, status=400, result=Result.FAILED, fault=Fault.STREAM_OPTIONS)
    assert bench.launch(x, Cause.RETRY) is None
    assert bench.launch(x, Cause.WITHOUT_USAGE) is not None
    assert (bench.left("requests_per_minute"), bench.left("requests_per_minute", ("pin", "chat"))) == (-1, 0)
    assert bench.left("tokens_per_minute") == 0


def test_a_spent_model_is_not_left_for_a_fallback() -> None:
    bench = Bench(model="{tokens_per_minute: 500}")
    bench.admitted()
    assert bench.refused().code is Code.BUDGET_EXCEEDED


@pytest.mark.parametrize("spent", ["model", "pin"])
def test_the_cheaper_model_serves_over_budget(spent: str) -> None:
    bench = Bench(**{spent: "{tokens_per_minute: 500}"}, cheap="{tokens_per_day: 5000}")
    assert bench.launch(bench.admitted(pin="mixed")) is not None
    before = bench.state.ledger.left(("pin", "mixed"), 0)
    x = bench.admitted(pin="mixed")
    assert x.over_budget
    assert [t.model for t in x.targets] == [MINI, NONE]
    assert x.why == [f"budget: {spent} tokens_per_minute spent, {MINI} serves"]
    first = bench.launch(x)
    assert first is not None
    assert bench.launch(x, Cause.RETRY) is not None
    assert bench.left("tokens_per_day", ("model", MINI)) == 5000 - 2 * 1124
    assert bench.state.ledger.left(("pin", "mixed"), 0) == before
    fallback = bench.launch(x, Cause.FALLBACK, NONE)
    assert (fallback is None) is (spent == "pin")  # back among the pin's own models it is asked again


@pytest.mark.parametrize(
    "facts",
    [
        {"no_fallback": True},
        {"repeatable": False},
        {"body_bytes": 20_004},  # 5,001 tokens
        {"max_output": 4901},
        {"dialect": "gemini"},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_the_cheaper_model_must_be_able_to(facts: dict[str, Any]) -> None:
    bench = Bench(model="{requests_per_minute: 1}")
    bench.admitted(pin="mixed")
    x = bench.exchange("mixed")
    for key, value in facts.items():
        setattr(x.ask, key, value)
    assert isinstance(bench.policy.admit(x, 0), Refusal)
    assert not x.over_budget


def test_the_cheaper_model_elsewhere_needs_leave_and_a_credential() -> None:
    def served(*, bound: bool = False, named: str | None = None, secret: str | None = "k") -> bool:
        bench = Bench(model="{requests_per_minute: 1}")
        bench.admitted(pin="mixed")
        x = bench.exchange("mixed", bound=bound, provider=named)
        x.targets = (Target("other", BIG), Target("other", NONE))
        x.usable = ("openai", "other") if secret else ("other",)
        return bench.policy.admit(x, 0) is None

    assert served()
    assert not served(bound=True)
    assert not served(named="other")
    assert not served(secret=None)


def test_a_cheaper_model_without_a_budget_sets_nothing_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what an attempt there costs would be told as nothing where its provider doesn't say."""
    monkeypatch.setitem(globals(), "PINS", PINS.replace(", budget: {cheap}", ""))
    bench = Bench(pin="{requests_per_minute: 1}")
    bench.admitted(pin="mixed")
    x = bench.admitted(pin="mixed")
    first = bench.launch(x)
    assert x.over_budget
    assert first is not None
    assert first.reserved is None
    assert all(name.startswith(("model gpt", "pin ")) for name in x.budget or {}), x.budget


def test_the_cheaper_model_may_be_spent_too() -> None:
    bench = Bench(model="{requests_per_minute: 1}", cheap="{requests_per_minute: 1}")
    bench.admitted(pin="mixed")
    assert bench.admitted(pin="mixed").over_budget
    assert BIG in bench.refused(pin="mixed").message


def test_unlisted_models_have_no_account() -> None:
    bench = Bench(model="{requests_per_minute: 1}")
    for model in ("anything", NONE, None):
        x = bench.exchange()
        x.kind, x.pin, x.targets = "unlisted", None, (Target("openai", model),)
        assert bench.policy.admit(x, 0) is None
        assert bench.launch(x) is not None
        assert not x.purses


def test_a_replay_decides_by_what_the_event_kept() -> None:
    limit = "{tokens_per_minute: 950}"
    bench = Bench(model=limit)
    first = bench.admitted(pin="mixed")
    over = bench.admitted(pin="mixed")
    refused = bench.exchange("mixed", no_fallback=True)
    assert isinstance(bench.policy.admit(refused, 0), Refusal)
    fresh = Bench(model=limit)
    fresh.state.sizes.learn(BIG, refused.ask, Usage(1, 1))  # has learned otherwise since
    for seen in (first, over, refused):
        x = fresh.exchange("mixed", no_fallback=seen.ask.no_fallback)
        x.budget = dict(seen.budget or {})
        verdict = fresh.policy.admit(x, 0)
        assert (x.targets, x.over_budget, x.why) == (seen.targets, seen.over_budget, seen.why)
        assert isinstance(verdict, Refusal) is (seen is refused)
        assert not x.purses
    assert fresh.left("tokens_per_minute") == 950


@pytest.mark.parametrize("seed", range(20))
def test_200_at_once_never_pass_the_limit(seed: int) -> None:
    """Complaint 10: every interleaving of admission, launch, hedge and end; what is set aside is summed up apart."""
    chance = random.Random(seed)
    bench = Bench(model="{tokens_per_minute: 10000, requests_per_minute: 40}", pin="{tokens_per_minute: 9000}")
    waiting = [bench.exchange(body_bytes=chance.randint(4, 3000)) for _ in range(200)]
    running: list[tuple[Exchange, Attempt]] = []
    used, requests, open_ = 0, 0, 0
    while waiting or running:
        move = chance.random()
        if waiting and move < 0.5:
            x = waiting.pop()
            if bench.policy.admit(x, 0) is None:
                open_ += _size(x.purses[ADMITTED])
                requests += 1
                if chance.random() < 0.1:  # left before it was launched
                    open_ -= _size(x.purses[ADMITTED])
                    requests -= 1
                    bench.policy.settle(x, DONE, 0)
                else:
                    attempt = bench.launch(x)
                    assert attempt is not None
                    running.append((x, attempt))
        elif running:
            x, attempt = running.pop(chance.randrange(len(running)))
            if move < 0.7 and (hedge := bench.launch(x, Cause.HEDGE)) is not None:
                open_ += _size(x.purses[hedge.number])
                requests += 1
                running.append((x, hedge))
            open_ -= _size(x.purses[attempt.number])
            if chance.random() < 0.5:
                cost = Usage(chance.randint(0, attempt_input(x)), chance.randint(0, 400))
                used += cost.input + cost.output
                bench.end(x, attempt, cost)
            else:
                bench.end(x, attempt, result=Result.FAILED, fault=Fault.OVERLOAD, status=500)
        assert used + open_ <= 9000
        assert requests <= 40
        assert bench.left("tokens_per_minute") == 10000 - used - open_
        assert bench.left("tokens_per_minute", ("pin", "chat")) == 9000 - used - open_
        assert bench.left("requests_per_minute") == 40 - requests
    assert open_ == 0
    assert not any(level.reserved for level in bench.state.ledger.levels(0) if "tokens" in level.limit)


def _size(purse: Purse) -> int:
    return purse.input + purse.output


def attempt_input(x: Exchange) -> int:
    return -(-x.ask.body_bytes // 16)  # never more than was set aside, however much was learned
