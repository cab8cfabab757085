"""The beat file: that the reflex works, for supervisors to read. Old means: nobody watches."""

from __future__ import annotations

import os
from pathlib import Path

from gleaner.runtime import boot_seconds


class BeatFile:
    """CLOCK_BOOTTIME in one small file, overwritten in place so that a full disk does no harm."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def write(self, at: float | None = None) -> None:
        """Write when the last pass of the reflex was completed; may raise OSError."""
        if self._handle is None:
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        text = f"{boot_seconds() if at is None else at:020.3f}\n"
        os.pwrite(self._handle, text.encode(), 0)

    def close(self) -> None:
        """Let go of the file; it grows old."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
