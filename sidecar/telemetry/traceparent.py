"""The `traceparent` header of W3C Trace Context: reading it strictly and writing it. Decides no sampling."""

from __future__ import annotations

import re
from typing import NamedTuple

# Level 2, section 3.2: lower-case hex; version ff is forbidden; a later version may append fields that we don't know.
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_LIMIT = 256  # characters: no known version is longer than 55
SAMPLED = 1


class TraceParent(NamedTuple):
    """Whose child a span is."""

    trace_id: int
    span_id: int
    flags: int

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    def header(self) -> str:
        """As version 00, which every later version must understand."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def parse(header: str | None) -> TraceParent | None:
    """The header's meaning; None where it has none or breaks the form, which the standard says to ignore."""
    if not header or len(header) > _LIMIT:
        return None
    match = _FORM.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    parsed = TraceParent(int(trace_id, 16), int(span_id, 16), int(flags, 16))
    return parsed if parsed.trace_id and parsed.span_id else None
