"""What aiohttp itself costs: a pass-through tuned as well as its public interfaces allow, and nothing else.

The yardstick of the guard and of every ratio: a low-level `web.Server`, one `ClientSession` with a kept pool, no
cookies, no inflating, no redirects, no added headers, whole bodies in one write, chunks as they come. It decides
nothing, protects from nothing, counts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import aiohttp
import uvloop
from aiohttp import web
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"})


async def serve(port: int, upstream: str) -> None:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_read=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )

    async def handle(request: BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP)
        async with session.request(
            request.method,
            URL(upstream + request.raw_path, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
        ) as response:
            kept = CIMultiDict((k, v) for k, v in response.headers.items() if k.lower() not in HOP_BY_HOP)
            if "Content-Length" in response.headers:
                return web.Response(status=response.status, headers=kept, body=await response.read())
            answer = web.StreamResponse(status=response.status, headers=kept)
            await answer.prepare(request)
            while chunk := await response.content.readany():
                await answer.write(chunk)
            await answer.write_eof()
            return answer

    server = web.Server(handle, access_log=None, auto_decompress=False)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(server, "127.0.0.1", port, backlog=8192)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    await stop.wait()
    listening.close()
    await server.shutdown(1.0)
    await session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="the provider's origin, such as http://127.0.0.1:4020")
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.upstream))


if __name__ == "__main__":
    main()
