from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.errors import Code
from sidecar.runtime.guard import check, host_of, is_loopback

ALLOWED = frozenset({"my-app.local"})


def code(*pairs: tuple[str, str]) -> Code | None:
    refusal = check(CIMultiDictProxy(CIMultiDict(pairs)), ALLOWED)
    return refusal.code if refusal else None


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:4010", "127.0.0.1", "127.0.0.1:1", "127.8.8.8", "[::1]", "[::1]:80", "my-app.local:99",
     "localhost."],
)  # fmt: skip
def test_own_hosts(host: str) -> None:
    assert code(("Host", host)) is None


@pytest.mark.parametrize(
    "host", ["attacker.example", "127.0.0.1.attacker.example", "169.254.169.254", "0.0.0.0", "[fe80::1]"]
)
def test_foreign_hosts(host: str) -> None:
    assert code(("Host", host)) is Code.FORBIDDEN


@pytest.mark.parametrize("host", ["", "a,b", "user@localhost", "localhost/x", "localhost:x", "a b", "localhost:123456"])
def test_malformed_hosts(host: str) -> None:
    assert code(("Host", host)) is Code.BAD_REQUEST


def test_no_host_and_two_hosts() -> None:
    assert code() is Code.BAD_REQUEST
    assert code(("Host", "localhost"), ("Host", "localhost")) is Code.BAD_REQUEST


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Origin", "http://localhost:3000", None),
        ("Origin", "http://my-app.local", None),
        ("Origin", "http://attacker.example", Code.FORBIDDEN),
        ("Origin", "null", Code.FORBIDDEN),
        ("Origin", "http://[bad", Code.FORBIDDEN),
        ("Sec-Fetch-Site", "cross-site", Code.FORBIDDEN),
        ("Sec-Fetch-Site", "same-origin", None),
        ("Sec-Fetch-Mode", "cors", None),
    ],
)
def test_browsers(name: str, value: str, expected: Code | None) -> None:
    assert code(("Host", "localhost"), (name, value)) is expected


def test_parts() -> None:
    assert host_of("[::1]:80") == "::1"
    assert host_of("a:b:c") is None
    assert is_loopback("::1")
    assert not is_loopback("localhost.attacker.example")
