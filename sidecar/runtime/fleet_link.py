"""One connection to the fleet's server, by the official client's own connection class: connect, ask, close.

The client's pool and its retries aren't used: who asks decides how long to wait, and an answer that comes too late
must never be taken for the next one's. So a link on which anything went wrong is closed for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

Command = Sequence[str | bytes | int]
Connect = Callable[[], Any]
"""Makes a connection of the client library, not connected yet."""


class LinkError(Exception):
    """The server didn't do what it was asked, in time."""


def connector(url: str) -> Connect:
    """How to connect to that URL. Raises ImportError without the extra, ValueError for a URL that can't be read."""
    from valkey.asyncio import ConnectionPool

    scheme, _, rest = url.partition("://")
    scheme = {"redis": "valkey", "rediss": "valkeys"}.get(scheme, scheme)
    options: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": None, "lib_name": "model-sidecar"}
    if scheme == "valkeys":
        options["ssl_check_hostname"] = True  # the library's default is to take any certificate's name
    pool = ConnectionPool.from_url(f"{scheme}://{rest}", **options)

    def connect() -> Any:
        return pool.connection_class(**pool.connection_kwargs)

    connect()  # options that don't exist are told now
    return connect


class Link:
    """A connected one; `ask` and then, whatever happened, either keep it or `close` it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, connect: Connect, limit_s: float) -> Link:
        """Connect, log in, choose the database. Raises LinkError."""
        connection = connect()
        link = cls(connection)
        try:
            async with asyncio.timeout(limit_s):
                await connection.connect()
        except asyncio.CancelledError:
            link.close()
            raise
        except Exception as exc:  # noqa: BLE001 - whatever the library raises: there is no server
            link.close()
            raise LinkError(_words(exc)) from None
        return link

    async def ask(self, *commands: Command, limit_s: float) -> list[Any]:
        """Send them at once, read their answers. Raises LinkError, and is closed then."""
        connection = self._connection
        try:
            async with asyncio.timeout(limit_s):
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                return [await connection.read_response(disable_decoding=True) for _ in commands]
        except asyncio.CancelledError:
            self.close()
            raise
        except Exception as exc:  # noqa: BLE001 - an error answer too: what follows it isn't worth finding out
            self.close()
            raise LinkError(_words(exc)) from None

    def close(self) -> None:
        """At once, without a farewell."""
        writer = self._connection._writer  # noqa: SLF001 - `disconnect` awaits even where it doesn't wait
        if writer is not None:
            writer.transport.abort()
        self._connection._reader = self._connection._writer = None  # noqa: SLF001


def _words(exc: Exception) -> str:
    """A URL's password never stands in these, but a server's text may be long."""
    return f"{type(exc).__name__}: {str(exc)[:200]}" if not isinstance(exc, TimeoutError) else "no answer in time"
