"""Sinks under everything that happens to files and streams."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.telemetry import sinks as module
from sidecar.telemetry.sinks import LineSink

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    monkeypatch.setattr(module, "LINGER_S", 0.001)
    monkeypatch.setattr(module, "MOST_LINGER_S", 0.001)


def numbered(n: int, size: int = 0) -> bytes:
    return json.dumps({"n": n, "pad": "x" * size}).encode()


def numbers(*paths: Path) -> list[int]:
    """The numbers in the files' lines; fails on anything that isn't a whole line."""
    data = b"".join(path.read_bytes() for path in paths if path.exists())
    assert not data or data.endswith(b"\n")
    return [json.loads(line)["n"] for line in data.splitlines()]


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Files can't grow beyond `size`: as on a full disk, a write takes what fits and the next one fails."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_lines_appear_soon_and_in_order(tmp_path: Path, eventually: Eventually) -> None:
    path = tmp_path / "events.jsonl"
    sink = LineSink(path, name="events", on_trouble=None)
    assert not path.exists()
    assert sink.put(numbered(0))
    assert sink.put(numbered(1) + b"\n")
    began = time.monotonic()
    eventually(lambda: path.exists() and numbers(path) == [0, 1])
    assert time.monotonic() - began < 1.0
    assert path.stat().st_mode & 0o777 & ~0o640 == 0
    sink.put(numbered(2))  # the thread was asleep
    eventually(lambda: numbers(path) == [0, 1, 2])
    sink.close(5)
    assert not sink.put(numbered(3))
    assert (sink.dropped, sink.errors) == (1, 0)


def test_an_existing_file_is_continued_even_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(numbered(0) + b"\n" + b'{"n": 1, "pa')
    sink = LineSink(path, name="events")
    sink.put(numbered(2))
    sink.close(5)
    assert path.read_bytes().splitlines() == [numbered(0), b'{"n": 1, "pa', numbered(2)]


def test_lines_beyond_capacity_are_dropped_and_counted(tmp_path: Path) -> None:
    sink = LineSink(tmp_path / "missing" / "events.jsonl", name="events", capacity=10)
    kept = [sink.put(numbered(i)) for i in range(1000)]
    assert sink.dropped == kept.count(False) >= 900
    sink.close(1)
    assert sink.dropped == 1000


def test_buffered_bytes_are_bounded_too(tmp_path: Path) -> None:
    sink = LineSink(tmp_path / "missing" / "x", name="events", max_buffered=1000)
    assert not sink.put(b"x" * 1001)
    assert sink.put(b"x" * 900)
    sink.close(1)
    assert sink.dropped == 2


def test_rotation_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = LineSink(path, name="events", max_bytes=1000)
    for i in range(200):
        sink.put(numbered(i))
    sink.close(5)
    old = tmp_path / "events.jsonl.1"
    assert path.stat().st_size <= 1000
    assert 900 <= old.stat().st_size <= 1000
    found = numbers(old, path)
    assert found == list(range(found[0], 200))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]


def test_a_line_longer_than_the_file_may_be_is_written_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = LineSink(path, name="events", max_bytes=100)
    for i in range(3):
        sink.put(numbered(i, 500))
    sink.close(5)
    assert numbers(tmp_path / "events.jsonl.1", path) == [1, 2]


@pytest.mark.parametrize("how", ["moved", "deleted", "truncated"])
def test_rotation_from_outside(tmp_path: Path, eventually: Eventually, how: str) -> None:
    path = tmp_path / "events.jsonl"
    sink = LineSink(path, name="events")
    sink.put(numbered(0))
    eventually(lambda: path.exists() and numbers(path) == [0])
    if how == "moved":
        path.rename(tmp_path / "elsewhere")
    elif how == "deleted":
        path.unlink()
    else:
        os.truncate(path, 0)
    sink.put(numbered(1))
    eventually(lambda: path.exists() and numbers(path) == [1])
    sink.close(5)
    assert sink.errors == 0


def test_what_others_write_to_the_file_counts_for_its_rotation(tmp_path: Path, eventually: Eventually) -> None:
    path = tmp_path / "events.jsonl"
    sink = LineSink(path, name="events", max_bytes=200)
    sink.put(numbered(0))
    eventually(lambda: path.exists() and numbers(path) == [0])
    with path.open("ab") as other:
        other.write(numbered(1, 150) + b"\n")
    sink.put(numbered(2))
    eventually(lambda: numbers(path) == [2])
    sink.close(5)
    assert numbers(tmp_path / "events.jsonl.1") == [0, 1]


def test_while_lines_keep_coming_they_are_gathered_for_longer(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.02)
    monkeypatch.setattr(module, "MOST_LINGER_S", 0.1)
    sink = LineSink(tmp_path / "x", name="events")
    waited: list[float] = []

    def wait(timeout: float) -> bool:
        waited.append(timeout)
        if len(waited) in {2, 3, 4}:
            sink.put(numbered(len(waited)))
        return False

    monkeypatch.setattr(sink._closing, "wait", wait)
    for n in (1, 9):
        sink.put(numbered(n))
        eventually(lambda: n in numbers(tmp_path / "x") and sink._asleep)  # noqa: B023
    sink.close(5)
    assert waited == [0.02, 0.04, 0.08, 0.1, 0.1, 0.02, 0.04]
    assert numbers(tmp_path / "x") == [1, 2, 3, 4, 9]


def test_a_symlink_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "events.jsonl")
    sink = LineSink(tmp_path / "link", name="events", max_bytes=100)
    for i in range(20):
        sink.put(numbered(i))
    sink.close(5)
    assert (tmp_path / "link").is_symlink()
    assert numbers(tmp_path / "real" / "events.jsonl")[-1] == 19


def test_a_full_disk_leaves_whole_lines_and_goes_on_when_there_is_room(tmp_path: Path, eventually: Eventually) -> None:
    path = tmp_path / "events.jsonl"
    said: list[str] = []
    sink = LineSink(path, name="events", on_trouble=said.append)
    with disk_of(100_000):
        for i in range(300):
            sink.put(numbered(i, 1000))
        eventually(lambda: sink.errors >= 3)
        half = numbers(path)  # whole lines only, though a write was cut
        assert 0 < len(half) < 300
    eventually(lambda: numbers(path) == list(range(300)))
    sink.close(5)
    assert len(said) == 1
    assert sink.dropped == 0


def test_a_device_that_is_full(eventually: Eventually) -> None:
    said: list[str] = []
    sink = LineSink("/dev/full", name="events", on_trouble=said.append)
    sink.put(b"{}")
    eventually(lambda: sink.errors >= 3)
    assert said == [f"events cannot be written to /dev/full: {os.strerror(errno.ENOSPC)}"]
    sink.close(1)
    assert sink.dropped == 1


def test_a_missing_directory_that_appears_later(tmp_path: Path, eventually: Eventually) -> None:
    path = tmp_path / "later" / "events.jsonl"

    def fail(_: str) -> None:
        raise ValueError("trouble in telling trouble is no trouble")

    sink = LineSink(path, name="events", on_trouble=fail)
    sink.put(numbered(0))
    eventually(lambda: sink.errors >= 2)
    assert not path.parent.exists()
    path.parent.mkdir()
    eventually(lambda: path.exists() and numbers(path) == [0])
    sink.close(5)


def test_a_directory_is_no_file(tmp_path: Path, eventually: Eventually) -> None:
    sink = LineSink(tmp_path, name="events")
    sink.put(numbered(0))
    eventually(lambda: sink.errors >= 1)
    sink.close(1)
    assert sink.dropped == 1


def test_a_failing_rotation_keeps_the_lines_and_the_file_small(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    path = tmp_path / "events.jsonl"
    sink = LineSink(path, name="events", max_bytes=50)
    monkeypatch.setattr(Path, "replace", refuse)
    for i in range(5):
        sink.put(numbered(i))
    eventually(lambda: sink.errors >= 2)
    assert path.stat().st_size <= 50
    monkeypatch.undo()
    eventually(lambda: 4 in numbers(path))
    sink.close(5)
    assert sink.dropped == 0


def test_a_fifo_without_a_reader_and_then_with_one(tmp_path: Path, eventually: Eventually) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    sink = LineSink(path, name="events")
    sink.put(numbered(0))
    eventually(lambda: sink.errors >= 1)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    got: list[bytes] = []

    def read() -> bool:
        with contextlib.suppress(BlockingIOError):
            got.append(os.read(reader, 65536))
        return b"".join(got) == numbered(0) + b"\n"

    eventually(read)
    sink.close(5)
    os.close(reader)


def test_a_trouble_is_told_once_and_a_new_one_again(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WARN_S", 0.0)
    said: list[str] = []
    path = tmp_path / "d" / "events.jsonl"
    sink = LineSink(path, name="events", on_trouble=said.append)
    for episode in (1, 2):
        sink.put(numbered(episode))
        eventually(lambda: len(said) == episode)  # noqa: B023
        path.parent.mkdir()
        eventually(path.exists)
        eventually(lambda: numbers(path) == [episode])  # noqa: B023
        path.unlink()
        path.parent.rmdir()
    sink.close(1)
    assert len(said) == 2


BLOCKED = textwrap.dedent("""
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from sidecar.telemetry.sinks import LineSink
    sink = LineSink("-", name="events", capacity=100)
    began = time.monotonic()
    for i in range(5000):
        sink.put(b'{"n": %d, "pad": "%s"}' % (i, b"x" * 200))
    put = time.monotonic() - began
    time.sleep(0.1)
    began = time.monotonic()
    sink.close(0.3)
    print(put, time.monotonic() - began, sink.dropped, file=sys.stderr)
