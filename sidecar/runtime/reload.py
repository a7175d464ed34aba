"""When to look at the mounted files: any event in their directory, a poll as a net, SIGHUP.

A ConfigMap swaps by renaming the `..data` symlink: a watch on the file itself would miss it, so the *directory* is
watched, and content decides. A `subPath` mount never updates at all: it is warned of.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from sidecar.runtime.directory import DirectoryWatcher, Signature, signature_of
from sidecar.runtime.pinned import Pinned
from sidecar.runtime.secrets import Secrets
from sidecar.settings.problems import UnreadableError

log = logging.getLogger("sidecar.pins")

POLL_S = 0.5
SETTLE_S = 0.02
"""Events come in bursts (a rename is several); one look after the burst is enough."""


class Reloader:
    """Keeps `pinned` and the secrets at what the files say."""

    def __init__(self, pinned: Pinned, path: Path, last_good: Path | None, secrets: Secrets) -> None:
        self._pinned = pinned
        self._path = path
        self._last_good = last_good
        self._secrets = secrets
        self._seen: Signature | None = None  # of the bytes that were read last; None: look again
        self._wake = asyncio.Event()
        self._forced = False
        self._task: asyncio.Task[None] | None = None
        self._watcher = DirectoryWatcher(path.parent, self._on_event)

    async def start(self) -> None:
        """The first load. An unusable file is replaced by the last good one, if that is usable."""
        if looks_like_subpath(self._path):
            log.warning("%s is mounted by itself (subPath?): it will never see a swap; mount its directory", self._path)
        self._watcher.open()
        await self._look(force=True)
        if self._pinned.snapshot is None and self._last_good is not None:
            found = await asyncio.to_thread(self._pinned.look, self._last_good)
            if found.pins is not None:
                self._pinned.offer_last_good(found.pins)
            elif found.error is not None:
                log.error("the last good pin file is unusable too: %s", found.error.problems[0])
        self._task = asyncio.create_task(self._run(), name="reload")

    async def stop(self) -> None:
        self._watcher.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def reload_now(self) -> None:
        """SIGHUP: look whether or not anything seems to have changed."""
        self._forced = True
        self._wake.set()

    def _on_event(self) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):  # not wait_for: in 3.11 it can swallow the cancellation by `stop`
                    await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(SETTLE_S)
            forced, self._forced = self._forced, False
            self._watcher.open()
            self._secrets.look(force=forced)
            try:
                await self._look(force=forced)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the next look must still come
                self._seen = None
                self._pinned.refuse(f"looking at {self._path} failed: {type(exc).__name__}")

    async def _look(self, *, force: bool) -> None:
        signature = signature_of(self._path)
        if signature == self._seen and not force:
            return
        found = await asyncio.to_thread(self._pinned.look, self._path)
        # What couldn't be read is tried again at each poll: permissions and free descriptors come back unseen.
        self._seen = None if isinstance(found.error, UnreadableError) else signature
        self._pinned.judge(found)


def looks_like_subpath(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether the file itself is a mount point, as Kubernetes makes it for `subPath`."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    wanted = str(path.absolute())
    points = (line.split(" ")[4].replace("\\040", " ") for line in lines if line.count(" ") > 4)
    return wanted in points
