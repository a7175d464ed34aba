"""What an answer cost, read from the copy that was held or metered; the bytes on the wire are not touched."""

from __future__ import annotations

import zlib

from sidecar.dialects.base import FETCH, Dialect, Endpoint, Reading
from sidecar.runtime.answer import Answer

INFLATE_CAP = 8 * 1024 * 1024


def read_usage(dialect: Dialect, endpoint: Endpoint, answer: Answer | None) -> None:
    """Write usage and served model on the attempt. Never raises; what can't be read stays unknown."""
    if answer is None or answer.counted or answer.response.status >= 400 or endpoint.operation == "other":
        return
    attempt = answer.attempt
    if answer.stream is not None:
        reading = Reading(answer.stream.meter.usage, answer.stream.meter.served)
    elif answer.ends is not None:
        reading = dialect.reading_ends(endpoint, answer.ends.head, answer.ends.last)
    elif answer.complete and answer.held:
        answer.counted = True
        body = plain(answer.held, answer.response.headers.get("Content-Encoding", "identity"))
        reading = dialect.reading(endpoint, body) if body is not None else Reading(None, None)
    else:
        return
    attempt.served = reading.served
    if endpoint.operation != FETCH:  # a fetched response was counted when it was made, or would be at each fetch
        attempt.usage = reading.usage


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
