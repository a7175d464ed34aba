"""What a shutdown does to open sockets; everything else about them is in tests/conformance/test_sockets.py."""

from __future__ import annotations

import aiohttp

from tests.harness import Running


async def test_a_drain_closes_sockets_by_name(proxy: Running) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{proxy.url}/v1/realtime?model=chat.core") as socket:
        await socket.receive()
        proxy.lifecycle.shared.stop()
        message = await socket.receive()
    assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1012, "sidecar_draining")
    event = await proxy.event()
    assert (event["status"], event["model_id"], event["error"]) == (101, "gpt-5.4-2025-11-02", None)
