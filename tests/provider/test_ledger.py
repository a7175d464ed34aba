"""The ledger: what was billed on every exit, and that a client's leaving is seen."""

import hashlib
import json
import time

import aiohttp
import pytest

PATH = "/v1/chat/completions"


async def _ledger(http) -> dict:
    async with http.get("/fake/ledger") as answer:
        return await answer.json()


async def test_finished_requests(http, chat):
    body = json.dumps(chat).encode()
    for _ in range(2):
        async with http.post(PATH, data=body, headers={"X-Mine": "1"}) as answer:
            usage = (await answer.json())["usage"]
    ledger = await _ledger(http)
    assert (ledger["open"], ledger["aborted"]) == (0, 0)
    assert ledger["totals"]["gpt-test-1"] == {
        "requests": 2,
        "prompt_tokens": 2 * usage["prompt_tokens"],
        "completion_tokens": 2 * usage["completion_tokens"],
    }
    last = ledger["requests"][-1]
    assert usage["prompt_tokens"] == (len(body) - len("gpt-test-1")) // 4 == last["prompt_tokens"]
    assert last["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert ["X-Mine", "1"] in last["headers"]
    wanted = {
        "method": "POST",
        "path": PATH,
        "model": "gpt-test-1",
        "dialect": "openai",
        "status": 200,
        "outcome": "ok",
    }
    assert wanted.items() <= last.items()
    assert (last["stream"], last["closed_at"]) == (False, None)


async def test_cut_stream_bills_what_was_sent(raw_post, chat, provider):
    await raw_post(PATH, {**chat, "stream": True}, "x-fake-fault: cut=3")
    record = provider.ledger.requests[-1]
    assert (record.outcome, record.completion_tokens, record.stream) == ("cut", 3, True)
    assert record.prompt_tokens > 0


async def test_refusals_cost_nothing(http, chat, provider):
    async with http.post(PATH, json=chat, headers={"x-fake-fault": "status=500"}):
        pass
    assert provider.ledger.totals == {}
    assert (provider.ledger.requests[-1].status, provider.ledger.requests[-1].outcome) == (500, "failed")


async def test_leaving_stops_a_stream(raw_post, chat, provider, eventually):
    asked = ("x-fake-fault: gap=10ms", "x-fake-tokens: 1000")
    await raw_post(PATH, {**chat, "stream": True}, *asked, until=b"Hello")
    left = time.monotonic()
    await eventually(lambda: provider.ledger.open == 0)
    assert time.monotonic() - left < 0.5
    record = provider.ledger.requests[-1]
    assert record.outcome == "client_gone"
    assert record.closed_at >= record.time
    assert provider.ledger.aborted == 1
    assert provider.ledger.totals["gpt-test-1"].completion_tokens == record.completion_tokens < 100


async def test_leaving_stops_a_whole_answer(http, chat, provider, eventually):
    headers = {"x-fake-fault": "gap=10ms", "x-fake-tokens": "1000"}
    with pytest.raises(TimeoutError):
        await http.post(PATH, json=chat, headers=headers, timeout=aiohttp.ClientTimeout(0.1))
    await eventually(lambda: provider.ledger.open == 0)
    assert provider.ledger.requests[-1].outcome == "client_gone"
    assert 0 < provider.ledger.totals["gpt-test-1"].completion_tokens < 100


async def test_totals_are_known_while_a_stream_runs(http, chat, provider):
    headers = {"x-fake-fault": "stall=2"}
    async with http.post(PATH, json={**chat, "stream": True}, headers=headers) as answer:
        await answer.content.readuntil(b"from ")
        ledger = await _ledger(http)
        assert ledger["open"] == 1
        assert ledger["requests"][-1]["outcome"] == "open"
        assert ledger["totals"]["gpt-test-1"]["completion_tokens"] == 2


async def test_reset_and_script_over_http(http, chat):
    rules = [{"match": {"path": "/v1/*", "model": "gpt-*"}, "fault": "status=503", "times": 1}]
    async with http.put("/fake/script", json=rules) as answer:
        assert await answer.json() == {"rules": 1}
    statuses = []
    for _ in range(2):
        async with http.post(PATH, json=chat) as answer:
            statuses.append(answer.status)
    assert statuses == [503, 200]
    async with http.put("/fake/script", json=[{"fault": "boom"}]) as answer:
        assert answer.status == 400
    async with http.delete("/fake/script") as answer:
        assert answer.status == 200
    async with http.delete("/fake/ledger") as answer:
        assert answer.status == 200
    ledger = await _ledger(http)
    assert (ledger["totals"], ledger["requests"]) == ({}, [])


async def test_header_fault_beats_and_spares_the_script(http, chat, provider):
    provider.script([{"fault": "status=503", "times": 1}])
    async with http.post(PATH, json=chat, headers={"x-fake-fault": "status=500"}) as answer:
        assert answer.status == 500
    async with http.post(PATH, json=chat) as answer:
        assert answer.status == 503
