"""What an answer's status and headers say to being kept."""

from __future__ import annotations

import pytest

from sidecar.dialects.keepable import keepable

PLAIN = [("Content-Type", "application/json"), ("x-request-id", "r")]


def keeps(*more: tuple[str, str], status: int = 200, complete: bool = True, normal: bool = True) -> bool:
    return keepable(status, complete=complete, normal=normal, headers=[*PLAIN, *more])


def test_a_plain_answer_is_kept() -> None:
    assert keeps()


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 301, 304, 400, 404, 429, 500, 529])
def test_nothing_but_200(status: int) -> None:
    assert not keeps(status=status)


def test_neither_what_is_cut_nor_what_ended_oddly() -> None:
    assert not keeps(complete=False)
    assert not keeps(normal=False)


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (("Set-Cookie", "session=1"), False),
        (("set-cookie", "a__cf_bm=1"), False),
        (("Set-Cookie", "__cf_bm=abc; path=/; HttpOnly"), True),
        (("set-cookie", "_cfuvid=abc"), True),
        (("Cache-Control", "no-store"), False),
        (("cache-control", "private, No-Store"), False),
        (("Cache-Control", "private"), True),
        (("Cache-Control", "no-cache, max-age=0"), True),
        (("Vary", "*"), False),
        (("Vary", "Accept-Encoding"), True),
        (("vary", "Origin, X-Origin, Referer"), True),
        (("Vary", "accept, x-tenant"), False),
    ],
)
def test_headers(header: tuple[str, str], kept: bool) -> None:
    assert keeps(header) is kept


def test_one_header_of_several_is_enough() -> None:
    assert not keeps(("set-cookie", "__cf_bm=1"), ("set-cookie", "session=1"))
