"""The fault grammar: one line of text that says how an answer shall go wrong.

Decides what a fault text means and refuses what it doesn't know. It does not
act: `delivery.py` plays a fault on an answer, `refusal.py` words its errors.

    fault = item *( ";" item )        item = name [ "=" value ]

Before the answer       status=N  code=WORD  retry-after=TEXT  retry-after-ms=N  delay=TIME  retired
                        reject-stream-options
Pace of the answer      first=TIME  gap=TIME  ping  slow-body=TIME
Where the answer breaks cut=N|headers|body  eof=N  stall=N  error=N  malformed=N   (one of them, after N useful events)
What the answer says    model=ID  nousage  usage=string|negative|huge|twice  large=BYTES  encoding=gzip

TIME is a number with `ms` or `s` (`200ms`, `1.5s`); a bare number is milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal

BreakKind = Literal["cut", "eof", "stall", "error", "malformed"]
UsageKind = Literal["none", "string", "negative", "huge", "twice"]

BEFORE_HEADERS: Final = -1
"""`break_after` of `cut=headers`: nothing of the answer is sent."""

_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")


class FaultError(ValueError):
    """A fault text that the grammar doesn't know; the message names the item."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What shall go wrong with one answer. The default is: nothing."""

    status: int | None = None
    code: str | None = None
    retry_after: str | None = None
    retry_after_ms: str | None = None
    delay_ms: float = 0.0
    retired: bool = False
    reject_stream_options: bool = False
    first_ms: float = 0.0
    gap_ms: float | None = None
    ping: bool = False
    slow_body_ms: float = 0.0
    break_kind: BreakKind | None = None
    break_after: int = 0
    model: str | None = None
    usage: UsageKind | None = None
    large_bytes: int = 0
    gzip: bool = False


NO_FAULT: Final = Fault()


def time_ms(text: str) -> float:
    """Milliseconds of `200ms`, `1.5s` or a bare number of milliseconds. Raises FaultError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise FaultError(f"not a time: {text!r} (write 200ms or 1.5s)")
    return float(match[1]) * (1000.0 if match[2] == "s" else 1.0)


@lru_cache(maxsize=1024)
def parse(text: str) -> Fault:
    """The fault that `text` describes. Raises FaultError for an unknown item, a bad value or two breaks."""
    fault = NO_FAULT
    for item in text.split(";"):
        name, separator, value = item.strip().partition("=")
        if not name:
            continue
        name, value = name.strip().lower(), value.strip()
        rule = _ITEMS.get(name)
        if rule is None:
            raise FaultError(f"unknown fault item {name!r}; known: {', '.join(sorted(_ITEMS))}")
        if bool(separator) != rule.takes_value:
            raise FaultError(f"{name} takes {'a value' if rule.takes_value else 'no value'}")
        fields = rule.read(name, value)
        if "break_kind" in fields and fault.break_kind is not None:
            raise FaultError(f"an answer breaks once: both {fault.break_kind} and {name}")
        fault = replace(fault, **fields)
    return fault


@dataclass(frozen=True, slots=True)
class _Item:
    takes_value: bool
    read: Callable[[str, str], dict[str, Any]]


def _flag(field: str, value: Any = True) -> _Item:
    return _Item(False, lambda _name, _text: {field: value})


def _text(field: str) -> _Item:
    return _Item(True, lambda _name, text: {field: text})


def _time(field: str) -> _Item:
    return _Item(True, lambda _name, text: {field: time_ms(text)})


def _number(field: str) -> _Item:
    return _Item(True, lambda name, text: {field: _count(name, text)})


def _count(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise FaultError(f"{name} takes a whole number, not {text!r}")
    return int(text)


def _status(name: str, text: str) -> dict[str, Any]:
    status = _count(name, text)
    if not 400 <= status <= 599:
        raise FaultError(f"status must be an error status, not {status}")
    return {"status": status}


def _break(name: str, text: str) -> dict[str, Any]:
    if name == "cut" and text == "headers":
        return {"break_kind": "cut", "break_after": BEFORE_HEADERS}
    if name == "cut" and text == "body":
        return {"break_kind": "cut", "break_after": 1}
    return {"break_kind": name, "break_after": _count(name, text)}


def _usage(_name: str, text: str) -> dict[str, Any]:
    if text not in ("string", "negative", "huge", "twice"):
        raise FaultError(f"usage is string, negative, huge or twice, not {text!r}")
    return {"usage": text}


def _encoding(_name: str, text: str) -> dict[str, Any]:
    if text != "gzip":
        raise FaultError(f"encoding is gzip, not {text!r}")
    return {"gzip": True}


_ITEMS: Final[dict[str, _Item]] = {
    "status": _Item(True, _status),
    "code": _text("code"),
    "retry-after": _text("retry_after"),
    "retry-after-ms": _text("retry_after_ms"),
    "delay": _time("delay_ms"),
    "retired": _flag("retired"),
    "reject-stream-options": _flag("reject_stream_options"),
    "first": _time("first_ms"),
    "gap": _time("gap_ms"),
    "ping": _flag("ping"),
    "slow-body": _time("slow_body_ms"),
    "cut": _Item(True, _break),
    "eof": _Item(True, _break),
    "stall": _Item(True, _break),
    "error": _Item(True, _break),
    "malformed": _Item(True, _break),
    "model": _text("model"),
    "nousage": _flag("usage", "none"),
    "usage": _Item(True, _usage),
    "large": _number("large_bytes"),
    "encoding": _Item(True, _encoding),
}
