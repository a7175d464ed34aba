"""Deterministic embedding vectors: the same text always has the same vector."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Final

USUAL_SIZE: Final = 8


def vector(text: str, size: int) -> list[float]:
    """`size` numbers in [-1, 1], exact in 32 bits, that depend on `text` only."""
    stream = hashlib.shake_128(text.encode("utf-8", "replace")).digest(size)
    return [(byte - 128) / 128 for byte in stream]


def as_base64(values: list[float]) -> str:
    """The vector as little-endian 32-bit floats in base64, as OpenAI sends it."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
