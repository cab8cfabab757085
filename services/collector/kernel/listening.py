"""Listen for opens at the device files of the GPUs, and anew at one that was made anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from services.collector.interface import Notice, Notices

_Mark = tuple[int, int, int]


class Listening:
    """Knows which device files there are, and at which of them nothing can be heard."""

    def __init__(self, notices: Notices, hear: Callable[[Notice], None]) -> None:
        self._notices = notices
        self._hear = hear
        self._marks: dict[Path, _Mark | None] = {}
        self._unheard: set[Path] = set()
        self.devices: Mapping[str, Path] = {}
        """GPU to its device file."""

    def follow(self, devices: Mapping[str, Path]) -> bool:
        """Listen at these; tell whether they are others, or one of them was made anew."""
        are_others = devices != self.devices
        self.devices = devices
        return self._listen() or are_others

    def unheard(self) -> tuple[Path, ...]:
        """Return the device files whose opens are not noticed at once."""
        return tuple(path for path in self.devices.values() if path in self._unheard)

    def close(self) -> None:
        """Listen no more."""
        for path in self._marks:
            self._notices.unwatch(path)

    def _listen(self) -> bool:
        changed = False
        for path in self.devices.values():
            mark = _mark(path)
            if path in self._marks and self._marks[path] == mark:
                continue
            changed = True
            if path in self._marks:
                self._notices.unwatch(path)
            self._marks[path] = mark
            self._unheard.discard(path)
            if not self._notices.watch_opens(path, self._hear):
                self._unheard.add(path)
        return changed


def _mark(path: Path) -> _Mark | None:
    """Return what tells a device file from another one of the same name."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_dev, status.st_ino, status.st_rdev
    return None
