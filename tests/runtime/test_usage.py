from __future__ import annotations

import gzip
import zlib

import pytest

from sidecar.runtime.answer import INFLATE_CAP, plain

BODY = b'{"usage": {"prompt_tokens": 1}}'


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("identity", BODY),
        ("", BODY),
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
    ],
    ids=["identity", "none", "gzip", "GZIP", "deflate", "raw deflate"],
)
def test_a_copy_is_inflated(encoding: str, packed: bytes) -> None:
    assert plain(packed, encoding) == BODY


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("br", b"x"),
        ("gzip", BODY),  # says gzip, isn't
        ("gzip", gzip.compress(BODY)[:-12]),  # cut
        ("gzip", gzip.compress(bytes(INFLATE_CAP + 1))),  # a bomb, or just too large to read
    ],
    ids=["unknown", "not gzip", "cut", "too large"],
)
def test_what_cannot_be_read_stays_unknown(encoding: str, packed: bytes) -> None:
    assert plain(packed, encoding) is None
