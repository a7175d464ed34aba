"""Values that are written as text and mean something narrower: durations, sizes, addresses, URLs, secrets.

Decides: how each is written, its range, and how it shows itself (`repr`). Each type has `parse(raw)`, which raises
`UnfitError` with a message and a fix, `KIND` (the name that docs use) and `SCHEMA` (its JSON Schema).
Does not decide: which setting has which type (`schema.py`, `options.py`).
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from sidecar.settings.problems import shown

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(KiB|MiB|GiB)", re.ASCII)
_BYTES = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_QUANTILE = re.compile(r"p([0-9]{2}(?:\.[0-9]{1,2})?)", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)
_URL_TEXT = re.compile(r"[!-~]{1,2048}", re.ASCII)

MAX_DURATION_S = 3650 * 86400.0
MAX_SIZE = 1024**4


class UnfitError(ValueError):
    """A value that is not of its type. `fix` says what to write instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class Duration(float):
    """Seconds, more than 0. Written `200ms`, `3s`, `10m`, `6h`, `2d`; a bare number is refused."""

    __slots__ = ()
    KIND: ClassVar[str] = "duration"
    SCHEMA: ClassVar[dict[str, Any]] = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"}
    ZERO: ClassVar[bool] = False

    @classmethod
    def parse(cls, raw: object) -> Self:
        fix = "write a duration such as 200ms, 3s, 10m, 6h or 2d"
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            raise UnfitError(
                f"the duration {shown(raw)} needs a unit", f"write {shown(raw)}s if seconds are meant; {fix[6:]}"
            )
        if isinstance(raw, str) and re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", raw):
            raise UnfitError(f"the duration {shown(raw)} needs a unit", fix)
        match = _DURATION.fullmatch(raw) if isinstance(raw, str) else None
        if match is None:
            raise UnfitError(f"{shown(raw)} is not a duration", fix)
        seconds = float(match[1]) * _SECONDS[match[2]]
        if seconds == 0 and not cls.ZERO:
            raise UnfitError("a duration of 0 is not possible here", "write more than 0")
        if seconds > MAX_DURATION_S:
            raise UnfitError(f"{shown(raw)} is longer than 10 years", fix)
        return cls(round(seconds, 9))

    def __repr__(self) -> str:
        return duration_text(self)


class Delay(Duration):
    """Seconds, 0 or more. Written like a duration."""

    __slots__ = ()
    ZERO: ClassVar[bool] = True


