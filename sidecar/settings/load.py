"""Reads sidecar.yaml and pin files. The only I/O of this package: reading files, and asking whether some exist.

Decides: which files are accepted, through `strict` (one clear document), `validate` (the right shape) and `compile`
(sense as a whole). Does not decide: when to read (the runtime) or what happens on an error (it keeps the last good).
No secret is read here.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sidecar.settings.compile import compile_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import Problem, UnreadableError
from sidecar.settings.schema import PinFile
from sidecar.settings.static import Provider, Settings
from sidecar.settings.staticcheck import Overrides, compile_settings
from sidecar.settings.strict import MAX_BYTES, parse
from sidecar.settings.validate import convert

__all__ = ["Provider", "Settings", "load_settings", "read_bytes", "read_pins"]


def read_pins(data: bytes, path: str, settings: Settings | None, *, today: datetime.date | None = None) -> Pins:
    """The pin file with these bytes. `path` is its name for messages; an ending `.json` means JSON.

    `today` (UTC by default) is what `retires:` is compared with. Raises ConfigError with every fault, nothing else.
    """
    document = parse(data, path)
    spec = convert(document, PinFile)
    day = today or datetime.datetime.now(datetime.UTC).date()
    return compile_pins(spec, document, hashlib.sha256(data).hexdigest(), settings, day)


def load_settings(
    path: Path,
    *,
    listen: str | Sequence[str] | None = None,
    admin_listen: str | None = None,
    pins: str | Path | None = None,
    exact_tokens: bool = False,
    env: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in `path`. The keywords are what flags and SIDECAR_… variables set; they beat the file.

    `listen` may be one address, several separated by commas, or a list. An overriding `pins` is relative to the
    working directory, all paths in the file to the file. `env` (default: this process's) is only asked which
    variables are set. Raises ConfigError with every fault.
    """
    addresses = listen.split(",") if isinstance(listen, str) else listen
    overrides = Overrides(
        listen=None if addresses is None else tuple(address.strip() for address in addresses),
        admin_listen=admin_listen,
        pins=None if pins is None else Path(pins).absolute(),
    )
    document = parse(read_bytes(path), str(path))
    settings = compile_settings(document, path.absolute(), overrides, os.environ if env is None else env)
    return replace(settings, exact_tokens=exact_tokens)


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file, at most `limit`. Raises UnreadableError; never blocks on a pipe or a device."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable(path, f"cannot be read: {reason}", "check that it exists and may be read") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _unreadable(path, "is not a file", "name the file itself, not its directory or a device")
        if found.st_size > limit:
            most = f"{limit // 1024} KiB"
            raise _unreadable(path, f"is too large: more than {most}", f"keep it under {most}")
        parts: list[bytes] = []
        left = limit + 1
        while left > 0 and (part := os.read(handle, left)):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}", "check the file system") from None
    finally:
        os.close(handle)
    return b"".join(parts)


def _unreadable(path: Path, message: str, fix: str) -> UnreadableError:
    return UnreadableError([Problem(str(path), None, "", message, fix)])
