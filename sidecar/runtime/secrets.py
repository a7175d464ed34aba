"""The sidecar's own credentials: read from a file or the environment, read again when the file changes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from sidecar.runtime.directory import Signature, signature_of
from sidecar.settings.load import read_bytes
from sidecar.settings.problems import ConfigError
from sidecar.settings.static import Provider
from sidecar.state.credentials import Credentials

log = logging.getLogger("sidecar.credentials")

MAX_KEY_BYTES = 64 * 1024


class Secrets:
    """Fills `Credentials`. A key that can't be read or used any more leaves the last one in place, and says so once."""

    def __init__(self, providers: Mapping[str, Provider], credentials: Credentials) -> None:
        self._providers = [p for p in providers.values() if p.has_key]
        self._credentials = credentials
        self._seen: dict[str, Signature] = {}  # what was read last; missing: read again
        self._told: set[str] = set()  # whose trouble is in the log already

    def look(self, *, force: bool = False) -> None:
        """Read what has changed, or couldn't be read. Two stats a file; never raises."""
        for provider in self._providers:
            name, path = provider.name, provider.api_key_file
            signature = () if path is None else signature_of(path)
            if not force and self._seen.get(name) == signature:
                continue
            self._seen[name] = signature
            if path is None:
                self._put(name, os.environ.get(provider.api_key_env or "", ""))
            else:
                self._read(name, path)

    def _read(self, name: str, path: Path) -> None:
        try:
            text = read_bytes(path, MAX_KEY_BYTES).decode("latin-1")
        except ConfigError:
            del self._seen[name]
            self._keep(name, f"its file cannot be read: {path}")
            return
        self._put(name, text)

    def _put(self, name: str, text: str) -> None:
        secret = text.strip()
        if not secret or not secret.isascii() or not secret.isprintable():
            self._keep(name, "it is empty, or not printable ASCII")
            return
        self._told.discard(name)
        self._credentials.put(name, secret)

    def _keep(self, name: str, trouble: str) -> None:
        has_one = self._credentials.secret(name) is not None
        if not has_one:
            self._credentials.put(name, None)
        if name not in self._told:
            self._told.add(name)
            means = "the last one stays" if has_one else "requests to it are refused until it has one"
            log.error("no usable key for provider %s (%s): %s", name, trouble, means)
