"""From an aiohttp request to a `Call`: body, JSON or form, model, dialect, fault.

Decides nothing about the answer. A fault comes from the request's own
`x-fake-fault` headers, else from the script.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from sidecar.provider import faults, multipart, routes
from sidecar.provider.call import Call, Refused, sha256_hex
from sidecar.provider.faults import NO_FAULT, Fault, FaultError
from sidecar.provider.routes import Route
from sidecar.provider.script import Script

FAULT_HEADER = "x-fake-fault"


async def read(request: web.BaseRequest, number: int) -> tuple[Call, Route]:
    """The call that `request` makes, without its fault, and its route. A body that isn't JSON leaves `json` empty."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    raw = await request.read()
    path, _, query = request.raw_path.partition("?")
    route = routes.find(request.method, path, request.headers)
    call = Call(
        method=request.method,
        path=path,
        query=query,
        params=request.query,
        headers=request.headers,
        raw_headers=request.raw_headers,
        body=_decoded(raw, request.headers.get("Content-Encoding", "")),
        body_sha256=sha256_hex(raw),
        body_size=len(raw),
        dialect=route.dialect,
        number=number,
        created_s=int(time.time()),
        arguments=route.arguments,
    )
    content_type = request.headers.get("Content-Type", "")
    if content_type.lower().startswith("multipart/"):
        call.fields, call.filenames = multipart.read(content_type, call.body)
    else:
        call.json = json_object(call.body) or {}
    call.model = _model(call, route)
    call.stream = route.streams or call.json.get("stream") is True
    return call, route


def fault_of(call: Call, script: Script) -> Fault:
    """The fault that the request asks for, else the script's. Raises Refused if its text is wrong."""
    texts = [value.decode("latin-1") for name, value in call.raw_headers if name.lower() == FAULT_HEADER.encode()]
    if not texts:
        return script.take(call.path, call.model) or NO_FAULT
    try:
        return faults.parse("; ".join(texts))
    except FaultError as error:
        raise Refused(400, f"{FAULT_HEADER}: {error}", code="fake_bad_fault") from error


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`; None if it is anything else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def socket_call(call: Call, frame: bytes, number: int) -> Call:
    """The call that one WebSocket frame makes on the connection that `call` opened."""
    event = json_object(frame) or {}
    model = event.get("model")
    named = model if isinstance(model, str) else call.model
    return replace(call, body=frame, json=event, number=number, created_s=int(time.time()), model=named, stream=True)


def credential(call: Call) -> str:
    """The caller's credential, wherever its dialect puts it."""
    for name in ("x-api-key", "api-key", "x-goog-api-key"):
        if found := call.headers.get(name):
            return found
    return call.headers.get("Authorization", "").removeprefix("Bearer ") or call.params.get("key", "")


def _model(call: Call, route: Route) -> str:
    if route.model_in_path:
        return route.arguments[0]
    named = call.json.get("model")
    if isinstance(named, str):
        return named
    if "model" in call.fields:
        return call.fields["model"].decode("utf-8", "replace")
    return call.params.get("model", "")


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding.lower() not in ("gzip", "deflate"):
        return body
    try:
        return zlib.decompress(body, wbits=47)
    except zlib.error:
        return body
