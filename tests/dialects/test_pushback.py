"""How long a provider asks to be left alone: each source, their order, and what says nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.pushback import LONGEST_S, may_retry, retry_after_s

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC).timestamp()


def asked(headers: dict[str, str], *, status: int = 429, body: bytes = b"", dialect: str = "openai") -> float | None:
    return retry_after_s(status, headers, body, dialect, NOW)


def retry_info(*delays: object) -> bytes:
    kind = "type.googleapis.com/google.rpc.RetryInfo"
    return json.dumps({"error": {"code": 429, "details": [{"@type": kind, "retryDelay": d} for d in delays]}}).encode()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "86400"}, 86_400.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Monday, 23-Nov-26 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon Nov 23 12:00:30 2026"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30"}, 30.0),
    ],
)
def test_headers(headers: dict[str, str], seconds: float) -> None:
    assert asked(headers) == pytest.approx(seconds)
    assert asked(headers, status=503) == pytest.approx(seconds)


def test_the_finer_header_is_asked_first() -> None:
    headers = {"retry-after": "2", "x-ms-retry-after-ms": "1400", "retry-after-ms": "1300"}
    assert asked(headers) == pytest.approx(1.3)
    del headers["retry-after-ms"]
    assert asked(headers) == pytest.approx(1.4)
    assert asked(headers, body=retry_info("9s")) == pytest.approx(1.4)


NOTHING = ["", "0", "-1", "-5.5", "soon", "nan", "inf", "-inf", "1e3", "1_0", "٣", "99999999999999999999", "7s"]


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_value_that_says_nothing_leaves_the_word_to_the_next_source(nothing: str) -> None:
    assert asked({"retry-after": nothing}) is None
    assert asked({"retry-after-ms": nothing}) is None
    assert asked({"retry-after-ms": nothing, "x-ms-retry-after-ms": nothing, "retry-after": "3"}) == 3.0
    assert asked({"retry-after": nothing}, body=retry_info("4s"), dialect="gemini") == 4.0
    assert asked({"retry-after": nothing, "x-ratelimit-reset-tokens": "5s"}) == 5.0


def test_a_time_of_day_is_no_length_of_time() -> None:
    assert asked({"retry-after": str(int(NOW) + 30)}) is None
    assert asked({"retry-after-ms": str((int(NOW) + 30) * 1000)}) is None


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 23 Nov 2026 11:59:59 GMT",
        "Mon, 23 Nov 1026 11:59:59 GMT",
        "Mon, 99 Foo 2026 99:99:99 GMT",
        "Sun, 31 Dec 99999999999 23:59:59 GMT",
        "Mon, ",
    ],
)
def test_dates_that_are_over_or_none(date: str) -> None:
    assert asked({"retry-after": date}) is None


def test_googles_delay_stands_in_the_answer() -> None:
    assert asked({}, body=retry_info("34.074824224s"), dialect="gemini") == pytest.approx(34.074824224)
    assert asked({}, body=b"[" + retry_info("39s") + b"]", dialect="gemini") == 39.0
    assert asked({}, body=retry_info("39s"), dialect="openai") == 39.0  # Google's OpenAI-compatible paths
    assert asked({}, body=retry_info("39s"), status=503, dialect="gemini") == 39.0
    assert asked({}, body=retry_info("2s", "5s", "x", 7, None), dialect="gemini") == 5.0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"error":3}', b'{"error":{"details":{}}}', b'{"error":{"details":[3]}}']
)
def test_answers_without_a_delay(body: bytes) -> None:
    assert asked({}, body=body, dialect="gemini") is None


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("2m59.56s", 179.56), ("900µs", 0.0009)],
)
def test_openais_resets(reset: str, seconds: float) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}
    assert asked(headers) == pytest.approx(seconds)
    assert asked(headers, status=503) is None, "elsewhere a reset is only the state of an account"
    assert asked(headers | {"retry-after": "9"}) == 9.0


@pytest.mark.parametrize("reset", ["", "0s", "-1", "60", "1s garbage", "m", "s1", "1h1", "999999h"])
def test_resets_that_say_nothing(reset: str) -> None:
    assert asked({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}) is None


def test_only_limits_that_are_used_up_have_to_be_waited_for() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "17",
        "x-ratelimit-reset-requests": "10m",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "3s",
    }
    assert asked(headers) == 3.0
    assert asked(headers | {"x-ratelimit-remaining-requests": "0"}) == 600.0, "all of them have to be passed"
    assert asked(headers | {"x-ratelimit-remaining-tokens": "-1"}) == 3.0, "Azure's -1 is no number"
    assert asked({"x-ratelimit-reset-tokens": "2s"}) == 2.0


def test_anthropics_resets() -> None:
    headers = {
        "anthropic-ratelimit-requests-remaining": "3",
        "anthropic-ratelimit-requests-reset": "2026-11-23T13:00:00Z",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-23T12:00:20Z",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-23T13:00:45.5+01:00",
    }
    assert asked(headers, dialect="anthropic") == 45.5
    assert asked(headers, dialect="openai") is None
    for broken in ("2026-11-23", "soon", "2026-13-41T99:00:00Z", "2025-01-01T00:00:00Z", "9999-01-01T00:00:00Z"):
        assert asked({"anthropic-ratelimit-tokens-reset": broken}, dialect="anthropic") is None


@pytest.mark.parametrize(
    ("value", "may"), [("false", False), (" False ", False), ("true", True), ("", True), ("no", True), (None, True)]
)
def test_may_retry(value: str | None, may: bool) -> None:
    assert may_retry({} if value is None else {"x-should-retry": value}) is may


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "retry-after-ms",
                "x-ms-retry-after-ms",
                "x-ratelimit-reset-tokens",
                "x-ratelimit-remaining-tokens",
                "anthropic-ratelimit-tokens-reset",
            ]
        ),
        st.one_of(st.text(max_size=30), st.from_regex(r"\A(Mon, )?[-0-9A-Za-z:., ]{0,30}\Z"), st.floats().map(str)),
    ),
    st.binary(max_size=100) | st.text(max_size=20).map(retry_info),
    st.sampled_from(["openai", "anthropic", "gemini"]),
)
def test_whatever_a_provider_sends_it_is_a_sane_wait_or_none(
    headers: dict[str, str], body: bytes, dialect: str
) -> None:
    seconds = asked(headers, body=body, dialect=dialect)
    assert seconds is None or 0 < seconds <= LONGEST_S
