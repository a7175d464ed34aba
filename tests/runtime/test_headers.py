from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.runtime import headers as module
from sidecar.runtime.headers import CREDENTIALS, meterable_encoding, to_client, to_provider


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


ENDS = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
ENDS |= {"proxy-authenticate", "proxy-authorization"}
FRAMING = {"host", "expect", "content-length"}
words = [*ENDS, *FRAMING, *CREDENTIALS, "accept-encoding", "x-sidecar-unit", "x-model-capability", "x-hop", "close"]
names = st.sampled_from([*words, "accept", "x-" + "y" * 80, "x-ü"]).flatmap(
    lambda name: st.sampled_from([name, name.title(), name.upper()])
)
values = st.sampled_from(
    ["x", "", "é", "\udcff", "a\udce9", "close", "keep-alive", "close, X-Hop", "Keep-Alive , accept"]
)
lists = st.lists(st.tuples(names, values), max_size=8)


def on_the_wire(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def as_sent(value: str) -> str:
    """Other bytes than UTF-8 are Latin-1."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1") if max(value, default="") >= "\udc80" else value


@given(lists, st.booleans(), st.sampled_from([None, "identity"]))
def test_which_headers_pass(pairs: list[tuple[str, str]], drop: bool, encoding: str | None) -> None:
    """The rules in one place, name by name, against the tables that are filled as names are seen."""
    headers = CIMultiDictProxy(CIMultiDict(pairs))
    raw = tuple((on_the_wire(name), on_the_wire(value)) for name, value in pairs)
    named = {word.strip().lower() for value in headers.getall("connection", []) for word in value.split(",")}

    def passes(name: str, ending: set[str]) -> bool:
        return name.lower() not in ENDS | named | ending and not name.lower().startswith("x-sidecar-")

    ending = FRAMING | {"x-model-capability"}
    ending |= CREDENTIALS if drop else set()
    ending |= {"accept-encoding"} if encoding is not None else set()
    spelled = [(name.encode().decode("ascii", "replace"), as_sent(value)) for name, value in pairs]
    expected = [pair for pair in spelled if passes(pair[0], ending)]
    expected += [("Accept-Encoding", encoding)] if encoding is not None else []
    sent = to_provider(headers, drop_credentials=drop, encoding=encoding, raw=raw)
    assert list(sent.items()) == expected
    assert list(to_client(headers, raw).items()) == [pair for pair in spelled if passes(pair[0], {"content-length"})]


def test_thousands_of_names_are_not_kept() -> None:
    for n in range(5000):
        name = f"x-{n}"
        assert list(to_client(proxied((name, "v")), ((name.encode(), b"v"),)).items()) == [(name, "v")]
    long = b"x" * 1000
    assert list(to_client(proxied((long.decode(), "v")), ((long, b"v"),))) == [long.decode()]
    assert len(module._TO_CLIENT) <= 1024
    assert long not in module._TO_CLIENT
