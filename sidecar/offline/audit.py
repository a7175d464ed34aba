"""`sidecar pins audit FILE`: is the audit log's hash chain intact?

Exit code: 0 intact, 1 broken (the first bad line is named), 2 the file can't be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sidecar.offline.files import GOOD, PROBLEMS, TROUBLE, add_format, print_json
from sidecar.settings.chain import Link, line_hash, verify

MAX_LINE = 16 * 1024 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = "Verifies the hash chain of an audit log. Exit code: 0 intact, 1 broken, 2 unreadable."
    parser.add_argument("file", type=Path, metavar="FILE", help="the audit log")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Reads the log line by line, so its size doesn't matter."""
    path: Path = args.file
    count = 0
    last = b""
    bad: Link | None = None

    def lines(log: BinaryIO) -> Iterator[bytes]:
        nonlocal last
        while line := log.readline(MAX_LINE):
            last = line
            yield line

    try:
        if path.exists() and not path.is_file():
            return _unreadable(args, "it is not a file")
        with path.open("rb") as log:
            for link in verify(lines(log)):
                if link.fault is not None:
                    bad = link
                    break
                count += 1
    except OSError as error:
        return _unreadable(args, error.strerror or "it cannot be read")
    _report(args, count, bad, line_hash(last) if last else None)
    return GOOD if bad is None else PROBLEMS


def _report(args: argparse.Namespace, count: int, bad: Link | None, last_hash: str | None) -> None:
    if args.format == "json":
        fault = None if bad is None else {"line": bad.line, "seq": bad.seq, "fault": bad.fault}
        intact = bad is None
        shown = last_hash if intact else None
        print_json({"file": str(args.file), "intact": intact, "records": count, "broken": fault, "last_line": shown})
    elif bad is None:
        print(f"{args.file}: intact, {count} records" + (f"; hash of the last line: {last_hash}" if last_hash else ""))
    else:
        record = f"record {bad.seq}" if bad.seq is not None else "a record without seq"
        print(f"{args.file}:{bad.line}: broken at {record}: {bad.fault}; the {count} before it are intact")


def _unreadable(args: argparse.Namespace, reason: str) -> int:
    if args.format == "json":
        print_json({"file": str(args.file), "intact": None, "reason": reason})
    else:
        print(f"{args.file}: cannot be read: {reason}", file=sys.stderr)
    return TROUBLE
