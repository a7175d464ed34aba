"""What strace wrote down, as counts of system calls between two marks.

A mark is a SIGWINCH to the traced process: it does nothing there, and strace writes a line for it. What happens in the
loop's thread is told from what other threads do (the writer of events).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

COMMAND = ("strace", "--follow-forks", "--quiet=all", "--string-limit=0", "--trace=all")
MARK = "SIGWINCH"
_LINE = re.compile(r"(\d+) +(?:(\w+)\(|--- (SIG\w+))")


def missing(command: str = COMMAND[0]) -> str:
    """Why strace can't be used here, in words; "" if it can."""
    if shutil.which(command) is None:
        return "strace is not installed (Debian: apt-get install strace)"
    try:
        tried = subprocess.run([*COMMAND, "true"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"strace does not run here: {exc}"
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or ["no word why"])[-1]
        return f"strace may not trace here (no ptrace permission?): {last}"
    return ""


def between_marks(lines: Iterable[str], pid: int) -> list[Counter[str]]:
    """System calls by name, from one mark to the next; those of other threads than `pid` as `thread:NAME`."""
    intervals: list[Counter[str]] = []
    for line in lines:
        if (found := _LINE.match(line)) is None:  # the end of a call that another thread's line cut in two
            continue
        thread, call, signal = found.groups()
        if signal is not None:
            if signal == MARK and int(thread) == pid:
                intervals.append(Counter())
        elif intervals:
            intervals[-1][call if int(thread) == pid else f"thread:{call}"] += 1
    return intervals


class Trace:
    """A trace that is still being written. `marks`: how many there are so far."""

    def __init__(self, path: Path, pid: int) -> None:
        self._path = path
        self._pid = pid
        self._read_to = 0
        self._marks = 0

    def marks(self) -> int:
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            more = file.read()
        whole = more.rfind(b"\n") + 1
        self._read_to += whole
        self._marks += more.count(f"--- {MARK}".encode(), 0, whole)
        return self._marks

    def intervals(self) -> list[Counter[str]]:
        """As `between_marks`; what came after the last mark is left out."""
        with self._path.open(errors="replace") as lines:
            return between_marks(lines, self._pid)[:-1]
