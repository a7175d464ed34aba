"""The sidecar's own key, in a mounted file: read again when it changes; one that can't be used leaves the last one."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from sidecar.runtime import secrets
from sidecar.settings.problems import Problem, UnreadableError
from tests.harness import Running, sidecar, until
from tests.pins.kit import chat, pins, rename


async def sent(http: aiohttp.ClientSession, at: Running, provider: FakeProvider) -> str | None:
    """The credential that the provider gets with a request now; None if it is refused for want of one."""
    async with http.get(f"{at.url}/v1/echo/this") as answer:
        if answer.status != 200:
            return None
        headers = {name.lower(): value for name, value in (await answer.json())["headers"]}
    return headers["authorization"].removeprefix("Bearer ")


async def test_the_key_follows_its_file(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    section = {"dialect": "openai", "base_url": f"{provider.url}/v1", "api_key_file": str(key)}
    async with sidecar(tmp_path, {"openai": section}, pins=pins(7)) as at:
        credentials = at.lifecycle.shared.state.credentials
        assert (await chat(http, at)).headers["x-sidecar-error"] == "sidecar_no_target"  # no key yet
        key.write_text("sk-one\n")
        await until(lambda: credentials.secret("openai") == "sk-one")
        assert await sent(http, at, provider) == "sk-one"

        for spoil in (lambda: key.write_text(" \n"), lambda: key.write_bytes(b"\xff\xfe"), key.unlink):
            spoil()
            at.lifecycle.reloader.reload_now()
            await until(lambda: at.log()[-1]["logger"] == "sidecar.credentials")
            assert await sent(http, at, provider) == "sk-one"
        told = [line for line in at.log() if "the last one stays" in line["message"]]
        assert len(told) == 1

        rename(key, "sk-two")
        await until(lambda: credentials.secret("openai") == "sk-two")

        read_bytes = secrets.read_bytes
        monkeypatch.setattr(secrets, "read_bytes", _unreadable)
        rename(key, "sk-three")
        await until(lambda: len([1 for line in at.log() if "the last one stays" in line["message"]]) == 2)
        monkeypatch.setattr(secrets, "read_bytes", read_bytes)  # nothing about the file tells that it may be read now
        await until(lambda: credentials.secret("openai") == "sk-three")
        assert await sent(http, at, provider) == "sk-three"
        assert not [line for line in at.log() if "sk-" in str(line)]


def _unreadable(path: Path, limit: int) -> bytes:
    raise UnreadableError([Problem(str(path), None, "", "cannot be read: Permission denied", "")])
