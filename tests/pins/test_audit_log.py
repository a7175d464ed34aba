"""The audit log of a running sidecar: every swap, refusal and stop, in one chain that outlives a restart."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from sidecar.cli import main
from sidecar.provider import FakeProvider
from tests.harness import lines, sidecar, until
from tests.pins.kit import admin, bases, pins, reloads, rename, took


async def test_the_chain_through_two_lives(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "audit.jsonl"
    async with sidecar(tmp_path, bases(provider), pins=pins(1)) as running:
        rename(running.pins, pins(2))
        await took(running, 2)
        rename(running.pins, pins(3).replace("unlisted", "unlasted"))
        await until(lambda: reloads(running, "rejected"))
        assert (await admin(http, running, "/pins/stop", body={"pin": "chat.core", "variant": "canary"}))[0] == 200
        rename(running.pins, pins(1))
        await took(running, 1)
    async with sidecar(tmp_path, bases(provider), pins=pins(5)):
        pass
    records = lines(log)
    assert [r["result"] for r in records] == ["ok", "ok", "rejected", "stop", "rollback", "ok"]
    assert [r["seq"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert [r["generation"] for r in records] == [1, 2, None, 2, 1, 5]
    assert all(r["sha256"] for r in records)  # a file that was refused has an identity, too
    assert main(["pins", "audit", str(log)]) == 0
    assert "intact, 6 records" in capsys.readouterr().out

    whole = log.read_bytes()
    for number, line in enumerate(whole.splitlines(keepends=True), 1):
        spoilt = bytearray(whole)
        at = whole.index(line) + line.index(b'"result":"') + len(b'"result":"')
        spoilt[at] ^= 1  # one flipped bit
        log.write_bytes(spoilt)
        assert main(["pins", "audit", str(log)]) == 1
        assert f"{log}:{number}: broken at record {number}" in capsys.readouterr().out
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:2] + whole.splitlines(keepends=True)[3:]))
    assert main(["pins", "audit", str(log)]) == 1  # one record taken out


async def test_an_audit_log_that_cannot_be_written_stops_nothing(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with sidecar(
        tmp_path, bases(provider), pins=pins(1), audit={"path": "no/such/folder/audit.jsonl"}
    ) as running:
        rename(running.pins, pins(2))
        await took(running, 2)
        await until(lambda: [line for line in running.log() if "audit cannot be written" in line["message"]])
        assert (await admin(http, running, "/readyz"))[0] == 200
