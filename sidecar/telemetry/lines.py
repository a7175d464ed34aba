"""The form of every line we write: JSON in UTF-8, time in RFC 3339, foreign text made harmless.

Decides no content: `events.py`, `logs.py` and `audit.py` do.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import orjson
from msgspec import Struct

NAME_LIMIT = 128  # characters of a name that a client made up


def rfc3339(ts: float) -> str:
    """Seconds since the epoch as UTC with milliseconds: `2026-11-23T00:51:07.123Z`."""
    second = math.floor(ts)
    us = round((ts - second) * 1e6)
    if us == 1_000_000:
        second, us = second + 1, 0
    return f"{_to_the_second(second)}.{us // 1000:03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(second: int) -> str:
    """Lines come in the order of time, many a second."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def encode(line: dict[str, Any] | Struct) -> bytes:
    """One line of JSON without its newline. Never raises for what JSON can't say: that becomes text."""
    try:
        return _STRUCT.encode(line) if isinstance(line, Struct) else orjson.dumps(line, default=_described)
    except (TypeError, ValueError, RecursionError):  # a lone surrogate, an int of more than 64 bits, a key not text
        try:
            plain = msgspec.to_builtins(line) if isinstance(line, Struct) else line
            return json.dumps(plain, default=_described, skipkeys=True).encode()
        except (TypeError, ValueError, RecursionError):
            return b'{"kind":"unencodable"}'


def safe(text: str, limit: int = NAME_LIMIT) -> str:
    """Text that came from outside: at most `limit` characters, what can't be printed replaced by U+FFFD."""
    if len(text) > limit:
        text = text[:limit]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _described(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # whatever its __str__ raises
        return type(value).__name__


_STRUCT = msgspec.json.Encoder(enc_hook=_described)
