"""The settings as the rest of the sidecar uses them: paths absolute, defaults chosen, immutable. No I/O.

Decides: the shape of loaded settings. Does not decide: which files are accepted (`load.py`).
No secret is ever in here, only the names of variables and files that hold one. URLs that may bear a password (proxy,
fleet, otel) don't show it in `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.settings.options import AuditSpec, DrainSpec, EventsSpec, FleetSpec, LimitsSpec, LogSpec, OtelSpec, TlsSpec
from sidecar.settings.problems import Problem
from sidecar.settings.units import Proxy


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. `base_url` has no trailing slash; `default` is True for its dialect's default provider.

    `stream_usage` is add or keep; `proxy` is env, none or a URL; the files are absolute paths.
    """

    name: str
    dialect: str
    base_url: str
    default: bool
    api_key_env: str | None
    api_key_file: Path | None
    stream_usage: str
    proxy: Proxy
    tls: TlsSpec

    @property
    def has_key(self) -> bool:
        """Whether the settings name a key of its own."""
        return self.api_key_env is not None or self.api_key_file is not None


@dataclass(frozen=True, slots=True)
class Settings:
    """sidecar.yaml, with flags laid over it. Addresses are (host, port); port 0 takes any free one.

    `default_provider`: dialect → provider name. In `events`, `audit` and `log`, `path` is absolute, or `-`.
    """

    path: Path
    listen: tuple[tuple[str, int], ...]
    admin_listen: tuple[str, int]
    probe_listen: tuple[str, int] | None
    pins_path: Path
    pins_last_good: Path | None
    monotonic: bool
    providers: Mapping[str, Provider]
    default_provider: Mapping[str, str]
    allowed_hosts: frozenset[str]
    limits: LimitsSpec
    drain: DrainSpec
    events: EventsSpec | None
    audit: AuditSpec | None
    log: LogSpec
    fleet: FleetSpec | None
    otel: OtelSpec | None
    warnings: tuple[Problem, ...]
    exact_tokens: bool = False
    """By flag or environment: texts are counted by the model's own vocabulary, where it is known."""

    keyless: frozenset[str] = field(init=False, repr=False)
    """Providers that neither get the caller's credential (they are no default) nor have a key of their own."""

    def __post_init__(self) -> None:
        bare = frozenset(one.name for one in self.providers.values() if not one.default and not one.has_key)
        object.__setattr__(self, "keyless", bare)
