"""The hash chain of the audit log: how a record is sealed, and how a file of them is verified. Pure functions.

A record is one JSON line. `prev` is the SHA-256 (hex) of the previous line's bytes without its newline, `hash` the
SHA-256 of this record's canonical JSON (sorted keys, no white space, ASCII) without `hash`. So no line can be changed,
removed or put in between without a break further down. What a chain cannot show: that lines were cut off at the end,
or that the whole file was written anew; compare the last line's hash with a copy kept elsewhere for that.

A rotated file goes on where the old one stopped: its first `prev` is the hash of the old file's last line, and its
first `seq` follows. So the first `prev` of a file need not be zeros, and it is not checked; the first record of all
has `GENESIS`.

Does not decide: where records are written, and what goes into them but the fields below.
Record: `{"seq": n, "ts": "…", "kind": "swap", "result": "ok|rollback|rejected|stop", "generation": 7, "sha256": "…",
"changes": […], "reason": null|"…", "prev": "…", "hash": "…"}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Link:
    """One verified line: its number from 1, its `seq` if it has one, and what is wrong with it (None: nothing)."""

    line: int
    seq: int | None
    fault: str | None


def canonical(record: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed: sorted keys, no white space, ASCII."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def seal(record: dict[str, Any], prev_hash: str) -> dict[str, Any]:
    """A copy of `record` with `prev` and `hash`. `prev_hash` is `line_hash` of the line before, or GENESIS."""
    sealed = {key: value for key, value in record.items() if key != "hash"}
    sealed["prev"] = prev_hash
    sealed["hash"] = hashlib.sha256(canonical(sealed)).hexdigest()
    return sealed


def to_line(sealed: Mapping[str, Any]) -> bytes:
    """The record as the log holds it, without the newline, keys in the order given."""
    return json.dumps(sealed, separators=(",", ":"), allow_nan=False).encode("ascii")


def line_hash(line: bytes) -> str:
    """What the next record's `prev` must be, after this line. A newline at its end doesn't count."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def verify(lines: Iterable[bytes]) -> Iterator[Link]:
    """Checks line after line, lazily. After a faulty line the chain is taken up again from that line."""
    expected_prev: str | None = None
    last_seq: int | None = None
    for number, line in enumerate(lines, 1):
        record = _record(line)
        seq = record.get("seq") if record is not None else None
        if isinstance(seq, bool) or not isinstance(seq, int):
            seq = None
        yield Link(number, seq, _fault(line, record, seq, expected_prev, last_seq))
        expected_prev = line_hash(line)
        last_seq = seq


def _record(line: bytes) -> dict[str, Any] | None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    try:
        record = json.loads(line, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _fault(
    line: bytes, record: dict[str, Any] | None, seq: int | None, expected_prev: str | None, last_seq: int | None
) -> str | None:
    if not line.endswith(b"\n"):
        return "the line is cut off"
    if record is None:
        return "this is not one JSON record"
    if seq is None:
        return "`seq` is missing"
    body = {key: value for key, value in record.items() if key != "hash"}
    try:
        digest = hashlib.sha256(canonical(body)).hexdigest()
    except (ValueError, RecursionError):
        return "this is not one JSON record"
    if record.get("hash") != digest:
        return "`hash` doesn't fit the record: it was changed"
    if expected_prev is not None and record.get("prev") != expected_prev:
        return "`prev` doesn't fit the line before: a line was changed, removed or put in"
    if last_seq is not None and seq != last_seq + 1:
        return f"`seq` is {seq} after {last_seq}"
    return None
