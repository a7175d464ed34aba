"""Heads of HTTP/1.1 messages as bytes."""

from __future__ import annotations

from collections.abc import Sequence


def head(lines: Sequence[str]) -> bytes:
    """A start line and header lines, with the empty line behind them. Raises ValueError if a line isn't one."""
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if text.count("\r") != breaks or text.count("\n") != breaks or "\0" in text:
        raise ValueError("a header has a line break")  # it would begin another header, or another message
    return (text + "\r\n\r\n").encode()
