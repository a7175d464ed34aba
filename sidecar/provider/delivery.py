"""Sending an answer over HTTP, as its fault wants it.

Decides headers, pace, padding, compression and how a whole body breaks; streams
are played by `playing.py`.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import orjson
from aiohttp import web

from sidecar.provider import playing, refusal
from sidecar.provider.call import Answer, Call, Stream, Whole
from sidecar.provider.ledger import Ledger, Outcome, Record
from sidecar.provider.playing import corrupt_connection, hold, reset_connection

_NOT_A_CHUNK: Final = b"this is not a chunk size\r\n"
_SERVER: Final = ("server", "fake-provider")


@dataclass(slots=True)
class Delivery:
    """One answer on its way to one client."""

    request: web.BaseRequest
    call: Call
    record: Record
    ledger: Ledger
    pace_ms: float

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Sends `answer`, billing what it costs. Cancelled when the client leaves."""
        if answer.prompt_tokens is not None:
            self.ledger.bill_prompt(self.record, self.call.model, answer.prompt_tokens)
        if isinstance(answer, Stream):
            return await self._stream(answer)
        self.record.status = answer.status
        await self._generate(answer.completion_tokens)
        if answer.status >= 400:
            self.record.outcome = "failed"
        if self.call.fault.break_kind is not None or self.call.fault.slow_body_ms:
            return await self._in_halves(answer)
        body, headers = self._packed(answer)
        response = web.Response(body=body, status=answer.status, headers=headers)
        await response.prepare(self.request)
        await response.write_eof()
        return response

    async def cut_before_headers(self) -> NoReturn:
        """Resets the connection before anything of an answer is sent."""
        self.record.outcome = "cut"
        await reset_connection(self.request.transport)

    def bill(self, tokens: int) -> None:
        """Bills tokens of the answer."""
        self.ledger.bill_completion(self.record, self.call.model, tokens)

    async def _stream(self, stream: Stream) -> web.StreamResponse:
        self.record.status, self.record.stream = 200, True
        response = web.StreamResponse(headers=self._headers(stream.content_type))
        response.headers["cache-control"] = "no-cache"
        await response.prepare(self.request)
        sink = HttpSink(self.request, response, self._settle)
        outcome = await playing.play(stream, sink, self.call.fault, pace_ms=self.pace_ms, bill=self.bill)
        self._settle(outcome)
        await response.write_eof()
        return response

    async def _generate(self, tokens: int) -> None:
        fault = self.call.fault
        gap_s = (self.pace_ms if fault.gap_ms is None else fault.gap_ms) / 1000
        if fault.first_ms:
            await asyncio.sleep(fault.first_ms / 1000)
        if not gap_s:
            if tokens:
                self.bill(tokens)
            return
        for index in range(tokens):
            if index:
                await asyncio.sleep(gap_s)
            self.bill(1)

    async def _in_halves(self, answer: Whole) -> web.StreamResponse:
        fault = self.call.fault
        if fault.break_kind == "error":
            answer = Whole(orjson.dumps(refusal.stream_error(self.call.dialect, fault.code)))
            self._settle("failed")
        body, headers = self._packed(answer)
        response = web.StreamResponse(status=answer.status, headers=headers)
        if fault.break_kind not in ("eof", "malformed"):
            response.content_length = len(body)
        await response.prepare(self.request)
        at = 0 if fault.break_kind is not None and fault.break_after == 0 else len(body) // 2
        await response.write(body[:at])
        await asyncio.sleep(fault.slow_body_ms / 1000)
        match fault.break_kind:
            case None | "error":
                await response.write(body[at:])
            case "eof":
                self._settle("cut")
            case "stall":
                await hold()
            case "malformed":
                await HttpSink(self.request, response, self._settle).corrupt()
            case "cut":
                await HttpSink(self.request, response, self._settle).reset()
        await response.write_eof()
        return response

    def _settle(self, outcome: Outcome) -> None:
        if self.record.outcome == "open":
            self.record.outcome = outcome

    def _headers(self, content_type: str) -> dict[str, str]:
        return dict(
            (*refusal.request_headers(self.call.dialect, self.call.number), _SERVER, ("content-type", content_type))
        )

    def _packed(self, answer: Whole) -> tuple[bytes, dict[str, str]]:
        fault = self.call.fault
        body, headers = answer.body, self._headers(answer.content_type)
        headers.update(answer.headers)
        missing = fault.large_bytes - len(body)
        if missing > 0 and body.startswith(b"{"):  # in front, as in a large answer of a real provider: usage comes last
            body = b'{"fake_padding":"' + b"x" * missing + b'",' + body[1:]
        if fault.gzip and "gzip" in self.call.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["content-encoding"] = "gzip"
        return body, headers


@dataclass(slots=True)
class HttpSink:
    """A chunked HTTP response as the goal of a stream."""

    request: web.BaseRequest
    response: web.StreamResponse
    settle: Callable[[Outcome], None]

    async def send(self, data: bytes) -> None:
        """Sends one event as one chunk."""
        await self.response.write(data)

    async def ping(self, data: bytes) -> None:
        """Sends a comment or ping event as one chunk."""
        await self.response.write(data)

    async def corrupt(self) -> NoReturn:
        """Sends what can't be a chunk, then closes."""
        self.settle("cut")
        await corrupt_connection(self.request.transport, _NOT_A_CHUNK)

    async def reset(self) -> NoReturn:
        """Resets the connection."""
        self.settle("cut")
        await reset_connection(self.request.transport)
