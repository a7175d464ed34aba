"""A swap is seen within a second, however the file is swapped (asserted: ten seconds)."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from sidecar.runtime import directory
from sidecar.runtime.reload import looks_like_subpath
from tests.harness import Running, sidecar, until
from tests.pins.kit import Mount, bases, chat, generation, model_of, overwrite, pins, reloads, rename, took, touch

Swap = Callable[[Path, str], None]


@pytest.fixture(params=["inotify", "poll only"])
def watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "poll only":
        monkeypatch.setattr(directory, "INotify", None)
    return str(request.param)


@pytest.fixture(params=["overwrite", "rename", "..data"])
async def swapping(
    request: pytest.FixtureRequest, watching: str, provider: FakeProvider, tmp_path: Path
) -> AsyncIterator[tuple[Running, Callable[[str], None]]]:
    """A running sidecar, and a way to swap its pin file."""
    mount = Mount(tmp_path / "mount")
    mount.swap(pins(1))
    plain = tmp_path / "plain" / "pins.yaml"
    plain.parent.mkdir()
    plain.write_text(pins(1))
    path, swap = {
        "overwrite": (plain, lambda text: overwrite(plain, text)),
        "rename": (plain, lambda text: rename(plain, text)),
        "..data": (mount.pins, mount.swap),
    }[request.param]
    async with sidecar(tmp_path, bases(provider), mounted=path) as running:
        yield running, swap


async def test_each_swap_is_seen(
    swapping: tuple[Running, Callable[[str], None]], record_property: Callable[[str, object], None]
) -> None:
    running, swap = swapping
    slowest = 0.0
    for number in range(2, 6):
        swap(pins(number))
        slowest = max(slowest, await took(running, number))
    record_property("slowest_ms", round(slowest * 1000))
    assert reloads(running, "ok") == 5
    assert reloads(running, "rejected") == 0


async def test_the_next_request_goes_elsewhere(seven: Running, http: aiohttp.ClientSession) -> None:
    assert (await chat(http, seven)).headers["x-sidecar-model"] == model_of(7)
    rename(seven.pins, pins(8))
    await took(seven, 8)
    answer = await chat(http, seven)
    assert answer.headers["x-sidecar-model"] == model_of(8)
    assert answer.headers["x-sidecar-generation"] == "8"


async def test_a_swap_that_brings_its_own_time_and_size(seven: Running) -> None:
    """`cp -p` and `rsync -t` keep the modification time, and the same inode and size may come with it."""
    before = seven.pins.stat()
    overwrite(seven.pins, pins(8))
    os.utime(seven.pins, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert seven.pins.stat().st_size == before.st_size
    await took(seven, 8)


async def test_the_directory_is_replaced(watching: str, provider: FakeProvider, tmp_path: Path) -> None:
    folder = tmp_path / "pins"
    folder.mkdir()
    (folder / "pins.yaml").write_text(pins(1))
    async with sidecar(tmp_path, bases(provider), mounted=folder / "pins.yaml") as running:
        aside = tmp_path / "new"
        aside.mkdir()
        (aside / "pins.yaml").write_text(pins(2))
        folder.rename(tmp_path / "old")
        aside.rename(folder)
        await took(running, 2)
        rename(folder / "pins.yaml", pins(3))  # seen in the new directory, too
        await took(running, 3)
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "pins.yaml").write_text(pins(4))
        await took(running, 4)
        overwrite(folder / "pins.yaml", pins(5))
        await took(running, 5)


async def test_the_watch_follows_the_directory(provider: FakeProvider, tmp_path: Path) -> None:
    """After the directory was replaced, inotify still wakes the reloader, not the poll alone."""
    folder = tmp_path / "pins"
    folder.mkdir()
    (folder / "pins.yaml").write_text(pins(1))
    async with sidecar(tmp_path, bases(provider), mounted=folder / "pins.yaml") as running:
        for number in (2, 3):
            folder.rename(tmp_path / f"old{number}")
            folder.mkdir()
            (folder / "pins.yaml").write_text(pins(number))
            await took(running, number)
        watcher = running.lifecycle.reloader._watcher
        events: list[float] = []
        on_event = watcher._on_event
        watcher._on_event = lambda: (events.append(time.monotonic()), on_event())[1]
        touch(tmp_path / "old2" / "pins.yaml")  # nobody's business any more
        await asyncio.sleep(0.1)
        assert not events
        touch(folder / "pins.yaml")
        await until(lambda: events)


async def test_a_storm_of_touches_changes_nothing_and_hides_nothing(
    seven: Running, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sidecar.runtime import pinned

    parsed: list[int] = []
    read_pins = pinned.read_pins
    monkeypatch.setattr(pinned, "read_pins", lambda *a: (parsed.append(1), read_pins(*a))[1])
    snapshot = seven.lifecycle.shared.pinned.snapshot
    for _ in range(100):
        touch(seven.pins)
        await asyncio.sleep(0.01)
    assert seven.lifecycle.shared.pinned.snapshot is snapshot
    await until(lambda: reloads(seven, "unchanged") > 0)
    assert parsed == []  # the same bytes aren't parsed again: that would cost a core
    storm = asyncio.create_task(_storm(seven.pins))
    rename(seven.pins, pins(8))
    await took(seven, 8)
    storm.cancel()
    assert (await chat(http, seven)).headers["x-sidecar-model"] == model_of(8)
    assert len([e for e in seven.events("swap") if e["result"] == "ok"]) <= 2


async def _storm(path: Path) -> None:
    while True:
        touch(path)
        await asyncio.sleep(0.01)


async def test_reload_now_does_not_wait_for_the_poll(seven: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.runtime import reload

    monkeypatch.setattr(reload, "POLL_S", 3600.0)
    seven.lifecycle.reloader._watcher.close()
    seven.lifecycle.reloader._watcher.open = lambda: None  # type: ignore[method-assign]
    await asyncio.sleep(0.6)  # the wait of the old poll is over
    overwrite(seven.pins, pins(8))
    await asyncio.sleep(0.2)
    assert generation(seven) == "7"
    seven.lifecycle.reloader.reload_now()
    await took(seven, 8)


def test_a_file_mounted_by_itself_is_told(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("36 35 98:0 /x /etc/pins/my\\040pins.yaml ro,noatime - ext4 /dev/sda1 ro\n")
    assert looks_like_subpath(Path("/etc/pins/my pins.yaml"), mounts)
    assert not looks_like_subpath(Path("/etc/pins/other.yaml"), mounts)
    assert not looks_like_subpath(Path("/etc/pins/my pins.yaml"), tmp_path / "nowhere")
