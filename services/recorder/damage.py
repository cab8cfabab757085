"""A damaged SQLite file: how it is told, where it is kept aside, and which ones are.

The nodes still hold what was not recorded, so a new file loses only what is old.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

_ASIDE, _AT = ".damaged-", "%Y%m%dT%H%M%S%f"


def is_damage(error: Exception) -> bool:
    """Tell a damaged file from one that is locked, full or out of reach."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def keep_aside(path: Path, error: Exception) -> None:
    """Rename a file that nobody has open, with all that belongs to it, and say so."""
    aside = path.with_name(f"{path.name}{_ASIDE}{datetime.now(UTC):{_AT}}")
    logger.error(
        "%s: %s; it is kept as %s, and a new one begins: history starts here",
        path,
        getattr(error, "orig", error),
        aside.name,
    )
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(f"{aside}{suffix}")


def kept_aside(path: Path) -> dict[str, datetime]:
    """Return the damaged files that lie beside a database, and since when."""
    found = {}
    for one in sorted(path.parent.glob(f"{path.name}{_ASIDE}*")):
        with contextlib.suppress(ValueError):
            at = f"{one.name.rpartition(_ASIDE)[2]}+0000"
            found[one.name] = datetime.strptime(at, f"{_AT}%z")
    return found
