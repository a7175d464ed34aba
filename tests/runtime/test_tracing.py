"""`traceparent` passes on; with `otel:` the sidecar's span stands between the caller's and the provider's."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLERS = f"00-{TRACE}-{PARENT}-01"
BODY = {"model": "chat.core", "messages": [{"role": "user", "content": "hi"}]}


def traceparents(provider: FakeProvider) -> list[str]:
    return [value for name, value in provider.ledger.requests[-1].headers if name.lower() == "traceparent"]


async def call(proxy: Running) -> None:
    headers = {"traceparent": CALLERS, "tracestate": "a=b"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{proxy.url}/v1/chat/completions", json=BODY, headers=headers) as answer,
    ):
        assert answer.status == 200


async def test_without_otel_it_passes_untouched(proxy: Running, provider: FakeProvider) -> None:
    await call(proxy)
    assert traceparents(provider) == [CALLERS]


async def test_with_otel_a_span_stands_in_between(provider: FakeProvider, tmp_path: Path) -> None:
    exports: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        exports.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    bases = {"openai": f"{provider.url}/v1", "anthropic": provider.url, "gemini": provider.url}
    async with sidecar(tmp_path, bases, otel={"endpoint": endpoint}) as proxy:
        await call(proxy)
    await runner.cleanup()

    (export,) = exports
    span = ExportTraceServiceRequest.FromString(export).resource_spans[0].scope_spans[0].spans[0]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert traceparents(provider) == [f"00-{TRACE}-{span.span_id.hex()}-01"]
    said = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
    assert said["gen_ai.request.model"] == "gpt-5.4-2025-11-02"
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.usage.input_tokens"] == provider.ledger.requests[-1].prompt_tokens
