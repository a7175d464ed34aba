"""Repeatable chance: the same request, purpose and number always throw the same dice, so that replay can, too."""

from __future__ import annotations

import hashlib


def dice(request_id: str, purpose: str, number: int) -> float:
    """A number in [0, 1), evenly spread over requests."""
    digest = hashlib.blake2b(f"{request_id}/{purpose}/{number}".encode(), digest_size=7).digest()
    return int.from_bytes(digest) / (1 << 56)
