"""Where the members of a JSON object and the elements of an array stand, as offsets into the original bytes.

Decided here: how to walk valid JSON without building it, and how deep JSON may be. Not decided here: whether the bytes
are JSON at all (`json_model.parse` has made sure of that before), and what a member means.

The scanner is regular expressions with possessive quantifiers (Python 3.11), so nothing ever backtracks into what was
matched: each byte is looked at a bounded number of times. A value nested up to `_LEVELS` deep is one match in C; a
deeper one falls back to a loop over its brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

MAX_DEPTH = 512  # ours (DESIGN §3.8); orjson stops at 1024, the standard library at the interpreter's recursion limit
_LEVELS = 6

# A string. The first form leaps from quote to quote (the regex engine does that several times faster than testing each
# byte against a set) and gives up where a quote follows two backslashes; the second form is the textbook's.
_LEAP = rb'"[^"]*+"(?:(?<=[^\\]\\")[^"]*+")*+(?<!\\")'
_STEP = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = rb"(?>" + _LEAP + rb"|" + _STEP + rb")"
_TEXT = rb'[^"{}\[\]]*+'
_SPACE = rb"[ \t\n\r]*+"
_SCALAR = rb"[^\s,:\]}\[{\"]++"  # a number, true, false or null


def _nested(levels: int) -> bytes:
    inner = _nested(levels - 1) if levels > 1 else rb"(?!)"
    return rb"[{\[]" + _TEXT + rb"(?:(?:" + _STRING + rb"|" + inner + rb")" + _TEXT + rb")*+[}\]]"


_VALUE = rb"(?:" + _STRING + rb"|" + _SCALAR + rb"|" + _nested(_LEVELS) + rb")"
_MEMBER = re.compile(
    _SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE + rb"(" + _VALUE + rb")" + _SPACE + rb"[,}]", re.DOTALL
)
_KEY = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_ELEMENT = re.compile(_SPACE + rb"(" + _VALUE + rb")" + _SPACE + rb"([,\]])", re.DOTALL)
_ANY_VALUE = re.compile(_VALUE, re.DOTALL)
_AFTER = re.compile(_SPACE + rb"([,}\]])")
_BLANK = re.compile(_SPACE)
# Runs to the next bracket, over text, strings and containers that hold no container.
_BRACKET = re.compile(_TEXT + rb"(?:(?:" + _STRING + rb"|" + _nested(1) + rb")" + _TEXT + rb")*+([{}\[\]])", re.DOTALL)


class Member(NamedTuple):
    """One member of an object: offsets of its key (with quotes) and of its value, end exclusive."""

    key: str
    key_start: int
    key_end: int
    start: int
    end: int


class TooDeepError(ValueError):
    """Nested deeper than `MAX_DEPTH`."""


def skip_blank(body: bytes, at: int = 0) -> int:
    """The offset of the first byte from `at` that is no JSON white space."""
    match = _BLANK.match(body, at)
    return match.end() if match else at


def check_depth(body: bytes) -> None:
    """Raises TooDeepError if brackets nest deeper than `MAX_DEPTH`. Linear time, no recursion.

    Of a text that is no JSON it may say either, but for one that only breaks off.
    """
    if body.count(b"[") + body.count(b"{") < MAX_DEPTH:
        return  # by far the most
    brackets = _brackets(body)
    depth = 0
    for start in range(0, len(brackets), _SLICE):
        part = brackets[start : start + _SLICE]
        opening = part.count(b"[")
        if depth + opening > MAX_DEPTH and depth + _height(part) > MAX_DEPTH:
            raise TooDeepError
        depth += 2 * opening - len(part)


_SLICE = 256
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b'{}[]"'))


def _brackets(body: bytes) -> bytes:
    """All brackets that stand outside of strings, as square ones."""
    if b"\\" in body:
        body = body.replace(rb"\\", b"").replace(rb"\"", b"")  # now each quote begins or ends a string
    found = body.translate(_SQUARE, _NO_BRACKETS).replace(b'""', b"")
    return found if b'"' not in found else b"".join(found.split(b'"')[::2])  # else of strings that hold brackets


def _height(brackets: bytes) -> int:
    """How far they climb from where they begin."""
    return max(accumulate(1 if bracket == _OPENING else -1 for bracket in brackets))


_OPENING = ord("[")


def members(body: bytes, at: int, wanted: Collection[str]) -> list[Member]:
    """The members of those names of the object that begins at `at` (its "{"), in order, duplicates included."""
    found: list[Member] = []
    raw_wanted = {b'"' + key.encode() + b'"': key for key in wanted}
    match_member, comma = _MEMBER.match, ord(",")
    at += 1
    while True:  # kept lean: a body may have 100,000 members
        match = match_member(body, at)
        if match is not None:
            raw = match[1]
            if raw in raw_wanted or b"\\" in raw:
                _keep(found, raw_wanted, raw, match.start(1), match.span(2))
            at = match.end()
            if body[at - 1] != comma:
                return found
        else:
            head = _KEY.match(body, at)
            if head is None:
                return found  # the empty object
            end = _value_end(body, head.end())
            _keep(found, raw_wanted, head[1], head.start(1), (head.end(), end))
            more, at = _next(body, end)
            if not more:
                return found


def _keep(found: list[Member], wanted: Mapping[bytes, str], raw: bytes, key_start: int, value: tuple[int, int]) -> None:
    key = wanted.get(raw)
    if key is None and b"\\" in raw:  # "\u006dodel" is model
        unescaped = json.loads(raw)
        key = unescaped if unescaped in wanted.values() else None
    if key is not None:
        found.append(Member(key, key_start, key_start + len(raw), *value))


def elements(body: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Start and end of each element of the array that begins at `at` (its "[")."""
    at += 1
    while True:
        match = _ELEMENT.match(body, at)
        if match is not None:
            start, end = match.span(1)
            more, at = match[2] == b",", match.end()
        else:
            start = skip_blank(body, at)
            if body[start : start + 1] not in (b"{", b"["):
                return  # the empty array
            end = _value_end(body, start)
            more, at = _next(body, end)
        yield start, end
        if not more:
            return


def _value_end(body: bytes, start: int) -> int:
    """The end of the value that begins at `start`; linear, whatever its depth."""
    match = _ANY_VALUE.match(body, start)
    if match is not None:
        return match.end()
    depth = 0
    at = start
    while step := _BRACKET.match(body, at):
        depth += 1 if step[1] in b"{[" else -1
        at = step.end()
        if depth == 0:
            return at
    raise ValueError("not JSON")  # callers have parsed before: can't happen


def _next(body: bytes, end: int) -> tuple[bool, int]:
    match = _AFTER.match(body, end)
    if match is None:
        raise ValueError("not JSON")
    return match[1] == b",", match.end()
