"""Hear from inotify that a device was opened or a terminal read, but not by whom."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from asyncinotify import Inotify, Mask, Watch

from services.collector.interface import Notice, NoticedBy

Handler = Callable[[Notice], None]


class InotifyNotices:
    """Notices from one inotify instance; made in a running event loop; OSError if none is left.

    Our own opens and reads are told too, since nothing says whose they are.
    """

    by: NoticedBy = "inotify"
    reads_by: NoticedBy = "inotify"

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._inotify = Inotify(sync_timeout=0)
        self._watches: dict[Path, tuple[Watch, Handler]] = {}
        self._reader: int | None = self._inotify.fd
        self._loop.add_reader(self._inotify.fd, self._read)

    def watch_opens(self, path: Path, handler: Handler) -> bool:
        """See `Notices.watch_opens`."""
        return self._watch(path, Mask.OPEN, handler)

    def watch_reads(self, path: Path, handler: Handler) -> bool:
        """See `Notices.watch_reads`."""
        return self._watch(path, Mask.ACCESS, handler)

    def watch_made(self, directory: Path, handler: Handler) -> bool:
        """See `Notices.watch_made`."""
        return self._watch(directory, Mask.CREATE, handler)

    def unwatch(self, path: Path) -> None:
        """See `Notices.unwatch`."""
        watch, _ = self._watches.pop(path, (None, None))
        if watch is not None:
            with contextlib.suppress(OSError):  # The watch went with the inode.
                self._inotify.rm_watch(watch)

    def close(self) -> None:
        """See `Notices.close`."""
        if self._reader is not None:
            self._loop.remove_reader(self._reader)
            self._inotify.close()
            self._reader = None

    def _watch(self, path: Path, mask: Mask, handler: Handler) -> bool:
        try:
            # Always added anew: the kernel knows best whether the inode is still the same.
            watch = self._inotify.add_watch(path, mask)
        except OSError:
            self.unwatch(path)
            return False
        before, _ = self._watches.get(path, (watch, None))
        if before is not watch:
            self.unwatch(path)
        self._watches[path] = (watch, handler)
        return True

    def _read(self) -> None:
        noticed_ns = time.monotonic_ns()
        for event in self._inotify:
            if Mask.Q_OVERFLOW in event.mask:
                for path, (_, handler) in tuple(self._watches.items()):
                    handler(self._notice(path, noticed_ns))
            elif event.watch is not None and Mask.IGNORED not in event.mask:
                watch, told = self._watches.get(event.watch.path, (None, None))
                if watch is event.watch and told is not None:
                    told(self._notice(event.watch.path, noticed_ns))

    def _notice(self, path: Path, noticed_ns: int) -> Notice:
        return Notice(path=path, pid=None, noticed_ns=noticed_ns, by=self.by)
