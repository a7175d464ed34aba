"""sidecar.yaml of the right shape → `Settings`, if it makes sense as a whole.

Decides: addresses that don't collide, providers that don't lead back to us, one default per dialect, files that
exist, extras that are installed. All faults are collected.
Does not decide: shape (`options.py`). Reads no secret.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from sidecar.settings.options import ProviderSpec, SidecarFile, TlsSpec
from sidecar.settings.problems import ConfigError, Problem
from sidecar.settings.problems import Path as Where
from sidecar.settings.report import Report
from sidecar.settings.static import Provider, Settings
from sidecar.settings.strict import Document
from sidecar.settings.units import Address, UnfitError
from sidecar.settings.validate import convert

RESERVED_PROVIDERS = frozenset({"v1", "v1beta", "sidecar"})
_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}", re.ASCII)
_STDIO = "-"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What flags and environment variables set over the file."""

    listen: tuple[str, ...] | None = None
    admin_listen: str | None = None
    pins: Path | None = None


def compile_settings(document: Document, path: Path, overrides: Overrides, env: Mapping[str, str]) -> Settings:
    """The settings. Raises ConfigError with every fault."""
    spec = convert(document, SidecarFile)
    report = Report(document)
    listen, admin = _addresses(report, spec, overrides)
    probe = spec.probe.listen if spec.probe is not None else None
    _collisions(report, listen, admin, probe)
    pins = overrides.pins or (spec.pins and (path.parent / spec.pins))
    if not pins:
        report.error((), "`pins` is missing", "add `pins: pins.yaml`, or give --pins")
    defaults = _defaults(report, spec)
    ours = [*listen, admin, *([probe] if probe is not None else [])]
    providers = {
        name: _provider(report, name, provider, defaults=defaults, base=path.parent, env=env, ours=ours)
        for name, provider in spec.providers.items()
    }
    for index, host in enumerate(spec.allowed_hosts):
        if not _HOST.fullmatch(host):
            report.error(("allowed_hosts", index), "is not a host name", "write the bare name: my-app.local")
    _extras(report, spec)
    if report.errors:
        raise ConfigError([*report.errors, *report.warnings])
    base = path.parent
    events, audit = spec.events, spec.audit
    return Settings(
        path=path,
        listen=tuple((address.host, address.port) for address in listen),
        admin_listen=(admin.host, admin.port),
        probe_listen=(probe.host, probe.port) if probe is not None else None,
        pins_path=Path(pins or ""),
        pins_last_good=base / spec.pins_last_good if spec.pins_last_good is not None else None,
        monotonic=spec.monotonic,
        providers=providers,
        default_provider=defaults,
        allowed_hosts=frozenset(host.lower() for host in spec.allowed_hosts),
        limits=spec.limits,
        drain=spec.drain,
        events=events and msgspec.structs.replace(events, path=_sink(base, events.path)),
        audit=audit and msgspec.structs.replace(audit, path=_sink(base, audit.path)),
        log=msgspec.structs.replace(spec.log, path=_sink(base, spec.log.path)),
        fleet=spec.fleet,
        otel=spec.otel,
        warnings=tuple(report.warnings),
    )


def _sink(base: Path, path: str) -> str:
    return path if path == _STDIO else str(base / path)


# --- addresses -------------------------------------------------------------------------------------------------------


def _addresses(report: Report, spec: SidecarFile, overrides: Overrides) -> tuple[tuple[Address, ...], Address]:
    listen = spec.listen
    if overrides.listen is not None:
        listen = tuple(
            _override(report, "--listen", address) or Address.parse("127.0.0.1:0") for address in overrides.listen
        )
    admin = spec.admin.listen
    if overrides.admin_listen is not None:
        admin = _override(report, "--admin-listen", overrides.admin_listen) or admin
    for where, address in _named(listen, admin):
        if not is_loopback(address.host):
            fix = "listen on 127.0.0.1, unless something else keeps strangers out"
            report.warn(where, f"{address} can be reached from other machines", fix)
    return listen, admin


def _override(report: Report, flag: str, text: str) -> Address | None:
    try:
        return Address.parse(text)
    except UnfitError as error:
        report.errors.append(Problem(flag, None, "", str(error), error.fix))
        return None


def _named(listen: tuple[Address, ...], admin: Address) -> list[tuple[Where, Address]]:
    named: list[tuple[Where, Address]] = [(("listen", index), address) for index, address in enumerate(listen)]
    return [*named, (("admin", "listen"), admin)]


def _collisions(report: Report, listen: tuple[Address, ...], admin: Address, probe: Address | None) -> None:
    seen: list[tuple[Where, Address]] = []
    named = _named(listen, admin)
    if probe is not None:
        named.append((("probe", "listen"), probe))
    for where, address in named:
        for other_where, other in seen:
            if address.port and address.port == other.port and _same_host(address.host, other.host):
                report.error(where, f"{address} is taken by `{other_where[0]}` ({other})", "choose another port")
        seen.append((where, address))


