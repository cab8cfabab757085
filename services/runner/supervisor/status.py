"""What the supervisor knows of its run, in a file that is replaced as a whole."""

from __future__ import annotations

import json
import os

from services.runner.supervisor import BELL
from services.runner.supervisor.kernel import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STATUS_BYTES = 4096


class Status:
    """What we know, in a file that is replaced as a whole."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[str, Any] = {}

    def say(self, **news: Any) -> None:
        """Add to the status, and ring the bell."""
        self._known.update(news)
        text = json.dumps(self._known).ljust(_STATUS_BYTES).encode()
        temporary = self._path + ".new"
        try:
            write(temporary, text)
            os.replace(temporary, self._path)
        except OSError:
            self._overwrite(text)
        try:
            os.write(BELL, b"!")
        except OSError:
            return

    def _overwrite(self, text: bytes) -> None:
        """On a full disk there is still the room of the old one, which has the same size."""
        try:
            handle = os.open(self._path, os.O_WRONLY)
            try:
                os.pwrite(handle, text, 0)
            finally:
                os.close(handle)
        except OSError:
            return
