"""What a workload writes, carried to its log or to the agent's standard error; never waited for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536
_LINE = 8192


class Pump(threading.Thread):
    """Carries output to the log, in a thread of its own, since a disk may hang."""

    def __init__(self, source: int, spec: dict[str, Any]) -> None:
        super().__init__(name="pump", daemon=True)
        self._source = source
        self._sink: LogFile | Standard = (
            LogFile(spec["log"]) if spec["log"] else Standard(spec["prefix"])
        )
        self._dropped = 0
        self._problem: str | None = None

    def report(self) -> dict[str, Any]:
        """Return what was lost of the output, and why."""
        return {"output_dropped_bytes": self._dropped, "output_problem": self._problem}

    def run(self) -> None:
        """Read until nobody holds the other end; never stop because nobody takes it."""
        # A log is there from the start on, also of who says nothing for hours.
        self._pass_on(b"")
        while chunk := os.read(self._source, _CHUNK):
            self._pass_on(chunk)
        with contextlib.suppress(OSError):
            self._sink.finish()

    def _pass_on(self, chunk: bytes) -> None:
        try:
            self._sink.write(chunk)
            self._problem = None
        except OSError as error:
            self._dropped += len(chunk)
            self._problem = error.strerror


class LogFile:
    """An appended file, rotated by size; several runs may share it."""

    def __init__(self, log: dict[str, Any]) -> None:
        self._log = log
        self._handle: int | None = None

    def write(self, chunk: bytes) -> None:
        """Append; OSError if that cannot be."""
        if self._handle is None or self._was_moved():
            self._open()
        assert self._handle is not None
        size = os.fstat(self._handle).st_size
        if size and size + len(chunk) > self._log["max_bytes"]:
            self._rotate()
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._handle, rest) :]

    def finish(self) -> None:
        """Nothing is held back."""

    def _open(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        # The folder may belong to the workload's user, and we may be root: no link is followed,
        # and nothing is given to that user but what we have made.
        path, flags = self._log["path"], os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
        except FileExistsError:
            self._handle = os.open(path, flags)
            return
        if self._log["owner"]:
            os.fchown(self._handle, *self._log["owner"])

    def _was_moved(self) -> bool:
        assert self._handle is not None
        ours = os.fstat(self._handle)
        try:
            there = os.stat(self._log["path"], follow_symlinks=False)
        except FileNotFoundError:
            return True
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)

    def _rotate(self) -> None:
        """Make room, once: whoever shares the file waits for the lock and finds it moved."""
        assert self._handle is not None
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            return
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        if not self._was_moved():
            path, keep = self._log["path"], self._log["keep"]
            for number in range(keep, 0, -1):
                older = f"{path}.{number - 1}" if number > 1 else path
                if os.path.lexists(older):
                    os.replace(older, f"{path}.{number}")
            if keep == 0:
                os.unlink(path)
        self._open()


class Standard:
    """The agent's standard error, line by line with a prefix; nothing where that is gone."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._line = b""

    def write(self, chunk: bytes) -> None:
        """Write whole lines; never wait longer than a second for whoever reads them."""
        lines = (self._line + chunk).split(b"\n")
        self._line = lines.pop()
        if len(self._line) > _LINE:
            lines.append(self._line)
            self._line = b""
        for line in lines:
            text = self._prefix + line + b"\n"
            for start in range(0, len(text), select.PIPE_BUF):
                if not select.select([], [2], [], 1)[1]:
                    raise BlockingIOError(0, "nobody reads it")
                os.write(2, text[start : start + select.PIPE_BUF])

    def finish(self) -> None:
        """Write the last line, which has no end."""
        if self._line:
            self.write(b"\n")
