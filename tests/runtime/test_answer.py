"""What has arrived of an answer that nobody will read on is counted all the same."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader

from sidecar.runtime.answer import unread


async def test_unread() -> None:
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    response: Any = SimpleNamespace(content=content)
    assert unread(response) == b""
    content.feed_data(b"data: 1\n\n")
    content.feed_data(b"data: 2\n\n")
    assert unread(response) == b"data: 1\n\ndata: 2\n\n"
    waiting = asyncio.create_task(content.readany())
    await asyncio.sleep(0)
    assert unread(response) == b"", "somebody waits for it, so nothing is there"
    waiting.cancel()
    content.set_exception(ConnectionResetError())
    assert unread(response) == b""
