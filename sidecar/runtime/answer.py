"""An attempt's answer, as far as it was read; and what kind of answer it is."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import aiohttp

from sidecar.core.facts import Attempt
from sidecar.runtime.exchange import Incoming
from sidecar.runtime.stream import Ends, Stream

INFLATE_CAP = 8 * 1024 * 1024


@dataclass(slots=True, repr=False)  # `held` is what a model said
class Answer:
    """`complete` if all of it is in `held`."""

    attempt: Attempt
    response: Incoming
    held: bytes = b""
    complete: bool = False
    stream: Stream | None = None
    ends: Ends | None = None  # of a JSON answer that passes without being held
    counted: bool = False  # the usage of a whole answer was read; of others it is read anew as they go on
    inflated: bytes | None = None

    def plain(self) -> bytes | None:
        """What is held without its content coding, inflated once; None if it can't be read."""
        if self.inflated is None:
            self.inflated = plain(self.held, self.response.headers.get("Content-Encoding", "identity"))
        return self.inflated


def unread(response: Incoming) -> bytes:
    """What has arrived of a body and wasn't read. Whoever calls this takes it away from all others."""
    try:
        return response.content.read_nowait()
    except (RuntimeError, OSError, ValueError, aiohttp.ClientError):  # somebody waits for it, or it broke
        return b""


def media_type(response: Incoming) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def is_json(response: Incoming) -> bool:
    kind = media_type(response)
    return kind == "application/json" or kind.endswith("+json")


def plain(body: bytes, encoding: str) -> bytes | None:
    """The body without its content coding, at most `INFLATE_CAP` bytes of it; None if it can't be read."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            window = 16 + zlib.MAX_WBITS
        case "deflate":
            # RFC 9110 says zlib; some servers send raw deflate, told by the missing zlib header.
            window = zlib.MAX_WBITS if body[:1] == b"\x78" else -zlib.MAX_WBITS
        case _:
            return None
    inflater = zlib.decompressobj(window)
    try:
        out = inflater.decompress(body, INFLATE_CAP)
    except zlib.error:
        return None
    return out if inflater.eof else None
