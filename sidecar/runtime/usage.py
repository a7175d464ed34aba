"""What an answer cost, read from the copy that was held or metered; the bytes on the wire are not touched."""

from __future__ import annotations

import zlib

from sidecar.dialects.base import Dialect, Endpoint
from sidecar.runtime.driver import Answer

INFLATE_CAP = 8 * 1024 * 1024


def read_usage(dialect: Dialect, endpoint: Endpoint, answer: Answer | None) -> None:
    """Write usage and served model on the attempt. Never raises; what can't be read stays unknown."""
    if answer is None:
        return
    attempt = answer.attempt
    if answer.stream is not None:
        attempt.usage, attempt.served = answer.stream.meter.usage, answer.stream.meter.served
    elif answer.complete and answer.held and answer.response.status < 400 and endpoint.operation != "other":
        body = plain(answer.held, answer.response.headers.get("Content-Encoding", "identity"))
        if body is not None:
            reading = dialect.reading(endpoint, body)
            attempt.usage, attempt.served = reading.usage, reading.served


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