def duration_text(seconds: float) -> str:
    """Seconds as the shortest whole duration: 0.2 → `200ms`, 3600 → `1h`."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 10 else f"{float(seconds)!r}s"


class Size(int):
    """Bytes, more than 0. Written `8KiB`, `32MiB`, `1GiB`, or as a plain number of bytes."""

    __slots__ = ()
    KIND: ClassVar[str] = "size"
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(KiB|MiB|GiB)$"}, {"type": "integer", "minimum": 1}]
    }

    @classmethod
    def parse(cls, raw: object) -> Self:
        fix = "write a size such as 8KiB, 32MiB or 1GiB, or a plain number of bytes"
        if isinstance(raw, int) and not isinstance(raw, bool):
            number = raw
        elif isinstance(raw, str) and (match := _SIZE.fullmatch(raw)):
            number = int(float(match[1]) * _BYTES[match[2]])
        else:
            raise UnfitError(f"{shown(raw)} is not a size", fix)
        if not 0 < number <= MAX_SIZE:
            raise UnfitError(f"a size of {shown(raw)} is not possible", "write more than 0 and at most 1024GiB")
        return cls(number)

    def __repr__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self % _BYTES[unit] == 0:
                return f"{self // _BYTES[unit]}{unit}"
        return str(int(self))


class Percent(float):
    """0 to 100 with at most two decimals: 1/10,000 is the finest share."""

    __slots__ = ()
    KIND: ClassVar[str] = "percent"
    SCHEMA: ClassVar[dict[str, Any]] = {"type": "number", "minimum": 0, "maximum": 100}

    @classmethod
    def parse(cls, raw: object) -> Self:
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            raise UnfitError(
                f"{shown(raw)} is not a number", "write a percentage from 0 to 100, without a sign or quotes"
            )
        if not 0 <= raw <= 100:
            raise UnfitError(f"{shown(raw)} is not between 0 and 100", "write a percentage from 0 to 100")
        if abs(raw * 100 - round(raw * 100)) > 1e-6:
            raise UnfitError(f"{shown(raw)} has more than two decimals", f"write {round(raw, 2):g}")
        return cls(raw)

    @property
    def points(self) -> int:
        """The share in 1/10,000."""
        return round(self * 100)


class HedgeAfter(str):
    """When a hedge starts: after a fixed delay (`200ms`) or a live quantile (`p95`). One of the two fields is set."""

    __slots__ = ("delay_s", "quantile")
    KIND: ClassVar[str] = "duration or pNN"
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d)|p[5-9][0-9](\.[0-9]+)?)$",
    }
    delay_s: float | None
    quantile: float | None

    @classmethod
    def parse(cls, raw: object) -> Self:
        if isinstance(raw, str) and raw[:1] == "p":
            match = _QUANTILE.fullmatch(raw)
            if match is None or not 50 < float(match[1]) < 100:
                raise UnfitError(
                    f"the quantile {shown(raw)} is not between p50 and p100", "write p51 to p99, such as p95"
                )
            new = cls(raw)
            new.delay_s, new.quantile = None, float(match[1]) / 100
        else:
            delay = Duration.parse(raw)
            new = cls(raw)
            new.delay_s, new.quantile = float(delay), None
        return new


class Address(str):
    """Where to listen: `host:port`, `[::1]:4010` for IPv6. Port 0 takes any free port."""

    __slots__ = ("host", "port")
    KIND: ClassVar[str] = "host:port"
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$",
    }
    host: str
    port: int

    @classmethod
    def parse(cls, raw: object) -> Self:
        fix = 'write "127.0.0.1:4010", or "[::1]:4010" for IPv6'
        if not isinstance(raw, str):
            raise UnfitError(f"{shown(raw)} is not an address", fix)
        host, colon, port = raw.rpartition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
            raise UnfitError(f"{shown(raw)} names no port", fix)
        if int(port) > 65535:
            raise UnfitError(f"port {port} is over 65535", fix)
        if host.startswith("[") and host.endswith("]") and _IPV6.fullmatch(host[1:-1]):
            host = host[1:-1]
        elif not _HOST.fullmatch(host):
            raise UnfitError(f"{shown(raw)} is not host:port", fix)
        new = cls(raw)
        new.host, new.port = host, int(port)
        return new


class EnvName(str):
    """The name of an environment variable. A value that is not such a name is never shown: it may be the secret."""

    __slots__ = ()
    KIND: ClassVar[str] = "variable name"
    SCHEMA: ClassVar[dict[str, Any]] = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}

    @classmethod
    def parse(cls, raw: object) -> Self:
        if not isinstance(raw, str) or not _ENV_NAME.fullmatch(raw):
            raise UnfitError(
                "is not the name of an environment variable", "write the variable's name, never the key itself"
            )
        return cls(raw)


class Url(str):
    """An http(s) URL that may hold a password, so `repr` hides it."""

    __slots__ = ()
    KIND: ClassVar[str] = "URL"
    SCHEMA: ClassVar[dict[str, Any]] = {"type": "string", "format": "uri"}
    SCHEMES: ClassVar[tuple[str, ...]] = ("http", "https")

    @classmethod
    def parse(cls, raw: object) -> Self:
        fix = f"write a URL that starts with {' or '.join(f'{scheme}://' for scheme in cls.SCHEMES)}"
        if not isinstance(raw, str) or not _URL_TEXT.fullmatch(raw):
            raise UnfitError("is not a URL", fix)
        try:
            parts = urlsplit(raw)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise UnfitError("is not a URL: its host or port is malformed", fix) from error
        if parts.scheme not in cls.SCHEMES or not host:
            raise UnfitError("is not a URL of the right kind", fix)
        return cls(raw)

    def __repr__(self) -> str:
        return "'***'"


class BaseUrl(Url):
    """A provider's base URL as its own SDK takes it: scheme, host, port, path; nothing else, so nothing secret."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Self:
        new = super().parse(raw)
        if "@" in urlsplit(new).netloc:
            raise UnfitError("holds a user name or password", "remove it; use api_key_env or api_key_file")
        if "?" in new or "#" in new:
            raise UnfitError("holds a query or fragment", "remove all from `?` or `#` on")
        if any(part in {".", ".."} for part in urlsplit(new).path.split("/")):
            raise UnfitError("holds `.` or `..` as a path segment", "write the path out")
        return new

    def __repr__(self) -> str:
        return str.__repr__(self)


class FleetUrl(Url):
    """A Valkey or Redis URL."""

    __slots__ = ()
    SCHEMES: ClassVar[tuple[str, ...]] = ("redis", "rediss", "valkey", "valkeys", "unix")

    @classmethod
    def parse(cls, raw: object) -> Self:
        if isinstance(raw, str) and raw.startswith("unix:///") and _URL_TEXT.fullmatch(raw):
            return cls(raw)
        return super().parse(raw)


class Proxy(Url):
    """The way out: `env` (HTTPS_PROXY, NO_PROXY), `none`, or the URL of a proxy."""

    __slots__ = ()
    KIND: ClassVar[str] = "env, none or URL"
    SCHEMA: ClassVar[dict[str, Any]] = {"anyOf": [{"enum": ["env", "none"]}, {"type": "string", "format": "uri"}]}

    @classmethod
    def parse(cls, raw: object) -> Self:
        if isinstance(raw, str) and raw in {"env", "none"}:
            return cls(raw)
        try:
            return super().parse(raw)
        except UnfitError as error:
            raise UnfitError(str(error), "write env, none, or the proxy's URL (http://host:port)") from error

    def __repr__(self) -> str:
        return str.__repr__(self) if self in {"env", "none"} else "'***'"


class Hidden(str):
    """Text that never shows in `repr` (the salt of user ids)."""

    __slots__ = ()
    KIND: ClassVar[str] = "text"
    SCHEMA: ClassVar[dict[str, Any]] = {"type": "string"}

    @classmethod
    def parse(cls, raw: object) -> Self:
        if not isinstance(raw, str) or len(raw) > 1024:
            raise UnfitError("is not text of at most 1024 characters", "write it in quotes")
        return cls(raw)

    def __repr__(self) -> str:
        return "'***'"
