"""Spans: names, attributes, parents, and that a dead collector holds nobody."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sidecar.core.facts import Attempt, Cause, Fault, Outcome, Result, Target
from sidecar.core.record import Record
from sidecar.telemetry.spans import MISSING, Tracing, attributes, traces_url

Make = Callable[..., Record]
MODEL = "gpt-5.4-2025-11-02"
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exported: InMemorySpanExporter) -> Iterator[Tracing]:
    made = Tracing(exported, "1.2.3")
    yield made
    made.shutdown()


def only(tracing: Tracing, exported: InMemorySpanExporter) -> ReadableSpan:
    tracing.shutdown()
    (span,) = exported.get_finished_spans()
    return span


def test_a_span_under_the_callers(tracing: Tracing, exported: InMemorySpanExporter, make: Make) -> None:
    ids, header = tracing.child(CALLER)
    tracing.finish(make(), ids, server=("api.openai.com", 443))
    span = only(tracing, exported)
    assert span.name == f"chat {MODEL}"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.context is not None
    assert span.parent is not None
    assert header == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == CALLER[3:-3]
    assert span.context.trace_id == span.parent.trace_id
    assert span.context.span_id != span.parent.span_id
    assert (span.start_time, span.end_time) == (1_763_800_000_250_000_000, 1_763_800_001_250_000_000)
    assert span.resource.attributes["service.name"] == "model-sidecar"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.time_to_first_chunk": 0.199,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
        "sidecar.request_id": "req-1",
        "sidecar.pin": "chat.core",
        "sidecar.variant": "stable",
        "sidecar.generation": "7",
        "sidecar.attempts": 1,
    }


def test_a_failed_request(tracing: Tracing, exported: InMemorySpanExporter, make: Make) -> None:
    tracing.finish(make(error="overload", status=529), tracing.child(None)[0])
    span = only(tracing, exported)
    assert span.status.status_code is StatusCode.ERROR
    assert span.parent is None
    assert dict(span.attributes or {})["error.type"] == "overload"


def test_attempts_are_events_of_the_span_where_there_was_more_than_one(
    tracing: Tracing, exported: InMemorySpanExporter, make: Make
) -> None:
    record = make()
    failed = Attempt(1, Target("openai", MODEL), Cause.FIRST, 10.0, ended_at=10.1, status=503, fault=Fault.OVERLOAD)
    failed.result = Result.FAILED
    won = Attempt(2, Target("other", "b-002"), Cause.FALLBACK, 10.25, ended_at=11.0, status=200, result=Result.OK)
    tracing.finish(record._replace(outcome=Outcome((failed, won), won, None, 200)), tracing.child(None)[0])
    first, second = only(tracing, exported).events
    assert (first.name, first.timestamp, second.timestamp) == (
        "sidecar.attempt",
        1_763_800_000_250_000_000,
        1_763_800_000_500_000_000,
    )
    assert dict(first.attributes or {}) == {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "sidecar.attempt.cause": "first",
        "sidecar.attempt.outcome": "failed",
        "error.type": "overload",
        "http.response.status_code": 503,
    }
    assert dict(second.attributes or {})["gen_ai.request.model"] == "b-002"


def test_no_model_and_nothing_sent(make: Make) -> None:
    found = attributes(make(kind="none", name=None, model=None, attempted=False, status=403))
    assert "gen_ai.request.model" not in found
    assert "sidecar.pin" not in found
    assert None not in found.values()


@pytest.mark.parametrize("header", ["garbage", None, CALLER.replace("-00f0", "-zzzz")])
def test_a_bad_header_begins_a_trace(tracing: Tracing, header: str | None) -> None:
    ids, sent = tracing.child(header)
    assert ids.parent is None
    assert sent.endswith("-01")
    assert tracing.child(header)[0].own.trace_id != ids.own.trace_id


def test_an_unsampled_trace_stays_so(tracing: Tracing, exported: InMemorySpanExporter, make: Make) -> None:
    ids, header = tracing.child(CALLER[:-1] + "0")
    assert header.endswith("-00")
    assert header.startswith(CALLER[:36])
    tracing.finish(make(), ids)
    tracing.shutdown()
    assert exported.get_finished_spans() == ()
    tracing.finish(make(), tracing.child(CALLER)[0])  # after the end: nothing, and no error


def test_urls() -> None:
    assert traces_url("http://127.0.0.1:4318") == "http://127.0.0.1:4318/v1/traces"
    assert traces_url("http://127.0.0.1:4318/") == "http://127.0.0.1:4318/v1/traces"
    assert traces_url("http://c/otlp/v1/traces") == "http://c/otlp/v1/traces"


def test_spans_reach_a_collector(make: Make) -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracing = Tracing.build(f"http://127.0.0.1:{server.server_port}", "1.2.3", warn=lambda _: None)
        assert tracing is not None
        tracing.finish(make(), tracing.child(CALLER)[0])
        tracing.shutdown()
        server.shutdown()
    ((path, body),) = got
    assert path == "/v1/traces"
    assert bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736") in body
    assert MODEL.encode() in body


def test_a_dead_collector_holds_the_end_for_two_seconds_at_most(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        tracing = Tracing.build(f"http://127.0.0.1:{silent.getsockname()[1]}", "1.2.3", warn=lambda _: None)
        assert tracing is not None
        tracing.finish(make(), tracing.child(None)[0])
        began = time.monotonic()
        tracing.shutdown(0.3)
        assert time.monotonic() - began < 3


WITHOUT = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[1])
    import sidecar.telemetry.spans as spans
    assert not [m for m in sys.modules if m.startswith("opentelemetry")], "imported before it was asked for"
    sys.modules["opentelemetry"] = None
    said = []
    assert spans.Tracing.build("http://127.0.0.1:1", "1", said.append) is None
    print(said[0])
""")


def test_without_the_extra_there_is_a_warning_and_nothing_else() -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", WITHOUT, root], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == MISSING
