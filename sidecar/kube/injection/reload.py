"""Mounted files → what is in use, again whenever their content changes.

Decides: when files are read again, and that files which can't be used leave the old ones in use.
Does not decide: what a usable file is (`template`, `certs`).

The content is compared every second. That is all it takes: a mount swaps once in minutes, and no change of the file
system (a renamed `..data`, a rewritten file, a `subPath` that never changes) looks different to it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from sidecar.settings.load import read_bytes
from sidecar.settings.problems import ConfigError, UnreadableError

log = logging.getLogger("sidecar.inject")

POLL_S = 1.0
_READS = 5
Outcome = Literal["ok", "rejected"]


class Mounted:
    """Files that only mean something together. `use` is given their bytes, and raises ConfigError if it can't."""

    def __init__(self, name: str, paths: Sequence[Path], use: Callable[[list[bytes]], None]) -> None:
        self.name = name
        self._paths = tuple(paths)
        self._use = use
        self._seen: str | None = None  # what was read last, good or bad

    def load(self) -> None:
        """The first load. Raises ConfigError."""
        parts = self._read()
        self._seen = _digest(parts)
        self._use(parts)

    def look(self) -> Outcome | None:
        """Use what is there now; None if that is what was there before. A fault is logged once."""
        try:
            parts = self._read()
        except UnreadableError as error:
            return self._rejected(error, str(error))
        digest = _digest(parts)
        if digest == self._seen:
            return None
        try:
            self._use(parts)
        except ConfigError as error:
            return self._rejected(error, digest)
        self._seen = digest
        log.info("%s reloaded", self.name, extra={"fields": {"sha256": digest}})
        return "ok"

    def _rejected(self, error: ConfigError, seen: str) -> Outcome | None:
        if seen == self._seen:
            return None
        self._seen = seen
        for problem in error.problems:
            log.warning("the old %s stays in use: %s", self.name, problem)
        return "rejected"

    def _read(self) -> list[bytes]:
        """All files as of one moment: read twice alike, since a swap may fall between two of them."""
        parts = [read_bytes(path) for path in self._paths]
        for _ in range(_READS):
            again = [read_bytes(path) for path in self._paths]
            if again == parts:
                break
            parts = again
        return parts


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
