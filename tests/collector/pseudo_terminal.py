"""A real pseudo-terminal with a real program reading from it, as a terminal window has it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Self


class PseudoTerminal:
    """Type at it with `types`, read the screen with `shows`."""

    def __init__(self, program: str = "cat") -> None:
        self._program = program
        self._screen = ""

    def __enter__(self) -> Self:
        self._master, terminal = os.openpty()
        self.path = Path(os.ttyname(terminal))
        self.where = f"pts/{self.path.name}"
        self._process = subprocess.Popen(
            [self._program],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        os.set_blocking(self._master, False)
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def pid(self) -> int:
        """The process that reads what is typed."""
        return self._process.pid

    def types(self, text: str = "x\n") -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def shows(self, text: str) -> bool:
        """Whether this has appeared on the screen; a line ends with CR LF."""
        with contextlib.suppress(BlockingIOError):
            self._screen += os.read(self._master, 65536).decode()
        return text in self._screen

    def leave(self) -> None:
        """Close the window: the terminal vanishes."""
        if self._master >= 0:
            self._process.kill()
            self._process.wait()
            os.close(self._master)
            self._master = -1
