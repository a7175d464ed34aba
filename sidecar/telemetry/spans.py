"""Spans by OpenTelemetry's SDK, one for each finished request; the optional extra `[otel]`.

Decides names, attributes and parents by the OTel GenAI conventions. Spans are made from a finished record with given
times and a span id that was already sent upstream, so they go to the SDK's processor as `ReadableSpan`s, past its
tracer (which would also cost 65 us a request). Sampling is the caller's: a trace that came unsampled isn't exported,
one that begins here is. Nothing of OpenTelemetry is imported unless `otel:` is configured.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from sidecar.core.facts import Attempt
from sidecar.core.record import Record
from sidecar.telemetry.lines import safe
from sidecar.telemetry.traceparent import SAMPLED, TraceParent, parse

MISSING = (
    "otel_missing: `otel` is configured, but the extra isn't installed, so no spans are sent. "
    "Install it by: pip install 'model-sidecar[otel]'"
)
SHUTDOWN_S = 2.0
_EXPORT_S = 2.0  # for one export: a dead collector must not hold more than that
_PROVIDERS = {"gemini": "gcp.gemini"}


class SpanIds(NamedTuple):
    """A span before it is made: itself, and the caller's span if there is one."""

    own: TraceParent
    parent: TraceParent | None


class Tracing:
    """Sends spans. Make it by `build`; `child` when a request comes, `finish` with its record."""

    def __init__(self, exporter: Any, version: str) -> None:
        """`exporter` is an OpenTelemetry SpanExporter. Raises ImportError without the extra."""
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._trace = trace
        self._readable = ReadableSpan
        self._event_of = Event
        resource = Resource.create({"service.version": version})  # with OTEL_SERVICE_NAME and …_RESOURCE_ATTRIBUTES
        if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "model-sidecar"}))  # nobody else named it
        self._resource = resource
        self._scope = InstrumentationScope("sidecar", version)
        self._processor: Any = BatchSpanProcessor(exporter)
        self._closed = False

    @classmethod
    def build(cls, endpoint: str, version: str, warn: Callable[[str], None]) -> Self | None:
        """Tracing to an OTLP/HTTP collector (`http://host:4318`), or None with a warning if the extra is missing."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return cls(OTLPSpanExporter(endpoint=traces_url(endpoint), timeout=_EXPORT_S), version)
        except ImportError:
            warn(MISSING)
            return None

    def child(self, traceparent: str | None) -> tuple[SpanIds, str]:
        """The ids of a span for a request that came with this header, and the header to send upstream."""
        parent = parse(traceparent)
        if parent is None:
            own = TraceParent(_random_id(128), _random_id(64), SAMPLED)
        else:
            own = TraceParent(parent.trace_id, _random_id(64), parent.flags)
        return SpanIds(own, parent), own.header()

    def finish(self, record: Record, ids: SpanIds, *, server: tuple[str, int] | None = None) -> None:
        """Hand over the span of a finished request; never blocks. `server` is the provider's host and port."""
        if not ids.own.sampled or self._closed:
            return
        trace = self._trace
        start = round(record.ts * 1e6) * 1000
        error = record.outcome.error
        code = trace.StatusCode.UNSET if error is None else trace.StatusCode.ERROR
        span = self._readable(
            span_name(record),
            context=self._context(ids.own, remote=False),
            parent=None if ids.parent is None else self._context(ids.parent, remote=True),
            resource=self._resource,
            attributes=attributes(record, server),
            events=[self._event(record, attempt, start) for attempt in _told(record)],
            kind=trace.SpanKind.CLIENT,
            status=trace.Status(code),
            start_time=start,
            end_time=start + round(record.latency_s * 1e9),
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)

    def shutdown(self, timeout_s: float = SHUTDOWN_S) -> None:
        """Send what is left, for at most `timeout_s` seconds."""
        if self._closed:
            return
        self._closed = True

        def work() -> None:
            with suppress(Exception):
                self._processor.shutdown()

        thread = threading.Thread(target=work, name="otel-shutdown", daemon=True)
        thread.start()
        thread.join(timeout_s)

    def _event(self, record: Record, attempt: Attempt, start: int) -> Any:
        at = start + round((attempt.started_at - record.exchange.received_at) * 1e9)
        return self._event_of("sidecar.attempt", attempt_attributes(attempt), at)

    def _context(self, ids: TraceParent, *, remote: bool) -> Any:
        return self._trace.SpanContext(ids.trace_id, ids.span_id, remote, self._trace.TraceFlags(ids.flags))


def traces_url(endpoint: str) -> str:
    """The collector's URL for spans: `/v1/traces` is added to a base URL, any other path is taken as it is."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + "/v1/traces"


def span_name(record: Record) -> str:
    """`{operation} {model}`, by the conventions."""
    model = _model(record)
    operation = record.exchange.ask.operation
    return operation if model is None else f"{operation} {model}"


def attributes(record: Record, server: tuple[str, int] | None = None) -> dict[str, str | int | float | bool]:
    """The attributes of a request's span; none for what isn't known."""
    x, outcome = record.exchange, record.outcome
    winner = outcome.winner
    target = winner.target if winner is not None else x.targets[0] if x.targets else None
    found: dict[str, str | int | float | bool | None] = {
        "gen_ai.operation.name": x.ask.operation,
        "gen_ai.provider.name": _PROVIDERS.get(target.provider, target.provider) if target is not None else None,
        "gen_ai.request.model": _model(record),
        "gen_ai.request.stream": x.ask.stream,
        "error.type": outcome.error,
        "http.response.status_code": outcome.status,
        "sidecar.request_id": x.id,
        "sidecar.pin": x.pin,
        "sidecar.variant": x.variant if x.kind != "none" else None,
        "sidecar.generation": str(record.generation),
        "sidecar.attempts": len(outcome.attempts),
        "sidecar.cache": record.cache if record.cache != "off" else None,
    }
    if winner is not None and winner.served is not None:
        found["gen_ai.response.model"] = safe(winner.served)
    if x.ask.stream:
        found["gen_ai.response.time_to_first_chunk"] = record.ttft_s
    if winner is not None and winner.usage is not None:
        usage = winner.usage
        found["gen_ai.usage.input_tokens"] = usage.input
        found["gen_ai.usage.output_tokens"] = usage.output
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_input or None
        found["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write or None
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning or None
    if server is not None:
        found["server.address"], found["server.port"] = server
    return {key: value for key, value in found.items() if value is not None}


def attempt_attributes(attempt: Attempt) -> dict[str, str | int]:
    """The attributes of one attempt's event."""
    found = {
        "gen_ai.provider.name": _PROVIDERS.get(attempt.target.provider, attempt.target.provider),
        "gen_ai.request.model": safe(attempt.target.model) if attempt.target.model is not None else None,
        "sidecar.attempt.cause": attempt.cause.value,
        "sidecar.attempt.outcome": attempt.result.value if attempt.result is not None else None,
        "error.type": attempt.fault.value if attempt.fault is not None else None,
        "http.response.status_code": attempt.status,
    }
    return {key: value for key, value in found.items() if value is not None}


def _told(record: Record) -> tuple[Attempt, ...]:
    """One attempt says no more than its span does."""
    attempts = record.outcome.attempts
    return attempts if len(attempts) > 1 else ()


def _model(record: Record) -> str | None:
    winner = record.outcome.winner
    targets = record.exchange.targets
    target = winner.target if winner is not None else targets[0] if targets else None
    return None if target is None or target.model is None else safe(target.model)


def _random_id(bits: int) -> int:
    return secrets.randbits(bits) or 1  # zero means: no id
