"""The provider that everything is measured in front of: as cheap as Python allows, and it does what it is told.

`python -m benchmarks.provider --port N` answers any POST whose body holds `"stream":true` with an event stream, any
other with JSON. `PUT /bench/script` sets what the answers look like (see `Script`), for all connections, from the next
request on; `GET /bench/ledger` tells how many requests and chunks there were.

A prompt that holds `#fail#` is answered by a 500, one that holds `#break#` by half an answer.

Each event of a stream tells in its content when it was written (`t=<CLOCK_MONOTONIC in ns>;`), so that whoever reads
it on the same machine knows how long it was on its way, whichever gateway has rewritten the JSON around it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from dataclasses import asdict, dataclass
from time import monotonic_ns
from typing import cast

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END_OF_HEADERS = b"\r\n\r\n"
FAIL, BREAK = b"#fail#", b"#break#"
FAILURE = b'{"error":{"message":"as asked","type":"server_error","param":null,"code":null}}'
FAILED = b"HTTP/1.1 500 Oh\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(FAILURE) + FAILURE


@dataclass(frozen=True, slots=True)
class Script:
    """`answer_bytes`: the size of a JSON answer. A stream has `chunks` events, one each `gap_ms`, after `delay_ms`."""

    answer_bytes: int = 1000
    chunks: int = 100
    gap_ms: float = 10.0
    delay_ms: float = 0.0
    content_bytes: int = 24


def answer(script: Script) -> bytes:
    """A chat completion of about `answer_bytes`, ready to send."""
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "bench-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop", "logprobs": None}
        ],
        "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300},
    }
    fill = script.answer_bytes - len(json.dumps(completion))
    completion["choices"][0]["message"]["content"] = "x" * max(fill, 1)  # type: ignore[index]
    body = json.dumps(completion).encode()
    return HEAD % len(body) + body


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: str, finish: str) -> bytes:
    return (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"bench-1",'
        b'"choices":[{"index":0,"delta":%b,"finish_reason":%b}]}\n\n' % (delta.encode(), finish.encode())
    )


BEGIN = chunked(event('{"role":"assistant","content":""}', "null"))
USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"bench-1","choices":[],'
    b'"usage":{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300}}\n\n'
)
END = chunked(event("{}", '"stop"')) + chunked(USAGE) + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Provider:
    """What all connections share."""

    def __init__(self) -> None:
        self.requests = 0
        self.chunks = 0
        self.open = 0
        self.set(Script())

    def set(self, script: Script) -> None:
        self.script = script
        self.answer = answer(script)
        self.fill = "." * max(script.content_bytes - 23, 1)

    def token(self) -> bytes:
        return chunked(event(f'{{"content":"t={monotonic_ns()};{self.fill}"}}', "null"))


class Connection(asyncio.Protocol):
    """One connection of HTTP/1.1, just enough of it: a head, and a body of a declared length or in chunks."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._read = b""
        self._missing = 0  # bytes of a body that needn't be looked at
        self._streams = False
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._provider.open += 1

    def connection_lost(self, exc: BaseException | None) -> None:
        del exc
        self._provider.open -= 1
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (at := self._read.find(END_OF_HEADERS)) >= 0:
            head, start = self._read[:at].lower(), at + 4
            if b"transfer-encoding: chunked" in head:
                end = self._read.find(b"0\r\n\r\n", start)
                if end < 0:
                    return
                stop = end + 5
            else:
                mark = head.find(b"content-length:")
                length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
                stop = start + length
                if len(self._read) < stop:
                    return
            body, self._read = self._read[start:stop], self._read[stop:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        provider = self._provider
        if head.startswith(b"put /bench/script"):
            provider.set(Script(**json.loads(body)))
            self._transport.write(HEAD % 2 + b"{}")
            return
        if head.startswith(b"get /bench/ledger"):
            told = json.dumps(
                {"requests": provider.requests, "chunks": provider.chunks, "open": provider.open}
                | {"script": asdict(provider.script)}
            ).encode()
            self._transport.write(HEAD % len(told) + told)
            return
        if not head.startswith(b"post "):  # a gateway that asks whether we are well
            self._transport.write(HEAD % 2 + b"{}")
            return
        provider.requests += 1
        delay_s = provider.script.delay_ms / 1000
        flat = body.replace(b" ", b"") if len(body) < 64 * 1024 else body
        begin = self._begin if b'"stream":true' in flat else self._plain
        if b"#" in flat and (FAIL in flat or BREAK in flat):
            begin = self._fail if FAIL in flat else self._break
        if delay_s > 0:
            self._timer = self._loop.call_later(delay_s, begin)
        else:
            begin()

    def _plain(self) -> None:
        self._transport.write(self._provider.answer)

    def _fail(self) -> None:
        self._transport.write(FAILED)

    def _break(self) -> None:
        self._transport.write(self._provider.answer[: len(self._provider.answer) // 2])
        self._transport.close()

    def _begin(self) -> None:
        self._left = self._provider.script.chunks
        self._transport.write(STREAM_HEAD + BEGIN + self._provider.token())
        self._next_at = self._loop.time()
        self._wait()

    def _wait(self) -> None:
        self._next_at += self._provider.script.gap_ms / 1000  # on schedule, whatever each write took
        self._timer = self._loop.call_at(self._next_at, self._token)

    def _token(self) -> None:
        self._provider.chunks += 1
        self._left -= 1
        if self._left > 0:
            self._transport.write(self._provider.token())
            self._wait()
        else:
            self._transport.write(self._provider.token() + END)


async def serve(port: int) -> None:
    provider = Provider()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(provider), "127.0.0.1", port, backlog=8192
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