def _same_host(one: str, other: str) -> bool:
    """Whether two listeners on one port would collide. 127.0.0.1 and ::1 don't, localhost is both."""
    if one == other or _unspecified(one) or _unspecified(other):
        return True
    return "localhost" in {one.lower(), other.lower()} and is_loopback(one) and is_loopback(other)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unspecified(host: str) -> bool:
    address = _ip(host)
    return address is not None and address.is_unspecified


def is_loopback(host: str) -> bool:
    """Names and addresses that never leave the machine: localhost, *.localhost, 127.0.0.0/8, ::1, ::ffff:127.0.0.1."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _ip(name)
    mapped = getattr(address, "ipv4_mapped", None)
    return address is not None and (address.is_loopback or bool(mapped and mapped.is_loopback))


# --- providers -------------------------------------------------------------------------------------------------------


def _defaults(report: Report, spec: SidecarFile) -> dict[str, str]:
    """Dialect → its default provider: the one that says so, else the first in the file."""
    said: dict[str, str] = {}
    for name, provider in spec.providers.items():
        if not provider.default:
            continue
        if provider.dialect in said:
            message = f"`{said[provider.dialect]}` is already the default of {provider.dialect}"
            report.error(("providers", name, "default"), message, "let one provider of a dialect be its default")
        said.setdefault(provider.dialect, name)
    for name, provider in spec.providers.items():
        said.setdefault(provider.dialect, name)
    return said


def _provider(
    report: Report,
    name: str,
    spec: ProviderSpec,
    *,
    defaults: dict[str, str],
    base: Path,
    env: Mapping[str, str],
    ours: list[Address],
) -> Provider:
    where: Where = ("providers", name)
    if name in RESERVED_PROVIDERS:
        report.error(where, f"`{name}` is a path of ours", "choose another name: it is the first part of a path")
    elif not _PROVIDER.fullmatch(name):
        report.error(where, "this name cannot stand in a path", "use letters, digits, - and _, at most 64")
    _base_url(report, (*where, "base_url"), spec, ours)
    if spec.api_key_env is not None and spec.api_key_file is not None:
        report.error(where, "both `api_key_env` and `api_key_file` are set", "keep one of the two")
    elif spec.api_key_env is not None and not env.get(spec.api_key_env):
        fix = "set it before the sidecar starts"
        report.warn((*where, "api_key_env"), f"the variable {spec.api_key_env} is not set", fix)
    key_file = base / spec.api_key_file if spec.api_key_file is not None else None
    if key_file is not None and not key_file.is_file():
        report.warn(
            (*where, "api_key_file"), "this file does not exist yet", "create it; it is read again when it changes"
        )
    return Provider(
        name=name,
        dialect=spec.dialect,
        base_url=spec.base_url.rstrip("/"),
        default=defaults.get(spec.dialect) == name,
        api_key_env=spec.api_key_env,
        api_key_file=key_file,
        stream_usage=spec.stream_usage,
        proxy=spec.proxy,
        tls=_tls(report, (*where, "tls"), spec.tls or TlsSpec(), base),
    )


def _tls(report: Report, where: Where, spec: TlsSpec, base: Path) -> TlsSpec:
    found: dict[str, str | None] = {}
    for key in TlsSpec.__struct_fields__:
        name: str | None = getattr(spec, key)
        found[key] = None if name is None else str(base / name)
        if name is not None and not (base / name).is_file():
            report.error((*where, key), "this file does not exist", "name a PEM file; paths are relative to this file")
    if spec.client_key is not None and spec.client_cert is None:
        report.error((*where, "client_key"), "a key without its certificate", "add `client_cert`")
    return TlsSpec(**found)


def _base_url(report: Report, where: Where, spec: ProviderSpec, ours: list[Address]) -> None:
    parts = urlsplit(spec.base_url)
    host = parts.hostname or ""
    port = parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)
    near = is_loopback(host) or _unspecified(host)
    for address in ours:
        if not address.port or address.port != port:
            continue
        everywhere = _unspecified(address.host)
        own_name = host.lower() in {address.host.lower(), socket.gethostname().lower()}
        if own_name or (near and (everywhere or is_loopback(address.host))):
            fix = "name the provider's own address: calls would go round in circles"
            report.error(where, f"this is the sidecar's own listener ({address})", fix)
            return
        if everywhere:
            report.warn(
                where, f"same port as the listener {address}", "make sure that this host is not the sidecar itself"
            )
    if parts.scheme == "http" and not near:
        report.warn(where, "plain http to another machine: keys and prompts can be read on the way", "use https://")


# --- extras ----------------------------------------------------------------------------------------------------------


def _extras(report: Report, spec: SidecarFile) -> None:
    """A named warning for a section whose optional package is absent. Asks the metadata; imports nothing."""
    if spec.fleet is not None and not _installed("valkey"):
        fix = "pip install 'model-sidecar[fleet]'"
        report.warn(("fleet",), "the extra `fleet` is not installed: every pod counts for itself", fix)
    if spec.otel is not None and not _installed("opentelemetry-sdk"):
        report.warn(("otel",), "the extra `otel` is not installed: no traces", "pip install 'model-sidecar[otel]'")


def _installed(distribution: str) -> bool:
    from importlib import metadata  # with all that it imports itself: 2 MiB, for a section that few have

    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
