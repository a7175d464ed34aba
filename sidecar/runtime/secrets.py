"""The sidecar's own credentials: read from a file or the environment, read again when the file changes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from sidecar.settings.load import read_bytes
from sidecar.settings.problems import ConfigError
from sidecar.settings.static import Provider
from sidecar.state.credentials import Credentials

log = logging.getLogger("sidecar.credentials")

MAX_KEY_BYTES = 64 * 1024


class Secrets:
    """Fills `Credentials`. A file that can't be read any more keeps the last key, and says so once."""

    def __init__(self, providers: Mapping[str, Provider], credentials: Credentials) -> None:
        self._providers = [p for p in providers.values() if p.has_key]
        self._credentials = credentials
        self._seen: dict[str, tuple[int, int, int] | None] = {}

    def look(self, *, force: bool = False) -> None:
        """Read what has changed. Two stats a file; never raises."""
        for provider in self._providers:
            if provider.api_key_file is None:
                if force or provider.name not in self._seen:
                    self._seen[provider.name] = None
                    self._put(provider.name, os.environ.get(provider.api_key_env or "", ""))
                continue
            signature = _signature(provider.api_key_file)
            if force or provider.name not in self._seen or signature != self._seen[provider.name]:
                self._seen[provider.name] = signature
                self._read(provider.name, provider.api_key_file)

    def _read(self, name: str, path: Path) -> None:
        try:
            text = read_bytes(path, MAX_KEY_BYTES).decode("ascii")
        except (ConfigError, UnicodeDecodeError):
            log.error("the key file of provider %s cannot be read: %s", name, path)
            if self._credentials.secret(name) is None:
                self._credentials.put(name, None)
            return
        self._put(name, text)

    def _put(self, name: str, text: str) -> None:
        secret = text.strip()
        if not secret or not secret.isascii() or not secret.isprintable():
            log.warning("provider %s has no usable key: requests to it are refused until it has one", name)
            self._credentials.put(name, None)
        else:
            self._credentials.put(name, secret)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
