"""Choose how to hear from the kernel: fanotify, else inotify, else not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from services.collector.interface import Notice, NoticedBy, Notices
from services.collector.kernel.fanotify import Fanotify
from services.collector.kernel.inotify import InotifyNotices

logger = logging.getLogger(__name__)

Handler = Callable[[Notice], None]


def open_notices(wish: Literal["auto", "fanotify", "inotify", "check"] = "auto") -> Notices:
    """Return the best this machine allows, or less by wish; call in a running event loop."""
    ways: list[Notices] = []
    for way in (Fanotify, InotifyNotices):
        if wish not in ("auto", way.by):
            continue
        try:
            ways.append(way())
        except OSError as error:
            logger.info("%s cannot be used: %s", way.by, error)
    return FirstThatCan(*ways)


class FirstThatCan:
    """Several notices as one: each path is watched by the first of them that can.

    A file system may refuse fanotify where inotify works: pseudo-terminals before Linux 6.7.
    """

    def __init__(self, *ways: Notices) -> None:
        self._ways = ways
        self.by: NoticedBy = ways[0].by if ways else "check"
        self.reads_by = self._try_a_terminal()

    def watch_opens(self, path: Path, handler: Handler) -> bool:
        """See `Notices.watch_opens`."""
        return any(way.watch_opens(path, handler) for way in self._ways)

    def watch_reads(self, path: Path, handler: Handler) -> bool:
        """See `Notices.watch_reads`."""
        return any(way.watch_reads(path, handler) for way in self._ways)

    def watch_made(self, directory: Path, handler: Handler) -> bool:
        """See `Notices.watch_made`."""
        return any(way.watch_made(directory, handler) for way in self._ways)

    def unwatch(self, path: Path) -> None:
        """See `Notices.unwatch`."""
        for way in self._ways:
            way.unwatch(path)

    def close(self) -> None:
        """See `Notices.close`."""
        for way in self._ways:
            way.close()

    def _try_a_terminal(self) -> NoticedBy:
        try:
            master, terminal = os.openpty()
        except OSError:
            return self.by
        try:
            path = Path(os.ttyname(terminal))
            by = next((way.by for way in self._ways if way.watch_reads(path, _ignore)), None)
            self.unwatch(path)
        except OSError:  # A container whose /dev/pts is not the one that made the terminal.
            return self.by
        finally:
            os.close(master)
            os.close(terminal)
        return by or "check"


def _ignore(notice: Notice) -> None:
    """Hear of nothing."""
