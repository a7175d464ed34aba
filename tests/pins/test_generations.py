"""What may follow what, and how a sidecar starts where its pin file is unusable."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, lines, sidecar, until
from tests.pins.kit import admin, bases, chat, generation, looks, model_of, pins, reloads, rename, took, touch, value


def warned(at: Running, text: str) -> list[dict[str, object]]:
    return [line for line in at.log() if line["level"] in ("warning", "error") and text in line["message"]]


async def test_a_lower_generation_is_a_rollback(seven: Running, http: aiohttp.ClientSession) -> None:
    rename(seven.pins, pins(6))
    await took(seven, 6)
    assert reloads(seven, "rollback") == 1
    assert (await chat(http, seven)).headers["x-sidecar-model"] == model_of(6)
    await until(lambda: len(lines(seven.folder / "audit.jsonl")) == 2)
    record = lines(seven.folder / "audit.jsonl")[-1]
    assert (record["result"], record["generation"]) == ("rollback", 6)
    assert any(model_of(6) in change for change in record["changes"])
    assert value(seven, "sidecar_pins_info", {"generation": "6", "sha256": record["sha256"]}) == 1


async def test_a_lower_generation_is_refused_where_monotonic(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with sidecar(tmp_path, bases(provider), pins=pins(7), monotonic=True) as running:
        rename(running.pins, pins(6))
        await until(lambda: reloads(running, "rejected") == 1)
        await looks(running)
        assert (generation(running), reloads(running, "rejected"), reloads(running, "rollback")) == ("7", 1, 0)
        shown = (await admin(http, running, "/pins"))[1]
        assert "generation 6 is lower than 7" in shown["last_error"]
        await until(lambda: len(lines(tmp_path / "audit.jsonl")) == 2)
        record = lines(tmp_path / "audit.jsonl")[-1]
        assert (record["result"], record["generation"], len(record["sha256"])) == ("rejected", 6, 64)
        rename(running.pins, pins(8))
        await took(running, 8)


async def test_the_same_generation_with_other_bytes(seven: Running) -> None:
    text = pins(7, model="gpt-other-2026-01-01")
    rename(seven.pins, text)
    await until(lambda: reloads(seven, "ok") == 2)
    await until(lambda: warned(seven, "generation 7 came again with other bytes"))
    assert generation(seven) == "7"


async def test_a_touch_is_unchanged(seven: Running) -> None:
    loaded_at = seven.lifecycle.shared.pinned.loaded_at
    touch(seven.pins)
    await until(lambda: reloads(seven, "unchanged") == 1)
    assert (reloads(seven, "ok"), seven.lifecycle.shared.pinned.loaded_at) == (1, loaded_at)
    assert value(seven, "sidecar_pins_last_success_timestamp_seconds") == loaded_at


# --- an unusable file at start ---------------------------------------------------------------------------------------


async def test_the_last_good_copy_stands_in(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text(pins(5))
    async with sidecar(tmp_path, bases(provider), pins="version: 2", pins_last_good="good.yaml") as running:
        assert (await admin(http, running, "/readyz")) == (200, {"status": "ready", "degraded": True})
        shown = (await admin(http, running, "/pins"))[1]
        assert (shown["generation"], shown["degraded"]) == (5, True)
        assert "version" in shown["last_error"]
        assert value(running, "sidecar_pins_degraded") == 1
        assert (await chat(http, running)).headers["x-sidecar-model"] == model_of(5)
        await until(lambda: len(lines(tmp_path / "audit.jsonl")) == 2)
        refused, taken = lines(tmp_path / "audit.jsonl")
        assert (refused["result"], taken["result"], taken["sha256"]) == ("rejected", "ok", shown["sha256"])
        assert "last good copy" in taken["reason"]

        rename(running.pins, pins(4))  # lower than what serves, stand-in or not
        await took(running, 4)
        assert (reloads(running, "ok"), reloads(running, "rollback")) == (0, 1)
        assert value(running, "sidecar_pins_degraded") == 0
        assert (await admin(http, running, "/readyz"))[1]["degraded"] is False


async def test_the_file_itself_turns_up_with_the_bytes_of_the_last_good_copy(
    provider: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text(pins(5))
    async with sidecar(tmp_path, bases(provider), pins="", pins_last_good="good.yaml") as running:
        assert running.lifecycle.shared.pinned.degraded
        rename(running.pins, pins(5))
        await until(lambda: not running.lifecycle.shared.pinned.degraded)
        assert running.lifecycle.shared.pinned.trouble is None
        assert str(running.lifecycle.shared.pinned.snapshot.pins.path).endswith("pins.yaml")


@pytest.mark.parametrize("last_good", [None, "nowhere.yaml", "bad.yaml"])
async def test_without_a_usable_copy_it_is_not_ready_and_says_why(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path, last_good: str | None
) -> None:
    (tmp_path / "bad.yaml").write_text("[]")
    more = {"pins_last_good": last_good} if last_good else {}
    async with sidecar(tmp_path, bases(provider), pins="version: 2", **more) as running:
        status, said = await admin(http, running, "/readyz")
        assert (status, said["status"]) == (503, "not ready")
        assert "pins.yaml:1: version" in said["reason"]
        assert (await admin(http, running, "/healthz"))[0] == 200
        shown = (await admin(http, running, "/pins"))[1]
        assert (shown["generation"], shown["sha256"], shown["loaded_at"]) == (None, None, None)
        assert (await admin(http, running, "/resolve", body={"model": "chat.core"}))[0] == 503
        assert (await admin(http, running, "/pins/stop", body={"pin": "a", "variant": "b"}))[0] == 503
        answer = await chat(http, running)
        assert (answer.status, answer.headers["x-sidecar-error"]) == (503, "sidecar_no_target")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-sidecar-generation"] == "none"
        assert len(provider.ledger.requests) == 0

        rename(running.pins, "version: 3")  # each change is another try
        await until(lambda: "3" in str(running.lifecycle.shared.pinned.trouble))
        rename(running.pins, pins(1))
        await took(running, 1)
        assert (await admin(http, running, "/readyz"))[0] == 200
        assert (await chat(http, running)).status == 200


async def test_no_file_at_all_at_start(provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with sidecar(tmp_path, bases(provider), mounted=tmp_path / "not" / "yet.yaml") as running:
        assert "No such file" in (await admin(http, running, "/readyz"))[1]["reason"]
        (tmp_path / "not").mkdir()
        (tmp_path / "not" / "yet.yaml").write_text(pins(3))
        await took(running, 3)
