"""A damaged SQLite file: how it is told, where it is kept aside, and which ones are.

The nodes still hold what was not recorded, so a new file loses only what is old.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

_ASIDE, _AT = ".damaged-", "%Y%m%dT%H%M%S%f"
_LOG = "-wal"
_LOG_HEADER = 32
_FRAME_HEADER = 24
_LOG_MAGIC = 0x377F0682
"""The last bit tells the order of bytes in which its checksum is reckoned."""
_SHARED_LOCK = (0x40000002, 510)
"""The bytes of a SQLite file that who uses it locks, and how many."""


def is_damage(error: Exception) -> bool:
    """Tell a damaged file from one that is locked, full or out of reach."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def keep_aside(path: Path, error: Exception) -> None:
    """Rename a file that nobody has open, with all that belongs to it, and say so."""
    aside = _aside(path)
    logger.error(
        "%s: %s; it is kept as %s, and a new one begins: history starts here",
        path,
        getattr(error, "orig", error),
        aside.name,
    )
    for suffix in (_LOG, "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(f"{aside}{suffix}")


def would_be_dropped(path: Path) -> bool:
    """Tell whether SQLite, if it came anew, would drop the log of a file without a word."""
    log = _log(path)
    if not log.exists() or log.stat().st_size <= _LOG_HEADER:
        return False
    with log.open("rb") as file:
        return not _is_log(file.read(_LOG_HEADER))


def keep_log_aside(path: Path) -> None:
    """Keep the log of a file that nobody has open if SQLite would drop it, or the end of it."""
    if would_be_dropped(path):
        _log(path).rename(_log_aside(path, "its beginning is damaged"))
    elif len(commits := _commits(_log(path))) > 1:
        # The last may be one that a killed recorder did not finish; what is before it was.
        _keep_if_unread(path, commits[-2])


def _keep_if_unread(path: Path, committed: int) -> None:
    """Keep a copy of a log that SQLite reads up to something damaged, without a word."""
    # A file that cannot be read is named by who opens it next.
    with (
        contextlib.suppress(sqlite3.Error),
        log_kept(path),
        contextlib.closing(sqlite3.connect(path)) as database,
    ):
        (_, frames, _) = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if 0 <= frames < committed:
            shutil.copy2(_log(path), _log_aside(path, "it is damaged before its end"))
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _log_aside(path: Path, why: str) -> Path:
    aside = Path(f"{_aside(path)}{_LOG}")
    logger.error(
        "%s: %s; it is kept as %s, and what was written last is in no answer",
        _log(path),
        why,
        aside.name,
    )
    return aside


def _commits(log: Path) -> list[int]:
    """Return which frames end a transaction, as a log says itself; the first is number 1."""
    found = []
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        header = file.read(_LOG_HEADER)
        salts, frame_bytes = header[16:24], _FRAME_HEADER + int.from_bytes(header[8:12])
        for place in range(_LOG_HEADER, log.stat().st_size - frame_bytes + 1, frame_bytes):
            file.seek(place)
            frame = file.read(_FRAME_HEADER)
            # What was there before the log began anew has other salts.
            if any(frame[4:8]) and frame[8:16] == salts:
                found.append(place // frame_bytes + 1)
    return found


def _log(path: Path) -> Path:
    return path.with_name(path.name + _LOG)


def _is_log(header: bytes) -> bool:
    """Tell as SQLite does whether a log begins as one."""
    magic = int.from_bytes(header[:4])
    words = struct.unpack(f"{'>' if magic & 1 else '<'}6I", header[:24])
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return magic & ~1 == _LOG_MAGIC and struct.unpack(">2I", header[24:]) == (first, second)


@contextlib.contextmanager
def log_kept(path: Path) -> Iterator[None]:
    """Have SQLite leave the log as it is when its last connection is closed in the block.

    Else it would put what is damaged into the file, which may be whole; it does not while another
    uses the file, whose lock this is. Python 3.12 has a setting for it, 3.11 has none.
    """
    with contextlib.ExitStack() as stack:
        # What cannot be locked is replaced all the same.
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, *_SHARED_LOCK, 0)
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, lock)
        yield


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}{_ASIDE}{datetime.now(UTC):{_AT}}")


def kept_aside(path: Path) -> dict[str, datetime]:
    """Return the damaged files that lie beside a database, and logs of it, and since when."""
    found = {}
    for one in sorted(path.parent.glob(f"{path.name}{_ASIDE}*")):
        if one.name.removesuffix(_LOG) in found:
            # It belongs to a file that is named already.
            continue
        with contextlib.suppress(ValueError):
            at = f"{one.name.removesuffix(_LOG).rpartition(_ASIDE)[2]}+0000"
            found[one.name] = datetime.strptime(at, f"{_AT}%z")
    return found
