"""What goes wrong at the provider looks to an SDK as it would without us, or, where that would be a lie, clearer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.provider import FakeProvider
from tests.conformance.calls import ALL, STREAMED, WHOLE, Call
from tests.conformance.conftest import bases
from tests.conformance.sides import NO_RETRY, Pair, Script, Side, pins, told
from tests.harness import Running, sidecar

CALLERS = [400, 401, 403, 404, 409, 413, 422]
PASSING_BY = [408, 429, 500, 502, 503, 504, 529]

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


def catching(call: Call, fault: str) -> Script:
    """The call with a fault; what it raises, of whatever class, is its result."""

    async def script(sdk, model):
        try:
            return await call(sdk, model, **{"x-fake-fault": fault})
        except Exception as exc:  # noqa: BLE001 - told, and compared
            return told(exc)

    return script


async def same(pair: Pair, name: str, *faults: str, attempts: list[int] | None = None) -> list[Any]:
    """The call with each of the faults, by one client."""
    kind, call = ALL[name]

    async def script(sdk, model):
        return [await catching(call, fault)(sdk, model) for fault in faults]

    return await pair.same(kind, script, bodies=name != "chat-stream", attempts=attempts)


@pytest.fixture
async def proxy(provider: FakeProvider, tmp_path: Path) -> AsyncIterator[Running]:
    """With as much extra load as a whole table of faults needs."""
    async with sidecar(tmp_path, bases(provider), pins=pins(defaults="{extra_load: {burst: 100}}")) as running:
        yield running


@pytest.mark.parametrize("name", ALL)
async def test_each_status(pair: Pair, name: str) -> None:
    """Same class, status, body and headers, `retry-after` and `retry-after-ms` among them.

    What passes by itself we have tried three times by then; the caller's own errors once.
    """
    statuses, attempts = CALLERS + PASSING_BY, [1] * len(CALLERS) + [3] * len(PASSING_BY)
    faults = [f"status={status}; retry-after=7; retry-after-ms=7" for status in statuses]
    seen = await same(pair, name, *faults, attempts=attempts)
    assert [error["status_code"] or error["code"] for error in seen] == statuses
    assert len({error["raised"] for error in seen}) > 1


@pytest.mark.parametrize("name", ALL)
async def test_codes(pair: Pair, name: str) -> None:
    seen = await same(pair, name, "status=429; code=insufficient_quota", "retired", "status=400; code=odd")
    assert all("raised" in error for error in seen)


@pytest.mark.parametrize("name", ALL)
async def test_the_provider_s_own_error_inside_a_200(pair: Pair, name: str) -> None:
    """Before anything was said it is a failure like any other: in a whole answer always."""
    later = 1 if name in STREAMED else 3
    await same(pair, name, "error=0", "error=1", "error=2; code=odd", attempts=[3, later, later])


@pytest.mark.parametrize("name", ALL)
async def test_odd_answers(pair: Pair, name: str) -> None:
    usages = [f"usage={kind}" for kind in ("string", "negative", "huge", "twice")]
    await same(pair, name, "model=other-9", "nousage", *usages, "large=300000", "delay=20ms; first=20ms; gap=5ms")


async def test_an_answer_that_is_too_large_to_be_held(pair: Pair) -> None:
    """Over 8 MiB it passes as it comes (and is not metered)."""
    await same(pair, "chat", "large=9000000", "large=9000000; encoding=gzip")


@pytest.mark.parametrize("name", WHOLE)
async def test_gzip(pair: Pair, name: str) -> None:
    kind, call = WHOLE[name]
    await pair.same(kind, catching(call, "encoding=gzip"))


INTERRUPTED = {
    "chat-stream": ("APIError", "code"),
    "response-stream": ("APIError", "code"),
    "messages-stream": ("APIStatusError", "body"),
    "generate-stream": ("ServerError", "details"),
}


@pytest.mark.parametrize("fault", ["cut=1", "malformed=1", "eof=1"])
@pytest.mark.parametrize("name", STREAMED)
async def test_a_stream_that_breaks_raises(pair: Pair, name: str, fault: str) -> None:
    """By design (3.5) it ends as the dialect's error event. So the class differs from a direct call's.

    Direct, `eof` is a silent end in every SDK, `cut` a transport error (httpx's own with Anthropic, aiohttp's with
    Gemini), and with Gemini `malformed` waits for ever, since aiohttp tells nobody of a bad chunk.
    """
    kind, call = STREAMED[name]
    seen = await pair.proxied.play(kind, catching(call, fault))
    raised, told_in = INTERRUPTED[name]
    assert seen.result["raised"] == raised
    assert "sidecar_stream_interrupted" in str(seen.result[told_in]) or "broke off" in str(seen.result[told_in])
    if (name, fault) != ("generate-stream", "malformed=1"):
        direct = await pair.direct.play(kind, catching(call, fault))
        assert isinstance(direct.result, list) is (fault == "eof=1")


BEFORE_COMMIT = [(name, fault) for name in WHOLE for fault in ("cut=headers", "cut=0", "cut=1", "malformed=1")]
BEFORE_COMMIT += [(name, fault) for name in STREAMED for fault in ("cut=headers", "cut=0")]


@pytest.mark.parametrize(("name", "fault"), BEFORE_COMMIT)
async def test_an_answer_that_breaks_before_its_commit_is_a_502(pair: Pair, name: str, fault: str) -> None:
    """By design (3.5); a direct call has its transport's error, and like it SDKs retry a 502."""
    kind, call = ALL[name]
    seen = await pair.proxied.play(kind, catching(call, fault))
    assert seen.result["raised"] == ("ServerError" if kind == "gemini" else "InternalServerError")
    assert 502 in (seen.result["status_code"], seen.result["code"])
    for status, headers in seen.answers:
        assert status == 502
        assert dict(headers)["x-sidecar-error"] == "sidecar_upstream_unreachable"


