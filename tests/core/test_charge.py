"""What each way to end costs: the bill where it is known, no less than it where it isn't."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.charge import Charge, charge
from sidecar.core.facts import Attempt, Cause, Fault, Result, Target, Usage

OK, FAILED, LOST, GONE = Result.OK, Result.FAILED, Result.LOST_HEDGE, Result.CLIENT_GONE
RESERVED = (100, 50)
KEPT = Charge(Usage(100, 50), kept=True)
NOTHING = Charge(Usage(), kept=False)
UNSENT = Charge(Usage(), kept=False, sent=False)
BILL = Usage(90, 40, cached_input=30, cache_write=5, reasoning=12)


@dataclass
class Stream:
    usage: Usage | None = None
    text_bytes: int = 0
    deltas: int = 0


def ended(
    result: Result,
    status: int | None = 200,
    fault: Fault | None = None,
    *,
    usage: Usage | None = None,
    heard: Stream | None = None,
) -> Attempt:
    attempt = Attempt(1, Target("p", "m"), Cause.FIRST, 0.0, status=status, fault=fault, result=result)
    attempt.usage, attempt.heard = usage, heard
    return attempt


CASES = {
    "complete": (ended(OK, usage=BILL), Charge(BILL, kept=False)),
    "complete, dearer than thought": (ended(OK, usage=Usage(500, 700)), Charge(Usage(500, 700), kept=False)),
    "complete, told by the stream alone": (ended(OK, heard=Stream(BILL, 99, 9)), Charge(BILL, kept=False)),
    "complete without usage": (ended(OK), KEPT),
    "complete without usage, longer than thought": (
        ended(OK, heard=Stream(None, text_bytes=401, deltas=60)),
        Charge(Usage(100, 101), kept=True),
    ),
    "complete, nonsense": (
        ended(OK, usage=Usage(120, 0, odd=True)),
        Charge(Usage(120, 50, odd=True), kept=True),
    ),
    "refused by the provider": (ended(FAILED, 429, Fault.RATE_LIMIT), NOTHING),
    "the caller's fault": (ended(FAILED, 400, Fault.CALLER), NOTHING),
    "overloaded": (ended(FAILED, 503, Fault.OVERLOAD), NOTHING),
    "no connection": (ended(FAILED, None, Fault.CONNECT), UNSENT),
    "a dead kept connection": (ended(FAILED, None, Fault.STALE), UNSENT),
    "an error in a 200 before anything": (
        ended(FAILED, 200, Fault.OVERLOAD, heard=Stream()),
        Charge(Usage(100), kept=False),
    ),
    "our credential could not be read": (ended(FAILED, None, Fault.REFUSED), NOTHING),
    "the same, its input was told": (
        ended(FAILED, 200, Fault.OVERLOAD, heard=Stream(Usage(80, 1))),
        Charge(Usage(80, 1), kept=False),
    ),
    "an error in a 200 after something": (
        ended(FAILED, 200, Fault.OVERLOAD, heard=Stream(None, text_bytes=9, deltas=2)),
        Charge(Usage(100, 3), kept=False),
    ),
    "broken, deltas count": (
        ended(FAILED, 200, Fault.BROKEN, heard=Stream(None, text_bytes=20, deltas=7)),
        Charge(Usage(100, 7), kept=False),
    ),
    "broken, the stream says more": (
        ended(FAILED, 200, Fault.BROKEN, heard=Stream(Usage(300, 9, cached_input=7), text_bytes=20, deltas=7)),
        Charge(Usage(300, 9, cached_input=7), kept=False),
    ),
    "broken, the stream says nonsense": (
        ended(FAILED, 200, Fault.BROKEN, heard=Stream(Usage(0, 0, odd=True), text_bytes=20, deltas=7)),
        Charge(Usage(100, 50, odd=True), kept=True),
    ),
    "the client left in the middle": (ended(GONE, heard=Stream(None, 400, 10)), Charge(Usage(100, 100), kept=False)),
    "the client left before anything": (ended(GONE, heard=Stream()), KEPT),
    "the client left before the headers": (ended(GONE, None), KEPT),
    "the client left a whole answer": (ended(GONE, usage=BILL), Charge(BILL, kept=False)),
    "a lost hedge": (ended(LOST, heard=Stream(Usage(140, 1))), Charge(Usage(140, 50), kept=True)),
    "a timeout": (ended(FAILED, None, Fault.TIMEOUT), KEPT),
    "given up as slow": (ended(FAILED, 200, Fault.SLOW, heard=Stream()), KEPT),
    "broken before anything": (ended(FAILED, 200, Fault.BROKEN, heard=Stream()), KEPT),
}


@pytest.mark.parametrize("name", CASES)
def test_each_ending(name: str) -> None:
    attempt, expected = CASES[name]
    assert charge(attempt, *RESERVED) == expected


USAGES = st.none() | st.builds(Usage, *[st.integers(0, 10**8)] * 5, st.booleans())
STREAMS = st.none() | st.builds(Stream, USAGES, st.integers(0, 10**7), st.integers(0, 10**5))


@given(
    st.sampled_from(list(Result)),
    st.sampled_from([None, 200, 206, 400, 429, 500]),
    st.none() | st.sampled_from(list(Fault)),
    USAGES,
    STREAMS,
)
def test_never_below_what_was_received(
    result: Result, status: int | None, fault: Fault | None, usage: Usage | None, heard: Stream | None
) -> None:
    cost = charge(ended(result, status, fault, usage=usage, heard=heard), *RESERVED)
    assert min(cost.usage.input, cost.usage.output) >= 0
    if cost.kept:
        assert cost.usage.input >= RESERVED[0]
        assert cost.usage.output >= RESERVED[1]
    sent = fault not in (Fault.CONNECT, Fault.STALE) and (status or 0) < 400
    if result is not Result.OK and sent and heard is not None and heard.deltas:
        assert cost.usage.input >= 100
        assert cost.usage.output >= max(heard.deltas, heard.text_bytes / 4)
