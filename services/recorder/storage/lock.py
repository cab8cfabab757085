"""One writer for one database: a lock that the kernel, or the server, takes back from the dead.

A file beside the database, not the database itself: who closes any handle of a SQLite file loses
SQLite's own locks on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_KEY = int.from_bytes(b"gleaner")
"""Of PostgreSQL's advisory lock; one for each database of a server."""


class InUse(OSError):
    """Another process writes to the database; it may end."""

    def __init__(self, who: str) -> None:
        super().__init__(errno.EBUSY, f"{who} writes to it; only one may")

    def __str__(self) -> str:
        return str(self.strerror)


class FileLock:
    """Held from `take` to `release`; taking it twice is the same."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        self._handle: int | None = None

    def take(self, *, make: bool = True) -> None:
        """Take the lock, or raise InUse; without `make` only where somebody had it before."""
        if self._handle is not None:
            return
        if not make and not self._path.exists():
            return
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_to_owner_of_folder(handle, self._path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(handle, 20).decode(errors="replace").strip()
            os.close(handle)
            raise InUse(f"another process (pid {pid})" if pid else "another process") from None
        # To read for people; a full disk is no reason not to go on.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Let others write."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def give_to_owner_of_folder(handle: int, path: Path) -> None:
    """Let the recorder's own user have a file that root made beside the others."""
    if os.geteuid() == 0:
        folder = os.stat(path.parent)
        os.fchown(handle, folder.st_uid, folder.st_gid)


def lock_server(connection: Any, _: object) -> None:
    """Take the lock of a PostgreSQL database for as long as this connection lives."""
    cursor = connection.cursor()
    cursor.execute(f"SELECT pg_try_advisory_lock({_KEY})")
    (is_ours,) = cursor.fetchone()
    cursor.close()
    # The lock is the connection's, not the transaction's.
    connection.commit()
    if not is_ours:
        connection.close()
        raise InUse("another process")


async def is_server_locked(connection: AsyncConnection) -> bool:
    """Tell whether somebody writes to a PostgreSQL database."""
    is_ours = await connection.execute(text(f"SELECT pg_try_advisory_lock({_KEY})"))
    if not is_ours.scalar_one():
        return True
    await connection.execute(text(f"SELECT pg_advisory_unlock({_KEY})"))
    return False
