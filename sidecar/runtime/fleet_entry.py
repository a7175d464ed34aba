"""A kept answer as it lies on the fleet's server: a mark with the version, a digest, a short header, the body.

The digest covers the key too. Whatever isn't exactly what was written under that key is no entry: another version,
a part of one, somebody else's bytes. Nothing that is read can raise, or run.
"""

from __future__ import annotations

import hashlib

import msgspec

from sidecar.core.answers import Stored
from sidecar.core.facts import Usage

MARK = b"sidecar entry 1\n"
MAX_BYTES = 1024 * 1024
"""Of an entry, all told; the local tier has the same bound."""
_DIGEST = 32
_LENGTH = 4


class _Head(msgspec.Struct, array_like=True, frozen=True):
    status: int
    reason: str | None
    headers: tuple[tuple[str, str], ...]
    provider: str
    model: str
    usage: Usage | None
    ttl_ms: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Head)


def encode(key: bytes, stored: Stored, ttl_ms: int) -> bytes | None:
    """None if it is too large, or can't be written."""
    headers = tuple((str(name), str(value)) for name, value in stored.headers)  # they may be of a subclass
    head = _Head(stored.status, stored.reason, headers, stored.provider, stored.model, stored.usage, ttl_ms)
    try:
        text = _ENCODER.encode(head)
    except (msgspec.MsgspecError, UnicodeError, TypeError):  # a lone surrogate in a header
        return None
    size = len(MARK) + _DIGEST + _LENGTH + len(text) + len(stored.body)
    if size > MAX_BYTES:
        return None
    payload = b"".join((len(text).to_bytes(_LENGTH, "big"), text, stored.body))
    return b"".join((MARK, hashlib.sha256(key + payload).digest(), payload))


def decode(key: bytes, raw: object, left_ms: object, now: float) -> tuple[Stored, float] | None:
    """The answer, and the seconds that it was kept for altogether. `left_ms` is how much of that is left.

    Its age comes from those two, so no two clocks are compared.
    """
    if not isinstance(raw, bytes) or not isinstance(left_ms, int) or left_ms <= 0 or not raw.startswith(MARK):
        return None
    start = len(MARK)
    digest, payload = raw[start : start + _DIGEST], memoryview(raw)[start + _DIGEST :]
    if hashlib.sha256(key + bytes(payload)).digest() != digest:
        return None
    length = int.from_bytes(payload[:_LENGTH], "big")
    try:
        head = _DECODER.decode(payload[_LENGTH : _LENGTH + length])
    except (msgspec.MsgspecError, UnicodeError):
        return None
    stored = Stored(
        status=head.status,
        reason=head.reason,
        headers=head.headers,
        body=bytes(payload[_LENGTH + length :]),
        provider=head.provider,
        model=head.model,
        usage=head.usage,
        stored_at=now - max(0, head.ttl_ms - left_ms) / 1000,
    )
    return stored, head.ttl_ms / 1000