""")


def test_a_blocked_standard_output_holds_nobody() -> None:
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED, root], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.wait(20) == 0  # though nobody has read a byte of its output
    put_s, close_s, dropped = map(float, process.stderr.read().split())
    assert put_s < 5
    assert close_s < 5
    read = process.stdout.read()
    assert read.endswith("\n")
    assert len(read.splitlines()) + dropped == 5000
    process.stdout.close()
    process.stderr.close()


def test_standard_output_gets_every_line(capfd: pytest.CaptureFixture[str]) -> None:
    out, err = LineSink("-", name="events"), LineSink("stderr", name="log")
    for i in range(100):
        out.put(numbered(i, 100))
    err.put(b"{}")
    out.close(5)
    err.close(5)
    captured = capfd.readouterr()
    assert [json.loads(line)["n"] for line in captured.out.splitlines()] == list(range(100))
    assert captured.err == "{}\n"


def test_a_closed_standard_output_is_not_somebody_elses_file(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    sink = LineSink("-", name="events")
    sink.put(b"{}")
    eventually(lambda: sink.errors)
    sink.close(1)


def test_no_thread_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sink = LineSink(tmp_path / "x", name="events")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert sink.put(numbered(0))
    assert sink.errors == 1
    sink.put(numbered(1))
    sink.close(5)
    assert numbers(tmp_path / "x") == [0, 1]


def test_closing_is_safe_twice_and_before_anything_was_put(tmp_path: Path) -> None:
    sink = LineSink(tmp_path / "x", name="events")
    sink.close(1)
    sink.close(1)
    assert not (tmp_path / "x").exists()


def test_putters_in_many_threads_lose_nothing(tmp_path: Path) -> None:
    sink = LineSink(tmp_path / "x", name="events", max_bytes=2**30)

    def work(base: int) -> None:
        for i in range(500):
            sink.put(numbered(base + i))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close(5)
    found = numbers(tmp_path / "x")
    assert sorted(found) == [1000 * n + i for n in range(4) for i in range(500)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    max_bytes=st.integers(1, 2000),
    cuts=st.lists(st.integers(0, 3), max_size=30),
)
def test_every_line_is_written_whole_once_and_in_order_however_writes_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], max_bytes: int, cuts: list[int]
) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    written: list[bytes] = []
    real, replace = os.write, Path.replace
    todo = list(cuts)

    def cut(fd: int, data: memoryview) -> int:
        # Only for this sink's file: threads of other tests may still write theirs.
        if todo and Path(f"/proc/self/fd/{fd}").readlink().parent == tmp_path:
            kind = todo.pop()
            if kind == 1:
                raise OSError(errno.EIO, "no")
            if kind == 2 and len(data) > 1:
                return real(fd, data[: len(data) // 2])
        return real(fd, data)

    def keep(source: Path, target: str | Path) -> Path:
        if source.parent != tmp_path:
            return replace(source, target)
        written.append(source.read_bytes())
        source.unlink()
        return Path(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", cut)
        patch.setattr(Path, "replace", keep)
        patch.setattr(module, "RETRY_S", 0.0)
        sink = LineSink(tmp_path / "x", name="events", max_bytes=max_bytes)
        for n, size in enumerate(sizes):
            sink.put(numbered(n, size))
        until = time.monotonic() + 30
        while time.monotonic() < until and not sink._asleep:  # a sink that is closed gives up at the next error
            time.sleep(0.001)
        sink.close(5)
    written.append((tmp_path / "x").read_bytes())
    assert all(part.endswith(b"\n") for part in written)
    lines = b"".join(written).splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(len(sizes)))
    assert sink.dropped == 0
