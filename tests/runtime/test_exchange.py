"""How a request is addressed to its provider."""

from __future__ import annotations

import aiohttp
import pytest
from multidict import CIMultiDict

from sidecar.runtime.exchange import Origin


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("http://127.0.0.1:4020/v1", "127.0.0.1:4020"),
        ("https://api.example.com:443/v1", "api.example.com"),  # the port that goes without saying
        ("http://API.example.com:80/v1", "api.example.com"),
        ("http://bücher.example/v1", "xn--bcher-kva.example"),
    ],
)
async def test_the_target_is_the_path_alone(base_url: str, host: str) -> None:
    async with aiohttp.ClientSession() as session:
        origin = Origin(base_url, session, True, None)
        head = origin.head_of("GET", f"{base_url}/models?a=1", CIMultiDict(), 0)
    assert head.decode() == f"GET /v1/models?a=1 HTTP/1.1\r\nHost: {host}\r\n\r\n"


async def test_a_line_break_in_a_header_is_refused() -> None:
    async with aiohttp.ClientSession() as session:
        origin = Origin("http://127.0.0.1/v1", session, True, None)
        with pytest.raises(ValueError, match="line break"):
            origin.head_of("GET", "http://127.0.0.1/v1", CIMultiDict({"a": "b\r\nc: d"}), 0)
