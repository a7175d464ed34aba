"""Where lines go: a file or a standard stream, written by one thread of its own so that nobody waits for a disk.

Decides what happens when the destination is slow, full, gone or rotated: lines are kept up to a bound, then dropped
and counted; a line is in the file whole or not at all. What a line says is not its business.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BATCH_BYTES = 2**20  # of whole lines in one write to a file
PIPE_BYTES = 4096  # POSIX PIPE_BUF on Linux: a write of no more neither blocks after POLLOUT nor mixes with others'
LINGER_S = 0.02  # lines are gathered for so long before they are written,
MOST_LINGER_S = 0.1  # twice as long each time while more come: each time the thread runs, the loop's must wait for it
RETRY_S = 1.0  # between attempts at a destination that failed
WARN_S = 60.0  # between warnings about the same sink
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_STREAMS = {"-": (1, "__stdout__"), "stderr": (2, "__stderr__")}


class LineSink:
    """Appends lines to `path` (`-`: standard output, `stderr`: standard error) from a thread of its own.

    `put` never blocks and never raises. `dropped` counts lines given up, `errors` failed attempts to open or write.
    `on_trouble` is told in words, once when trouble begins, from the writer's thread. A file is rotated to `PATH.1`
    before it would exceed `max_bytes`; streams, pipes and devices are not. Directories are never created.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_bytes: int = 16 * 2**20,
        capacity: int = 10_000,
        max_buffered: int = 8 * 2**20,
        name: str,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.path = str(path)
        self.dropped = 0
        self.errors = 0
        self._max_bytes = max_bytes
        self._capacity = capacity
        self._max_buffered = max_buffered
        self._on_trouble = on_trouble
        self._lines: deque[bytes] = deque()
        self._buffered = 0  # bytes in _lines, with their newlines
        # Re-entrant: a signal handler or a warning raised inside `put` may log, which is a `put` again.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._asleep = True
        self._closed = False
        self._closing = threading.Event()  # the same, to be waited for
        self._deadline = 0.0  # of closing
        self._thread: threading.Thread | None = None
        self._out = _Destination(self.path, max_bytes)
        self._batch = b""  # whole lines being written
        self._at = 0  # how much of the batch is written
        self._warned_at: float | None = None
        self._troubled = False

    def put(self, line: bytes) -> bool:
        """Take one line (its newline may be missing); False if it was dropped."""
        if line.endswith(b"\n"):
            line = line[:-1]
        with self._lock:
            buffered = self._buffered + len(line) + 1
            if self._closed or buffered > self._max_buffered or len(self._lines) >= self._capacity:
                self.dropped += 1
                return False
            self._lines.append(line)
            self._buffered = buffered
            if self._asleep:
                self._rouse()
            return True

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what can be written within `timeout_s` seconds; the rest is dropped. Safe to call twice."""
        self._deadline = time.monotonic() + timeout_s
        self._closed = True
        self._closing.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        with self._lock:
            self.dropped += len(self._lines)
            self._lines.clear()
            self._buffered = 0

    def _rouse(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"sink-{self.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had: the lines stay, the next put tries again
                self.errors += 1
                return
            self._thread = thread
        self._asleep = False
        self._wake.set()

    def _run(self) -> None:
        linger_s = LINGER_S
        while True:
            self._wake.wait()
            if not self._closing.is_set():
                self._closing.wait(linger_s)
            try:
                wrote = self._drain()
            except Exception as exc:  # noqa: BLE001  # a writer that dies would silence the sink for good
                self._trouble(exc)
                if self._closing.is_set():
                    break
                self._closing.wait(RETRY_S)
                continue
            linger_s = min(2 * linger_s, MOST_LINGER_S)
            with self._lock:
                left = bool(self._lines or self._batch)
                if self._closing.is_set() and (not left or time.monotonic() >= self._deadline):
                    break
                if left or wrote:
                    continue  # looks again by itself: to be woken costs more
                linger_s = LINGER_S
                self._wake.clear()
                self._asleep = True
                if self._closing.is_set():  # it may have been set, and its wake cleared, just now
                    break
        self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            self.dropped += self._batch.count(b"\n", self._at)
            self._batch = b""
        self._out.close()

    def _drain(self) -> bool:
        """Write until nothing is left; raises OSError on trouble, with all that isn't written still kept.

        False if there was nothing.
        """
        wrote = False
        while self._take():
            wrote = True
            if self._out.reopen():  # a line begun in a file that is gone is written whole in the new one
                self._at = self._batch.rfind(b"\n", 0, self._at) + 1
            if self._at == 0:
                self._out.rotate_for(len(self._batch))
            if not self._out.ready(0.1):
                if self._closing.is_set() and time.monotonic() >= self._deadline:
                    break
                continue
            try:
                self._at = self._out.write(self._batch, self._at)
            except ShortWriteError as short:
                self._at = short.done
                raise
            if self._at >= len(self._batch):
                self._batch = b""
                self._at = 0
                self._troubled = False
        return wrote

    def _take(self) -> bool:
        """Make sure that there is a batch to write; False if there is nothing."""
        if self._batch:
            return True
        room = self._out.room()
        with self._lock:
            if self._buffered <= room:
                lines, self._lines, self._buffered = self._lines, deque(), 0
            else:
                lines = self._first(room)
        self._batch = b"\n".join((*lines, b""))
        return bool(lines)

    def _first(self, room: int) -> deque[bytes]:
        """Take as many lines as there is room for, but one at least. With the lock held."""
        lines: deque[bytes] = deque()
        while self._lines and (not lines or len(self._lines[0]) < room):
            line = self._lines.popleft()
            self._buffered -= len(line) + 1
            room -= len(line) + 1
            lines.append(line)
        return lines

    def _trouble(self, exc: Exception) -> None:
        self.errors += 1
        now = time.monotonic()
        if self._troubled or (self._warned_at is not None and now - self._warned_at < WARN_S):
            self._troubled = True
            return
        self._troubled = True
        self._warned_at = now
        if self._on_trouble is not None:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
            with suppress(Exception):
                self._on_trouble(f"{self.name} cannot be written to {self.path}: {reason}")


class ShortWriteError(OSError):
    """A file took only a part, which is how a full disk begins. `done` is where to go on in the batch."""

    def __init__(self, done: int) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.done = done


class _Destination:
    """The open file or stream behind a sink; used by its thread only."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self._path = path
        self._place = Path(path)
        self._max_bytes = max_bytes
        self._stream = path in _STREAMS
        self._fd: int | None = None
        self._regular = False
        self._file = (0, 0)  # which one is open: its number and its device
        self._size = 0  # its bytes, when it was last looked at
        self._poll: select.poll | None = None  # for what may block

    def reopen(self) -> bool:
        """Open what isn't open, or what somebody moved or removed. True if another file than before is open."""
        if self._fd is not None:
            if self._stream or not self._regular or self._is_in_place():
                return False
            self.close()
        if self._stream:
            fd, name = _STREAMS[self._path]
            if getattr(sys, name) is None:  # closed before we started: the number may belong to a socket by now
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        else:
            fd = os.open(self._path, _OPEN, 0o640)
        self._fd = fd
        found = os.fstat(fd)
        self._regular = stat.S_ISREG(found.st_mode)
        self._file, self._size = (found.st_ino, found.st_dev), found.st_size
        self._poll = None
        if not self._regular:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)
        elif not self._stream:
            self._end_torn_line()
        return True

    def room(self) -> int:
        """How many bytes of whole lines to gather for the next write."""
        if self._fd is None:
            return min(PIPE_BYTES, self._max_bytes)
        if not self._regular:
            return PIPE_BYTES
        if self._stream:
            return BATCH_BYTES
        left = self._max_bytes - self._size
        return min(BATCH_BYTES, left if left > 0 else self._max_bytes)

    def rotate_for(self, size: int) -> None:
        """Move the file aside if `size` more bytes would make it too large."""
        if self._fd is None or self._stream or not self._regular:
            return
        if self._size == 0 or self._size + size <= self._max_bytes:
            return
        real = self._place.resolve()  # a symlink stays where it is
        real.replace(f"{real}.1")
        self.close()
        self.reopen()

    def ready(self, wait_s: float) -> bool:
        """True if a write won't block; waits up to `wait_s` seconds."""
        return self._poll is None or bool(self._poll.poll(wait_s * 1000))

    def write(self, batch: bytes, at: int) -> int:
        """Write `batch` from `at` on; the new `at`. Raises OSError, ShortWriteError if the disk took only a part."""
        fd = self._fd
        if fd is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        end = len(batch) if self._regular else min(len(batch), at + PIPE_BYTES)
        try:
            done = at + os.write(fd, memoryview(batch)[at:end])
        except BlockingIOError:
            return at
        except OSError:
            if not self._stream:
                self.close()
            raise
        self._size += done - at
        if done < end and self._regular:
            raise ShortWriteError(self._take_back(fd, batch, done))
        return done

    def _take_back(self, fd: int, batch: bytes, done: int) -> int:
        """Cut a half line off the end of our file; where that can't be, the rest follows when there is room again."""
        whole = batch.rfind(b"\n", 0, done) + 1
        with suppress(OSError):
            if not self._stream and os.fstat(fd).st_size == self._size:  # else somebody else writes here too
                os.ftruncate(fd, self._size - (done - whole))
                return whole
        return done

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None and not self._stream:
            with suppress(OSError):
                os.close(fd)

    def _is_in_place(self) -> bool:
        """Whether the path still leads to the open file. Looks at its size, too: somebody may have cut it."""
        try:
            there = self._place.stat()
        except OSError:
            return False
        self._size = there.st_size
        return (there.st_ino, there.st_dev) == self._file

    def _end_torn_line(self) -> None:
        """A file whose last line has no end (killed while writing) gets it, so that our first line is one."""
        with suppress(OSError), self._place.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n" and self._fd is not None:
                self._size += os.write(self._fd, b"\n")
