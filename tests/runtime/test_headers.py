from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.runtime.headers import meterable_encoding, to_client, to_provider


def proxied(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def test_to_provider_keeps_order_duplicates_and_case() -> None:
    headers = proxied(("X-B", "1"), ("x-a", "2"), ("X-B", "3"), ("Authorization", "Bearer k"), ("traceparent", "00-1"))
    out = to_provider(headers, drop_credentials=False, encoding=None)
    assert list(out.items()) == list(headers.items())


@pytest.mark.parametrize(
    "name",
    ["Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "Host",
     "Content-Length", "Expect", "x-sidecar-unit", "X-Sidecar-Anything", "X-Model-Capability"],
)  # fmt: skip
def test_to_provider_drops_what_ends_here(name: str) -> None:
    assert name not in to_provider(proxied((name, "x")), drop_credentials=False, encoding=None)


def test_what_connection_names_ends_here_in_both_directions() -> None:
    headers = proxied(("Connection", "close, X-Hop"), ("X-Hop", "1"), ("X-End", "2"))
    assert list(to_provider(headers, drop_credentials=False, encoding=None)) == ["X-End"]
    assert list(to_client(headers)) == ["X-End"]


def test_injection_removes_every_credential_of_the_caller() -> None:
    headers = proxied(
        ("Authorization", "a"),
        ("x-api-key", "b"),
        ("API-Key", "c"),
        ("x-goog-api-key", "d"),
        ("Cookie", "e"),
        ("X", "f"),
    )
    assert list(to_provider(headers, drop_credentials=True, encoding=None).items()) == [("X", "f")]


def test_an_encoding_of_ours_replaces_the_callers() -> None:
    headers = proxied(("Accept-Encoding", "br"), ("Accept", "*/*"))
    out = to_provider(headers, drop_credentials=False, encoding="identity")
    assert out.getall("Accept-Encoding") == ["identity"]


def test_a_provider_cannot_speak_in_our_name() -> None:
    sent = to_client(proxied(("x-sidecar-model", "forged"), ("Set-Cookie", "a"), ("Set-Cookie", "b")))
    assert list(sent.items()) == [("Set-Cookie", "a"), ("Set-Cookie", "b")]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, None),
        ("gzip, deflate", "gzip, deflate"),
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1, gzip;q=0.5", "gzip;q=0.5"),
        ("br", "identity"),
        ("*", "identity"),
        ("identity", "identity"),
    ],
)
def test_whole_answers_are_asked_for_in_codings_that_can_be_metered(asked: str | None, sent: str | None) -> None:
    assert meterable_encoding(asked) == sent
