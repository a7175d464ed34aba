"""The shape of sidecar.yaml: every key, its type, its range, its default and its meaning.

Decides: shape. One source for loading, docs/configuration.md and the JSON Schema.
Does not decide: whether addresses collide and files exist (`load.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from sidecar.settings.schema import Section
from sidecar.settings.units import Address, BaseUrl, Delay, Duration, EnvName, FleetUrl, Hidden, Proxy, Size, Url

FilePath = Annotated[str, Meta(min_length=1, max_length=4096)]
Count = Annotated[int, Meta(ge=1, le=10**6)]
Dialect = Literal["openai", "anthropic", "gemini"]

KIB = 1024
MIB = 1024 * KIB


class AdminSpec(Section, frozen=True):
    """The admin port."""

    listen: Annotated[Address, Meta(description="For /healthz /readyz /metrics /pins /resolve; keep it on loopback.")]


class ProbeSpec(Section, frozen=True):
    """A port for the kubelet and Prometheus."""

    listen: Annotated[Address, Meta(description="Only /healthz, /readyz and /metrics; any Host.")]


class TlsSpec(Section, frozen=True):
    """TLS towards a provider."""

    ca_file: Annotated[
        FilePath | None, Meta(description="PEM file of accepted authorities. Default: the system's.")
    ] = None
    client_cert: Annotated[FilePath | None, Meta(description="PEM file of our certificate. Default: none.")] = None
    client_key: Annotated[FilePath | None, Meta(description="PEM file of its key. Default: in `client_cert`.")] = None


class ProviderSpec(Section, frozen=True):
    """One provider."""

    dialect: Annotated[Dialect, Meta(description="The API that it speaks.")]
    base_url: Annotated[BaseUrl, Meta(description="What the provider's own SDK would take as its base URL.")]
    default: Annotated[bool, Meta(description="The dialect's default provider. Else it is the first in the file.")] = (
        False
    )
    api_key_env: Annotated[EnvName | None, Meta(description="Environment variable that holds the key to inject.")] = (
        None
    )
    api_key_file: Annotated[FilePath | None, Meta(description="File that holds it; read again when it changes.")] = None
    stream_usage: Annotated[
        Literal["add", "keep"], Meta(description="Whether `include_usage` is added to OpenAI streams that lack it.")
    ] = "add"
    proxy: Annotated[Proxy, Meta(description="Way out: HTTPS_PROXY and NO_PROXY, none, or a proxy's URL.")] = Proxy(
        "env"
    )
    tls: Annotated[TlsSpec | None, Meta(description="TLS towards the provider.")] = None


class LimitsSpec(Section, frozen=True):
    """What one sidecar takes on at most. More is refused, never queued."""

    body: Annotated[Size, Meta(description="A request body that must be read.")] = Size(32 * MIB)
    buffered: Annotated[Size, Meta(description="All bodies held at once.")] = Size(64 * MIB)
    in_flight: Annotated[Count, Meta(description="Requests at once.")] = 512
    connections: Annotated[Count, Meta(description="Client connections at once.")] = 2048
    header_line: Annotated[Size, Meta(description="One header line, and the request line.")] = Size(8 * KIB)
    headers: Annotated[Count, Meta(description="Header lines of one message.")] = 100
    request_headers: Annotated[Duration, Meta(description="Until a request's headers are complete.")] = Duration(10)
    body_idle: Annotated[Duration, Meta(description="Between two pieces of a request body.")] = Duration(15)
    keepalive: Annotated[Duration, Meta(description="How long an idle client connection stays open.")] = Duration(75)


class DrainSpec(Section, frozen=True):
    """After SIGTERM."""

    idle: Annotated[Delay, Meta(description="Stop once no request came for this long.")] = Delay(2)
    grace: Annotated[Delay, Meta(description="Stop after this long in any case.")] = Delay(25)


class EventsSpec(Section, frozen=True):
    """One JSON line a request."""

    path: Annotated[FilePath, Meta(description='File of events; "-" is standard output.')]
    user_id: Annotated[
        Literal["sha256", "raw", "none"], Meta(description="How the unit of a request is written down.")
    ] = "sha256"
    salt: Annotated[Hidden, Meta(description="Mixed into hashed user ids.")] = Hidden("")
    max_bytes: Annotated[Size, Meta(description="The file is rotated at this size; one old copy is kept.")] = Size(
        16 * MIB
    )


class AuditSpec(Section, frozen=True):
    """One hash-chained JSON line a swap."""

    path: Annotated[FilePath, Meta(description='File of the audit log; "-" is standard output.')]


class LogSpec(Section, frozen=True):
    """The sidecar's own log, JSON lines."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="The least that is logged.")] = (
        "info"
    )
    path: Annotated[FilePath, Meta(description='File of the log; "-" is standard error.')] = "-"


class FleetSpec(Section, frozen=True):
    """Budgets and cache shared between pods. Needs the extra `model-sidecar[fleet]`."""

    url: Annotated[FleetUrl, Meta(description="URL of a Valkey or Redis server; rediss:// and valkeys:// are TLS.")]
    deadline: Annotated[Duration, Meta(description="Longest wait for it at a request.")] = Duration(0.005)


class OtelSpec(Section, frozen=True):
    """Traces by OpenTelemetry. Needs the extra `model-sidecar[otel]`."""

    endpoint: Annotated[Url, Meta(description="OTLP/HTTP endpoint.")]


class SidecarFile(Section, frozen=True, kw_only=True):
    """The whole settings file."""

    listen: Annotated[
        tuple[Address, ...], Meta(min_length=1, max_length=16, description="Where apps point their provider base URL.")
    ] = (Address.parse("127.0.0.1:4010"),)
    allowed_hosts: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...],
        Meta(description="Names accepted in `Host` and `Origin` beside loopback ones."),
    ] = ()
    admin: Annotated[AdminSpec, Meta(description="The admin port. Default: 127.0.0.1:4011.")] = AdminSpec(
        listen=Address.parse("127.0.0.1:4011")
    )
    probe: Annotated[ProbeSpec | None, Meta(description="The probe port. Default: off.")] = None
    pins: Annotated[FilePath | None, Meta(description="The pin file. Needed, here or by --pins.")] = None
    pins_last_good: Annotated[
        FilePath | None, Meta(description="Tried at start when `pins` is unusable; need not exist. Default: none.")
    ] = None
    monotonic: Annotated[bool, Meta(description="Refuse a pin file of a lower generation.")] = False
    providers: Annotated[dict[str, ProviderSpec], Meta(min_length=1, description="Providers by name.")]
    limits: Annotated[LimitsSpec, Meta(description="What one sidecar takes on at most.")] = LimitsSpec()
    drain: Annotated[DrainSpec, Meta(description="After SIGTERM.")] = DrainSpec()
    events: Annotated[EventsSpec | None, Meta(description="Event lines. Default: off.")] = None
    audit: Annotated[AuditSpec | None, Meta(description="Audit log. Default: off.")] = None
    log: Annotated[LogSpec, Meta(description="The sidecar's own log.")] = LogSpec()
    fleet: Annotated[FleetSpec | None, Meta(description="Sharing between pods. Default: off.")] = None
    otel: Annotated[OtelSpec | None, Meta(description="Traces. Default: off.")] = None
