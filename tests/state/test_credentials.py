from __future__ import annotations

import pytest

from sidecar.state.credentials import Credentials


@pytest.mark.parametrize(
    ("put", "addressed", "usable"),
    [
        ([], True, True),  # the caller's own, at the provider that it addresses
        ([], False, False),  # and nowhere else
        (["sk-1"], False, True),
        ([None], True, False),  # a configured key that can't be read is never replaced by the caller's
        (["sk-1", None], True, False),
        ([None, "sk-2"], False, True),
    ],
)
def test_who_may_be_reached(put: list[str | None], addressed: bool, usable: bool) -> None:
    credentials = Credentials()
    for secret in put:
        credentials.put("p", secret)
    assert credentials.usable("p", addressed=addressed) is usable
    assert credentials.injects("p") is bool(put)
    assert credentials.secret("p") == (put[-1] if put else None)


def test_no_repr_shows_a_secret() -> None:
    credentials = Credentials()
    credentials.put("p", "sk-canary")
    assert "canary" not in repr(credentials)
    assert "p" in repr(credentials)