@pytest.mark.parametrize("name", WHOLE)
async def test_half_a_body_that_ends_cleanly_passes_as_it_is(pair: Pair, name: str) -> None:
    """If it was never better."""
    kind, call = WHOLE[name]
    seen = await pair.same(kind, catching(call, "eof=1"), attempts=[3])
    assert seen["raised"] == "JSONDecodeError"


async def embed_persistently(sdk, model):
    return await sdk.with_options(max_retries=2).embeddings.create(model=model("embed"), input="a")


async def write_persistently(sdk, model):
    return await WHOLE["messages"][1](sdk.with_options(max_retries=2), model)


PERSISTENT = {"openai": embed_persistently, "anthropic": write_persistently}


@pytest.mark.parametrize("fault", ["status=409", "status=429; code=insufficient_quota"])
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_the_sdk_s_own_retries(pair: Pair, times: int, fault: str) -> None:
    """Where we try nothing ourselves: as many, with the same headers (`x-stainless-retry-count`), helpful or not."""
    for side in (pair.direct, pair.proxied):
        side.provider.script([{"fault": f"{fault}; retry-after-ms=10", "times": times}])
    said = await pair.same("openai", embed_persistently)
    assert ("raised" in said) is (times == 3)
    assert len(pair.proxied.provider.ledger.requests) == min(times + 1, 3)


@pytest.mark.parametrize("fault", ["status=503", "status=429", "status=408"])
@pytest.mark.parametrize("times", [1, 2, 3, 9])
@pytest.mark.parametrize("sdk", PERSISTENT)
async def test_our_retries_instead_of_the_sdk_s(pair: Pair, sdk: str, times: int, fault: str) -> None:
    """The same result, the provider is asked as often as without us, never less, and the SDK doesn't multiply ours."""
    for side in (pair.direct, pair.proxied):
        side.provider.script([{"fault": f"{fault}; retry-after-ms=10", "times": times}])
    direct, proxied = await pair.play(sdk, PERSISTENT[sdk])
    assert proxied.result == direct.result
    assert ("raised" in proxied.result) is (times >= 3)
    asked = [len(side.provider.ledger.requests) for side in (pair.direct, pair.proxied)]
    assert asked == [min(times + 1, 3)] * 2
    assert len(proxied.answers) == 1
    assert (NO_RETRY in proxied.answers[0][1]) is (times >= 3)


async def test_where_we_may_not_the_sdk_still_does(provider: FakeProvider, tmp_path: Path) -> None:
    """No extra load is left: ours are suppressed, so the answer doesn't tell the SDK to stop, and it has its tries."""
    provider.script([{"fault": "status=503; retry-after-ms=10", "times": 9}])
    defaults = "{extra_load: {burst: 0, ratio: 0}}"
    async with sidecar(tmp_path, bases(provider), pins=pins(defaults=defaults)) as running:
        seen = await Side(running.url, provider, pinned=True).play("openai", embed_persistently)
    assert seen.result["raised"] == "InternalServerError"
    assert len(provider.ledger.requests) == len(seen.answers) == 3
    assert all(NO_RETRY not in headers for _, headers in seen.answers)
