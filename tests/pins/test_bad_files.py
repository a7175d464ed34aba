"""A bad pin file changes nothing: the last good one stays, and log, metric, /pins, audit and events tell, once."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from sidecar.runtime import pinned
from tests.harness import Running, lines, until
from tests.pins.kit import admin, chat, looks, model_of, pins, reloads, rename, took, value

HALF = pins(8)[: pins(8).index("aliases")].rstrip()[:-20]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * 2**20)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "deleted": (lambda p: p.unlink(), "No such file"),
    "a directory": (_directory, "is not a file"),
    "a fifo": (_fifo, "is not a file"),
    "a symlink to itself": (_loop, "symbolic links"),
    "50 MB": (_huge, "too large"),
    "binary": (lambda p: p.write_bytes(bytes(range(256)) * 64), "UTF-8"),
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "half written": (lambda p: p.write_text(HALF), "pins.yaml:"),
    "a YAML bomb": (lambda p: p.write_text(BOMB), "anchor"),
    "deeply nested": (lambda p: p.write_text("a: " + "[" * 100_000), "pins.yaml:"),
    "JSON of another world": (lambda p: p.write_text('["not", "pins"]'), "pins.yaml"),
    "another version": (lambda p: p.write_text(pins(8).replace("version: 1", "version: 2")), "version"),
    "a dangling name": (lambda p: p.write_text(pins(8).replace("stable: gpt", "stable: gtp")), "there is no model"),
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> tuple[Callable[[Path], object], str]:
    return FAULTS[request.param]


async def test_the_last_good_file_stays(
    seven: Running, http: aiohttp.ClientSession, fault: tuple[Callable[[Path], object], str]
) -> None:
    spoil, says = fault
    spoil(seven.pins)
    await until(lambda: reloads(seven, "rejected"))
    await looks(seven)  # what a truncated write looked like for a moment is over now
    told = reloads(seven, "rejected")
    for _ in range(2):  # told once for each fault, not at each poll
        await looks(seven)
    assert reloads(seven, "rejected") == told

    answer = await chat(http, seven)
    assert (answer.status, answer.headers["x-sidecar-model"]) == (200, model_of(7))
    status, shown = await admin(http, seven, "/pins")
    assert (status, shown["generation"], shown["degraded"]) == (200, 7, False)
    assert says in shown["last_error"]
    assert (await admin(http, seven, "/readyz"))[0] == 200
    for told_in in (seven.events("swap"), lines(seven.folder / "audit.jsonl")):
        await until(lambda: seven.events("swap")[-1]["result"] == "rejected")
        assert told_in[-1]["result"] == "rejected"
        assert says in told_in[-1]["reason"]
        assert len([r for r in told_in if r["result"] == "rejected"]) == told
    assert [line for line in seven.log() if line["level"] == "error" and says in line["message"]]

    if seven.pins.is_dir():
        seven.pins.rmdir()
    rename(seven.pins, pins(8))  # and it recovers
    await took(seven, 8)
    assert (await admin(http, seven, "/pins"))[1]["last_error"] is None


async def test_the_same_good_file_again_clears_the_trouble(seven: Running, http: aiohttp.ClientSession) -> None:
    for count in (1, 2):  # and the same fault a second time is told again
        rename(seven.pins, "version: 2")
        await until(lambda n=count: reloads(seven, "rejected") == n)
        rename(seven.pins, pins(7))
        await until(lambda: seven.lifecycle.shared.pinned.trouble is None)
    assert reloads(seven, "ok") == 1
    assert (await admin(http, seven, "/pins"))[1]["generation"] == 7


async def test_each_bad_file_is_told_by_its_own_sha256(seven: Running) -> None:
    for count in (1, 2):
        rename(seven.pins, pins(8).replace("unlisted: reject", "unlisted: maybe") + f"# try {count}\n")
        await until(lambda n=count: reloads(seven, "rejected") == n)
    await until(lambda: len(lines(seven.folder / "audit.jsonl")) == 3)
    refused = [r for r in lines(seven.folder / "audit.jsonl") if r["result"] == "rejected"]
    assert len({r["sha256"] for r in refused}) == 2


async def test_a_file_that_cannot_be_read_for_a_while(seven: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of file descriptors, or the wrong mode (tried for real in tests/process): it is tried again.

    Nothing about the file changes when the trouble is over, so only a further look can tell.
    """
    read_bytes = pinned.read_bytes

    def no_descriptor(path: Path, *limit: int) -> bytes:
        monkeypatch.setattr(os, "open", _refuse)
        try:
            return read_bytes(path, *limit)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(pinned, "read_bytes", no_descriptor)

    monkeypatch.setattr(pinned, "read_bytes", no_descriptor)
    rename(seven.pins, pins(8))
    await until(lambda: reloads(seven, "rejected") == 1)
    await looks(seven)
    assert "Too many open files" in str(seven.lifecycle.shared.pinned.trouble)
    monkeypatch.setattr(pinned, "read_bytes", read_bytes)
    await took(seven, 8)
    assert reloads(seven, "rejected") == 1


def _refuse(*args: object, **kwargs: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_a_bug_in_the_reading_does_not_end_the_reloading(seven: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise MemoryError

    read_pins = pinned.read_pins
    monkeypatch.setattr(pinned, "read_pins", broken)
    rename(seven.pins, pins(8))
    await until(lambda: reloads(seven, "rejected") == 1)
    await asyncio.sleep(1.2)  # two more polls
    assert reloads(seven, "rejected") == 1
    assert "MemoryError" in str(seven.lifecycle.shared.pinned.trouble)
    monkeypatch.setattr(pinned, "read_pins", read_pins)
    await took(seven, 8)


async def test_a_large_file_that_is_slow_to_parse_holds_nobody_up(seven: Running, http: aiohttp.ClientSession) -> None:
    """Parsing is done in a thread: requests go on meanwhile."""
    models = "".join(f"  big-{n}-2026-01-01: {{provider: openai}}\n" for n in range(4000))
    rename(seven.pins, pins(8).replace("pins:\n", f"{models}pins:\n", 1))
    answers = 0
    while value(seven, "sidecar_pins_reloads_total", {"result": "ok"}) < 2:
        assert (await chat(http, seven)).status == 200
        answers += 1
        assert answers < 20_000
    assert answers > 1


async def test_the_directory_vanishes_and_returns(seven: Running) -> None:
    aside = seven.folder.with_name("aside")
    seven.folder.rename(aside)
    await until(lambda: seven.lifecycle.shared.pinned.trouble is not None)
    (aside / "pins.yaml").write_text(pins(8))
    shutil.move(aside, seven.folder)
    await took(seven, 8)
