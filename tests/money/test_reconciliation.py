"""Our ledger against the provider's bill, over every way in which a request can end (issue 3, promise 4).

On complete calls both say the same: requests, input, output, USD. Where somebody broke off ours is never below. In the
end nothing is set aside any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.provider import FakeProvider
from tests.harness import until
from tests.money.kit import CLAUDE, GEMINI, GPT, LONG, MINI, PINS, PRICES, Stand, leave_when, stand

DIALECTS = ("openai", "responses", "anthropic", "gemini")
MODELS = {"openai": GPT, "responses": GPT, "anthropic": CLAUDE, "gemini": GEMINI}
WHOLE = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
EACH = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture
async def books(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(tmp_path, provider) as one:
        yield one
        await one.settled()
        assert one.reserved() == {}


def pin_of(dialect: str) -> str:
    return "openai" if dialect == "responses" else dialect


def rule(fault: str, model: str = "*", times: int | None = None) -> dict[str, Any]:
    return {"match": {"model": model}, "fault": fault} | ({} if times is None else {"times": times})


def equal(books: Stand, *models: str) -> None:
    """Exactly the bill, of each of these models; nothing at the others."""
    for model in PRICES:
        ours, theirs = books.booked(model), books.billed(model)
        assert ours.usd == pytest.approx(theirs.usd, abs=1e-9), model
        assert (ours.requests, ours.input, ours.output) == (theirs.requests, theirs.input, theirs.output), model
        assert (ours.requests > 0) == (model in models), model


def never_below(books: Stand, model: str, *, at_least: int = 1) -> None:
    ours, theirs = books.booked(model), books.billed(model)
    assert ours.requests >= at_least
    assert ours.input >= theirs.input, model
    assert ours.output >= theirs.output, model
    assert ours.usd >= theirs.usd - 1e-9, model


async def event_equals(books: Stand, *, count: int = 1, index: int = -1) -> None:
    """The event's tokens and cost are those of all its attempts' bills."""
    event = await books.running.event(index, count=count)
    told = [a["tokens"] for a in event["attempts"] if a["tokens"] is not None]
    billed = [books.billed(model) for model in PRICES]
    assert sum(t["prompt"] for t in told) == sum(b.input for b in billed)
    assert sum(t["completion"] for t in told) == sum(b.output for b in billed)
    assert event["cost_usd"] == pytest.approx(sum(b.usd for b in billed), abs=1e-9)


async def event_never_below(books: Stand) -> None:
    """The event tells no less than the bill, in tokens and in USD."""
    event = await books.running.event()
    told = [a["tokens"] for a in event["attempts"] if a["tokens"] is not None]
    billed = [books.billed(model) for model in PRICES]
    assert sum(t["prompt"] for t in told) >= sum(b.input for b in billed)
    assert sum(t["completion"] for t in told) >= sum(b.output for b in billed)
    assert event["cost_usd"] >= sum(b.usd for b in billed) - 1e-9


# --- finished ------------------------------------------------------------------------------------------------------


@EACH
@WHOLE
async def test_a_finished_answer(books: Stand, dialect: str, stream: bool) -> None:
    answer = await books.ask(dialect, pin_of(dialect), stream=stream)
    assert answer.status == 200
    await books.settled()
    equal(books, MODELS[dialect])
    await event_equals(books)


async def test_several_answers_at_once(books: Stand) -> None:
    path, body = (
        "/v1/chat/completions",
        {"model": f"openai{LONG}", "n": 4, "messages": [{"role": "user", "content": "hi"}]},
    )
    async with books.http.post(path, json=body) as answer:
        assert len((await answer.json())["choices"]) == 4
    await books.settled()
    equal(books, GPT)


# --- the client leaves ---------------------------------------------------------------------------------------------

LEAVES = {
    "before headers": ("delay=5s", True, "asked"),
    "between headers and first event": ("first=5s", True, "asked"),
    "mid-stream": ("gap=5ms", True, "generating"),
    "during whole JSON": ("gap=20ms", False, "generating"),
    "while whole JSON arrives": ("slow-body=5s", False, "generating"),
}


@EACH
@pytest.mark.parametrize("stage", LEAVES)
async def test_the_client_leaves(books: Stand, dialect: str, stage: str) -> None:
    fault, stream, state = LEAVES[stage]
    requests = books.provider.ledger.requests
    model = MODELS[dialect]

    def there() -> bool:
        return bool(requests) and (state == "asked" or requests[0].completion_tokens >= 3)

    asking = asyncio.create_task(books.ask(dialect, pin_of(dialect), stream=stream, fault=fault))
    await leave_when(books, asking, there)
    await books.settled()
    assert requests[0].outcome == "client_gone"
    never_below(books, model)
    await event_never_below(books)
    event = await books.running.event()
    assert event["attempts"][-1]["outcome"] == "client_gone"


@EACH
@pytest.mark.parametrize("deltas", [1, 2, 3, 4])
async def test_leaving_after_each_piece(books: Stand, dialect: str, deltas: int) -> None:
    """Wherever in a stream the client leaves, what it had received is paid for."""
    requests = books.provider.ledger.requests
    asking = asyncio.create_task(books.ask(dialect, pin_of(dialect), stream=True, fault="gap=15ms"))
    await leave_when(books, asking, lambda: requests and requests[0].completion_tokens >= deltas)
    await books.settled()
    never_below(books, MODELS[dialect])


# --- more than one attempt -----------------------------------------------------------------------------------------


@WHOLE
async def test_a_hedge_that_won(books: Stand, stream: bool) -> None:
    books.provider.script([rule("first=300ms;gap=5ms", GPT)])
    answer = await books.ask("openai", "hedged", stream=stream)
    assert answer.header("x-sidecar-model") == MINI
    await books.settled()
    assert books.booked(MINI) == books.billed(MINI)
    never_below(books, GPT)
    await event_never_below(books)


@WHOLE
async def test_a_hedge_that_lost(books: Stand, stream: bool) -> None:
    books.provider.script([rule("first=80ms", GPT), rule("first=2s", MINI)])
    answer = await books.ask("openai", "hedged", stream=stream)
    assert answer.header("x-sidecar-model") == GPT
    await books.settled()
    assert books.booked(GPT) == books.billed(GPT)
    never_below(books, MINI)


@WHOLE
async def test_retried_and_then_well(books: Stand, stream: bool) -> None:
    books.provider.script([rule("status=503", times=1)])
    answer = await books.ask("openai", "openai", stream=stream)
    assert (answer.status, answer.header("x-sidecar-attempts")) == (200, "2")
    await books.settled()
    equal(books, GPT)
    assert books.booked(GPT).requests == 2, "the provider counts a refused request, too"
    await event_equals(books)


@WHOLE
@pytest.mark.parametrize("fault", ["status=503", "status=429;code=insufficient_quota", "retired"])
async def test_fallback(books: Stand, stream: bool, fault: str) -> None:
    books.provider.script([rule(fault, GPT)])
    answer = await books.ask("openai", "falls", stream=stream)
    assert answer.header("x-sidecar-model") == MINI
    await books.settled()
    equal(books, GPT, MINI)
    await event_equals(books)


async def test_all_fail(books: Stand) -> None:
    books.provider.script([rule("status=503")])
    answer = await books.ask("openai", "openai", stream=False)
    assert (answer.status, answer.header("x-sidecar-attempts")) == (503, "3")
    await books.settled()
    equal(books, GPT)
    assert books.booked(GPT).total == 0


# --- broken answers ------------------------------------------------------------------------------------------------

BROKEN = {
    "cut after the headers": "cut=0",
    "cut": "gap=5ms;cut=3",
    "ended too early": "gap=5ms;eof=3",
    "malformed": "gap=5ms;malformed=3",
    "error inside, at once": "error=0",
    "error inside, later": "gap=5ms;error=3",
}


@EACH
@pytest.mark.parametrize("fault", BROKEN.values(), ids=list(BROKEN))
async def test_a_stream_that_breaks(books: Stand, dialect: str, fault: str) -> None:
    await books.ask(dialect, pin_of(dialect), stream=True, fault=fault)
    await books.settled()
    never_below(books, MODELS[dialect])
    await event_never_below(books)
    assert books.billed(MODELS[dialect]).requests == (3 if fault in ("cut=0", "error=0") else 1)


@pytest.mark.parametrize("fault", ["cut=1", "eof=1", "malformed=1", "stall=1", "cut=headers"])
async def test_a_whole_answer_that_breaks(books: Stand, fault: str) -> None:
    answer = await books.ask("openai", "hasty", stream=False, fault=fault)
    assert answer.status == (200 if fault == "eof=1" else 504 if fault == "stall=1" else 502), (
        "half a JSON that ends well"
    )
    await books.settled()
    never_below(books, GPT)


@pytest.mark.parametrize("fault", ["stall=0", "gap=5ms;stall=2"], ids=["before its first word", "after it"])
async def test_a_stream_that_stalls(books: Stand, fault: str) -> None:
    await books.ask("openai", "hasty", stream=True, fault=fault)
    await books.settled()
    never_below(books, GPT)


async def test_a_fallback_after_a_cut_before_anything_came(books: Stand) -> None:
    books.provider.script([rule("cut=0", GPT)])
    answer = await books.ask("openai", "falls", stream=True)
    assert answer.header("x-sidecar-model") == MINI
    await books.settled()
    assert books.booked(MINI) == books.billed(MINI)
    never_below(books, GPT)


# --- from memory ---------------------------------------------------------------------------------------------------


@WHOLE
async def test_a_hit_costs_nothing(books: Stand, stream: bool) -> None:
    for state in ("miss", "hit", "hit"):
        answer = await books.ask("openai", "kept", stream=stream)
        assert answer.header("x-sidecar-cache") == state
        await books.settled()
    equal(books, GPT)
    assert books.booked(GPT).requests == 1
    hit = await books.running.event(count=3)
    assert (hit["cache"], hit["attempts"]) == ("hit", [])
    assert not hit["cost_usd"]


async def test_coalesced_requests_cost_one(books: Stand) -> None:
    answers = await asyncio.gather(*(books.ask("openai", "kept", stream=False, fault="delay=100ms") for _ in range(20)))
    assert sorted(a.header("x-sidecar-cache") or "" for a in answers) == ["coalesced"] * 19 + ["miss"]
    await books.settled()
    equal(books, GPT)
    assert books.booked(GPT).requests == 1


async def test_a_leader_that_leaves_pays_once_for_all(books: Stand) -> None:
    leader = asyncio.create_task(books.ask("openai", "kept", stream=False, fault="delay=200ms"))
    flights = books.running.lifecycle.shared.state.flights
    await until(lambda: len(flights) == 1)
    others = [asyncio.create_task(books.ask("openai", "kept", stream=False)) for _ in range(5)]
    await leave_when(books, leader, lambda: flights.waiting == 5)
    assert [(await other).status for other in others] == [200] * 5
    await books.settled()
    equal(books, GPT)


# --- what the provider says of it ----------------------------------------------------------------------------------


@EACH
@WHOLE
@pytest.mark.parametrize("fault", ["nousage", "usage=string", "usage=negative", "usage=twice"])
async def test_missing_or_odd_usage(books: Stand, dialect: str, stream: bool, fault: str) -> None:
    answer = await books.ask(dialect, pin_of(dialect), stream=stream, fault=fault)
    assert answer.status == 200
    await books.settled()
    if fault == "usage=twice":  # cumulative, never added
        equal(books, MODELS[dialect])
    else:
        never_below(books, MODELS[dialect])


@EACH
@WHOLE
async def test_a_huge_usage_does_not_blow_the_books(books: Stand, dialect: str, stream: bool) -> None:
    await books.ask(dialect, pin_of(dialect), stream=stream, fault="usage=huge")
    await books.settled()
    never_below(books, MODELS[dialect])
    assert books.booked(MODELS[dialect]).total < 10**6


# --- budgets -------------------------------------------------------------------------------------------------------


async def test_over_budget_serves_the_cheaper_model(books: Stand) -> None:
    served = [(await books.ask("openai", "spent", stream=False)).header("x-sidecar-model") for _ in range(3)]
    assert served == [GPT, MINI, MINI]
    await books.settled()
    equal(books, GPT, MINI)


async def test_a_refused_request_costs_nothing(provider: FakeProvider, tmp_path: Path) -> None:
    pins = PINS.replace(f"over_budget: {MINI}, ", "")
    async with stand(tmp_path, provider, pins) as books:
        codes = [(await books.ask("openai", "spent", stream=True)).status for _ in range(3)]
        assert codes == [200, 429, 429]
        await books.settled()
        equal(books, GPT)
        assert books.reserved() == {}
