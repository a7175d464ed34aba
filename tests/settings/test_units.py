"""How durations, sizes, shares, addresses and URLs are written, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings.units import (
    Address,
    BaseUrl,
    Delay,
    Duration,
    EnvName,
    FleetUrl,
    HedgeAfter,
    Hidden,
    Percent,
    Proxy,
    Size,
    UnfitError,
    Url,
)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (Duration, "200ms", 0.2),
        (Duration, "3s", 3),
        (Duration, "1.5s", 1.5),
        (Duration, "10m", 600),
        (Duration, "6h", 21600),
        (Duration, "2d", 172800),
        (Delay, "0s", 0),
        (Size, "8KiB", 8192),
        (Size, "32MiB", 32 * 1024**2),
        (Size, "0.5GiB", 512 * 1024**2),
        (Size, 4096, 4096),
        (Percent, 10, 10),
        (Percent, 0.01, 0.01),
        (Percent, 100, 100),
        (Percent, 0, 0),
    ],
)
def test_numbers_with_units(kind, raw, value):
    assert kind.parse(raw) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        (Duration, 3, "needs a unit"),
        (Duration, 0.5, "needs a unit"),
        (Duration, "3", "needs a unit"),
        (Duration, "0s", "0 is not possible"),
        (Duration, "-1s", "not a duration"),
        (Duration, "3 s", "not a duration"),
        (Duration, "3sec", "not a duration"),
        (Duration, "\u0661s", "not a duration"),
        (Duration, True, "not a duration"),
        (Duration, "99999d", "10 years"),
        (Size, "16MB", "not a size"),
        (Size, "32", "not a size"),
        (Size, True, "not a size"),
        (Size, 0, "not possible"),
        (Size, -1, "not possible"),
        (Size, "9999GiB", "not possible"),
        (Size, 1.5, "not a size"),
        (Percent, 100.01, "between 0 and 100"),
        (Percent, -1, "between 0 and 100"),
        (Percent, 0.001, "two decimals"),
        (Percent, "10", "not a number"),
        (Percent, True, "not a number"),
        (Percent, float("nan"), "between"),
        (Percent, float("inf"), "between"),
        (HedgeAfter, "p50", "between p50"),
        (HedgeAfter, "p100", "between p50"),
        (HedgeAfter, "p49", "between p50"),
        (HedgeAfter, 200, "needs a unit"),
        (HedgeAfter, "q95", "not a duration"),
        (Address, "127.0.0.1", "no port"),
        (Address, "127.0.0.1:", "no port"),
        (Address, ":4010", "not host:port"),
        (Address, "::1:4010", "not host:port"),
        (Address, "127.0.0.1:70000", "over 65535"),
        (Address, "http://127.0.0.1:4010", "not host:port"),
        (Address, 4010, "not an address"),
        (BaseUrl, "api.openai.com/v1", "not a URL"),
        (BaseUrl, "ftp://api.openai.com", "not a URL"),
        (BaseUrl, "https://", "not a URL"),
        (BaseUrl, "https://[::1", "not a URL"),
        (BaseUrl, "https://h:99999/v1", "not a URL"),
        (BaseUrl, "https://u:p@h/v1", "user name"),
        (BaseUrl, "https://h/v1?key=1", "query"),
        (BaseUrl, "https://h/v1#x", "query"),
        (BaseUrl, "https://h/v1/../x", "segment"),
        (BaseUrl, "https://h/\r\nx: y", "not a URL"),
        (BaseUrl, 1, "not a URL"),
        (Proxy, "socks5://h:1", "not a URL"),
        (Proxy, True, "not a URL"),
        (FleetUrl, "http://h", "not a URL"),
        (EnvName, "sk-abc", "not the name"),
        (Hidden, 5, "not text"),
    ],
)
def test_what_is_refused_names_message_and_fix(kind, raw, message):
    with pytest.raises(UnfitError, match=message) as caught:
        kind.parse(raw)
    assert caught.value.fix


def test_hedges_wait_for_a_delay_or_a_quantile():
    fixed, live = HedgeAfter.parse("200ms"), HedgeAfter.parse("p99.5")
    assert (fixed.delay_s, fixed.quantile) == (0.2, None)
    assert (live.delay_s, live.quantile) == (None, pytest.approx(0.995))


def test_addresses():
    assert (Address.parse("127.0.0.1:0").host, Address.parse("127.0.0.1:0").port) == ("127.0.0.1", 0)
    assert (Address.parse("[::1]:4010").host, Address.parse("[::1]:4010").port) == ("::1", 4010)
    assert Address.parse("localhost:4010").host == "localhost"


@pytest.mark.parametrize("text", ["200ms", "1.5ms", "3s", "10m", "6h", "2d", "90s"])
def test_durations_show_themselves_as_people_write_them(text):
    assert Duration.parse(repr(Duration.parse(text))) == Duration.parse(text)
    assert repr(Duration.parse("3600s")) == "1h"
    assert repr(Size.parse(32 * 1024**2)) == "32MiB"


@given(st.integers(0, 10_000))
def test_every_ten_thousandth_is_a_share(points):
    assert Percent.parse(points / 100).points == points


SECRET = "hunter2-canary"  # what must not be shown


@pytest.mark.parametrize(
    "value",
    [
        Url.parse(f"https://user:{SECRET}@h/"),
        FleetUrl.parse(f"redis://:{SECRET}@h:6379/0"),
        Proxy.parse(f"http://u:{SECRET}@proxy:3128"),
        Hidden.parse(SECRET),
    ],
)
def test_repr_hides_what_may_be_secret(value):
    assert SECRET in value
    assert SECRET not in repr(value)


@pytest.mark.parametrize("kind", [EnvName, BaseUrl, Proxy, FleetUrl, Url, Hidden])
@pytest.mark.parametrize("raw", [f"sk {SECRET}", f"https://u:{SECRET}@h/?x", f"://{SECRET}", [SECRET]])
def test_refusals_of_such_values_do_not_show_them(kind, raw):
    try:
        kind.parse(raw)
    except UnfitError as error:
        assert SECRET not in f"{error} {error.fix}"
