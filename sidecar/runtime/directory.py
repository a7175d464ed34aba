"""Seeing that files change: inotify on one directory, on the event loop, and a signature for the poll beside it.

Where there is no inotify, the poll alone serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    from inotify_simple import INotify, flags
except ImportError:  # not Linux
    INotify = flags = None

Signature = tuple[int, ...]


class DirectoryWatcher:
    """Calls `on_event` for anything that happens to a name in the directory; what it was is for the reader to see."""

    def __init__(self, directory: Path, on_event: Callable[[], None]) -> None:
        self._directory = directory
        self._on_event = on_event
        self._inotify: Any = None
        self._watched: int | None = None  # inode of the directory that is watched
        self._descriptor: int | None = None  # of the watch

    def open(self) -> None:
        """Watch, or watch again if the directory was replaced. Cheap when nothing changed; never raises."""
        if INotify is None:
            return
        try:
            inode = self._directory.stat().st_ino
            if inode == self._watched:
                return
            if self._inotify is None:
                self._inotify = INotify(nonblocking=True)
                asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._ready)
            mask = flags.CLOSE_WRITE | flags.MODIFY | flags.CREATE | flags.DELETE | flags.MOVED_TO | flags.MOVED_FROM
            mask |= flags.ATTRIB | flags.DELETE_SELF | flags.MOVE_SELF
            self._forget()  # a directory that was moved away would still be watched
            self._descriptor = self._inotify.add_watch(self._directory, mask)
            self._watched = inode
        except OSError:
            self._watched = None  # out of watches, or no such directory: the poll goes on

    def _forget(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # gone with its directory
                self._inotify.rm_watch(self._descriptor)
            self._descriptor = None

    def close(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _ready(self) -> None:
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.IGNORED and event.wd == self._descriptor:
                self._watched = self._descriptor = None
        self._on_event()


def signature_of(path: Path) -> Signature:
    """What changes when a file is written, replaced, or its symlinks point elsewhere; empty if there is none.

    The change time is part of it, since `cp -p` and `rsync -t` bring another file's modification time with them.
    """
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_dev, found.st_mtime_ns, found.st_ctime_ns, found.st_size
