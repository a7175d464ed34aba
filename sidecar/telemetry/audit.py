"""The audit log: one record for each swap of the pin file, accepted or refused, each bearing the hash of the last.

Decides how a chain goes on after a restart and a rotation, and when a new one must begin. How a record is hashed and
how a file is verified stands in `settings/chain.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sidecar.settings.chain import GENESIS, line_hash, seal, to_line, verify
from sidecar.telemetry.lines import rfc3339
from sidecar.telemetry.sinks import LineSink

_TAIL_BYTES = 2**20  # read at the end of an existing file; a record is far smaller


class Audit:
    """The audit log at `path` (`-`: standard output), or none. Reads the end of an existing file when made.

    `on_trouble` is told in words of a chain that can't be continued and of trouble in writing. Nothing here blocks
    once it is made.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        max_bytes: int = 16 * 2**20,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        self.sink: LineSink | None = None
        self._seq = 0
        self._prev = GENESIS
        if path is None:
            return
        self.sink = LineSink(path, max_bytes=max_bytes, name="audit", on_trouble=on_trouble)
        if str(path) in {"-", "stderr"}:
            return
        try:
            fault = self._resume(Path(path))
        except OSError as exc:
            fault = exc.strerror or type(exc).__name__
        if fault is not None and on_trouble is not None:
            on_trouble(f"audit: the chain in {path} is broken at its end ({fault}); a new segment begins")

    def swap(
        self,
        *,
        result: str,
        generation: str | int | None,
        sha256: str | None,
        changes: Sequence[str] = (),
        reason: str | None = None,
    ) -> None:
        """Record a swap: `result` is ok, rollback, rejected or stop; `changes` says in words what changed."""
        if self.sink is None:
            return
        record = {
            "seq": self._seq + 1,
            "ts": rfc3339(time.time()),
            "kind": "swap",
            "result": result,
            "generation": generation,
            "sha256": sha256,
            "changes": list(changes),
            "reason": reason,
        }
        line = to_line(seal(record, self._prev))
        if self.sink.put(line):
            self._seq += 1
            self._prev = line_hash(line)

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is left."""
        if self.sink is not None:
            self.sink.close(timeout_s)

    def _resume(self, path: Path) -> str | None:
        """Go on after the last line of the file, or of the one that was rotated away just before; what is wrong there.

        A faulty line is followed all the same, by the hash of its bytes: so the fault stays where it is in the chain,
        and can't be mended later without a break. Only a line too long to be a record is not.
        """
        line = last_line(path) or last_line(path.with_name(path.name + ".1"))
        if line is None:
            return None
        if len(line) >= _TAIL_BYTES:
            return "the last line is too long"
        link = next(iter(verify([line])))
        self._seq, self._prev = link.seq or 0, line_hash(line)
        return link.fault


def last_line(path: Path) -> bytes | None:
    """The last line of a file with its newline, None if there is none. Reads at most the last MiB."""
    if not path.is_file():  # a pipe has no past, and opening one may wait for ever
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read(_TAIL_BYTES).splitlines(keepends=True)
    return lines[-1] if lines else None
