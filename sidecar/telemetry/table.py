"""Every metric, with its labels and what it means: written down here and nowhere else."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sidecar.telemetry.families import Row
from sidecar.telemetry.levels import budget_rows

# OTel GenAI's advised boundaries.
_SECONDS = tuple(0.01 * 2**n for n in range(14))
_TOKENS = tuple(float(4**n) for n in range(14))
_OVERHEAD = (50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3)

_GENAI = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_original_model",
    "gen_ai_request_model",
    "gen_ai_response_model",
)


TABLE = (
    Row(
        Histogram,
        "gen_ai_client_token_usage",
        "Tokens of one attempt, counted by the provider or charged; input includes cached, output includes reasoning.",
        (*_GENAI, "gen_ai_token_type"),
        _TOKENS,
    ),
    Row(
        Histogram,
        "gen_ai_server_request_duration_seconds",
        "Time from a request's headers to the last byte of its answer.",
        (*_GENAI, "sidecar_variant", "error_type"),
        _SECONDS,
    ),
    Row(
        Histogram,
        "gen_ai_server_time_to_first_token_seconds",
        "Time from launching the attempt that won to its first useful event.",
        (*_GENAI, "sidecar_variant"),
        _SECONDS,
    ),
    Row(
        Histogram,
        "gen_ai_server_time_per_output_token_seconds",
        "Time per output token after the first, of streams.",
        _GENAI,
        _SECONDS,
    ),
    Row(
        Counter,
        "sidecar_requests",
        "Requests finished. code: class of the status sent, none if the client left; error: our code, or provider.",
        ("pin", "variant", "model", "dialect", "code", "error"),
    ),
    Row(
        Counter,
        "sidecar_attempts",
        "Attempts ended.",
        ("model", "cause", "outcome"),
    ),
    Row(
        Counter,
        "sidecar_variant_attempts",
        "Attempts ended: how variants are judged. fault: what went wrong; caller is the request's own fault.",
        ("pin", "variant", "model", "cause", "outcome", "fault"),
    ),
    Row(Histogram, "sidecar_overhead_seconds", "Time a request spent in the sidecar itself.", (), _OVERHEAD),
    Row(Gauge, "sidecar_pins_info", "The pin file in use.", ("generation", "sha256")),
    Row(Counter, "sidecar_pins_reloads", "Reloads of the pin file.", ("result",)),
    Row(Gauge, "sidecar_pins_last_success_timestamp_seconds", "When a pin file was last taken into use."),
    Row(
        Gauge,
        "sidecar_pins_last_reload_successful",
        "1 while the pin file as it lies there is in use, 0 while it is refused.",
    ),
    Row(Gauge, "sidecar_pins_degraded", "1 while the last good copy stands in for an unusable pin file."),
    Row(
        Gauge,
        "sidecar_pin_share",
        "Share of a pin's traffic that a variant takes, 0 to 1. A pin that chooses by rule has none.",
        ("pin", "variant", "model"),
    ),
    Row(Counter, "sidecar_model_drift", "Answers that name another model than the id asked for.", ("model",)),
    Row(Gauge, "sidecar_model_retires_timestamp_seconds", "When the provider retires a model.", ("model",)),
    Row(Counter, "sidecar_unlisted", "Requests for names that the pin file doesn't know.", ("dialect",)),
    Row(Counter, "sidecar_untouched", "Requests passed on without a model in them.", ("dialect",)),
    Row(Gauge, "sidecar_build_info", "The sidecar's version.", ("version",)),
    Row(Gauge, "sidecar_in_flight", "Requests being served."),
    Row(Gauge, "sidecar_connections", "Client connections open."),
    Row(Gauge, "sidecar_buffered_bytes", "Bytes of bodies held in memory."),
    Row(Counter, "sidecar_refused", "Requests refused by the sidecar itself.", ("code",)),
    Row(Counter, "sidecar_events_dropped", "Lines that a sink gave up.", ("sink",)),
    Row(Counter, "sidecar_sink_errors", "Failed attempts to open or write a sink.", ("sink",)),
    Row(Counter, "sidecar_poisoned_connections", "Upstream connections dropped for bytes nobody had asked for."),
    Row(Counter, "sidecar_feedback", "Outcomes reported by the app.", ("success",)),
    Row(
        Counter, "sidecar_cache_requests", "What the cache had for each request, as x-sidecar-cache says.", ("result",)
    ),
    Row(Gauge, "sidecar_cache_bytes", "Memory that kept answers take."),
    Row(Counter, "sidecar_cache_evicted", "Kept answers that had to go before their time, for want of room."),
    Row(Counter, "sidecar_hedges", "Hedges: launched ones by how they ended, and those vetoed.", ("outcome",)),
    Row(
        Counter,
        "sidecar_cost_usd",
        "USD of finished requests with all their attempts, by the pin file's prices. Unpriced ones add nothing.",
        ("pin", "variant", "model"),
    ),
    Row(Counter, "sidecar_over_budget", "Requests served by the pin's cheaper model.", ("pin",)),
    Row(
        Gauge,
        "sidecar_circuit_state",
        "Circuit breaker of a model: 0 closed, 1 half open (a probe is due or under way), 2 open.",
        ("model",),
    ),
    *budget_rows(),
    Row(Counter, "sidecar_drills", "Drills of fallbacks.", ("result",)),
    Row(
        Gauge,
        "sidecar_drill_last_success_timestamp_seconds",
        "When a drill of this fallback last went well.",
        ("pin", "model"),
    ),
    Row(Gauge, "sidecar_fleet_up", "1 while the fleet's server answers, 0 while this pod goes by its local share."),
)
