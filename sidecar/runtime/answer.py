"""An attempt's answer, as far as it was read; and what kind of answer it is."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from sidecar.core.facts import Attempt
from sidecar.runtime.stream import Ends, Stream


@dataclass(slots=True, repr=False)  # `held` is what a model said
class Answer:
    """`complete` if all of it is in `held`."""

    attempt: Attempt
    response: aiohttp.ClientResponse
    held: bytes = b""
    complete: bool = False
    stream: Stream | None = None
    ends: Ends | None = None  # of a JSON answer that passes without being held
    counted: bool = False  # the usage of a whole answer was read; of others it is read anew as they go on


def unread(response: aiohttp.ClientResponse) -> bytes:
    """What has arrived of a body and wasn't read. Whoever calls this takes it away from all others."""
    try:
        return response.content.read_nowait()
    except (RuntimeError, OSError, ValueError, aiohttp.ClientError):  # somebody waits for it, or it broke
        return b""


def media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def is_json(response: aiohttp.ClientResponse) -> bool:
    kind = media_type(response)
    return kind == "application/json" or kind.endswith("+json")
