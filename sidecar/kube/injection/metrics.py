"""The webhook's metrics. Every label value is one of a set that is fixed here, but for the template's own facts."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from sidecar.kube.injection.decide import AskedBy, Result
from sidecar.kube.injection.reload import Outcome
from sidecar.telemetry.families import Family, Row

RESULTS = (*get_args(Result), "malformed", "error")
FILES = ("template", "certificate")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_DECISIONS = Row(
    Counter, "model_sidecar_injections", "Reviews answered, by who asked and what came of it.", ("asked_by", "result")
)
_SECONDS = Row(
    Histogram, "model_sidecar_injection_review_seconds", "From a review's headers to its answer.", (), _BUCKETS
)
_RELOADS = Row(
    Counter, "model_sidecar_injection_reloads", "Changes of the mounted files, used or rejected.", ("file", "result")
)
_USED = Row(
    Gauge,
    "model_sidecar_injection_last_reload_successful",
    "1 while the mounted files as they lie there are in use, 0 while they are rejected.",
    ("file",),
)
_EXPIRY = Row(
    Gauge,
    "model_sidecar_injection_certificate_expiry_timestamp_seconds",
    "When the served certificate expires, since the epoch.",
)
_TEMPLATE = Row(Gauge, "model_sidecar_injection_template_info", "The template in use; always 1.", ("sha256", "version"))

TABLE = (_DECISIONS, _SECONDS, _RELOADS, _USED, _EXPIRY, _TEMPLATE)


class Metrics:
    """All metrics of the webhook's process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        self._registry = CollectorRegistry()
        self._decisions = Family(_DECISIONS, self._registry)
        self._seconds = Family(_SECONDS, self._registry)
        self._reloads = Family(_RELOADS, self._registry)
        self._used = Family(_USED, self._registry)
        self._expiry = Family(_EXPIRY, self._registry)
        self._template = Family(_TEMPLATE, self._registry)
        for asked_by in get_args(AskedBy):
            for result in RESULTS:
                self._decisions.at(asked_by, result)
        for file in FILES:
            self._used.at(file).set(1)  # the process doesn't start on files that it can't use
            for outcome in get_args(Outcome):
                self._reloads.at(file, outcome)

    def decided(self, asked_by: AskedBy, result: str, seconds: float) -> None:
        self._decisions.at(asked_by, result).inc()
        self._seconds.metric.observe(seconds)

    def reloaded(self, file: str, outcome: Outcome) -> None:
        self._reloads.at(file, outcome).inc()
        self._used.at(file).set(outcome == "ok")

    def template(self, sha256: str, version: str) -> None:
        """The template in use from now on."""
        self._template.keep({"sha256": {sha256}, "version": {version}})
        self._template.at(sha256, version).set(1)

    def expiry(self, epoch_s: float | None) -> None:
        """When the served certificate expires; not a number where that can't be read."""
        self._expiry.metric.set(float("nan") if epoch_s is None else epoch_s)

    def render(self) -> tuple[bytes, str]:
        """Body and content type of a scrape."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
