"""The form of every line we write: JSON in UTF-8, time in RFC 3339, foreign text made harmless.

Decides no content: `events.py`, `logs.py` and `audit.py` do.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson

NAME_LIMIT = 128  # characters of a name that a client made up


def rfc3339(ts: float) -> str:
    """Seconds since the epoch as UTC with milliseconds: `2026-11-23T00:51:07.123Z`."""
    return datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def encode(line: dict[str, Any]) -> bytes:
    """One line of JSON without its newline. Never raises for what JSON can't say: that becomes text."""
    try:
        return orjson.dumps(line, default=_described)
    except (TypeError, ValueError, RecursionError):  # a lone surrogate, an int of more than 64 bits, a key not text
        try:
            return json.dumps(line, default=_described, skipkeys=True).encode()
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
