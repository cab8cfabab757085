"""How much room a database takes, and giving back what is free, in SQLite's and PostgreSQL's way.

SQLite gives free pages back in small steps. PostgreSQL reuses the room of deleted rows after a
plain VACUUM but keeps its files; so what is used is reckoned from its rows and not from its files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

STEP_PAGES = 64
"""One mebibyte: the writer waits some milliseconds."""
_INCREMENTAL = 2

# A row's own data as ANALYZE saw it, and 28 bytes of header and pointer; indexes shrink alike.
_POSTGRESQL_USED = """
SELECT coalesce(sum(
    pg_total_relation_size(c.oid) * CASE
        WHEN c.reltuples < 0 OR c.relpages = 0 OR w.width IS NULL THEN 1
        ELSE least(1, c.reltuples * (w.width + 28) / (c.relpages * 8192.0))
    END), 0)::bigint
FROM pg_class c
LEFT JOIN (SELECT schemaname, tablename, sum(avg_width * (1 - null_frac)) AS width
           FROM pg_stats GROUP BY schemaname, tablename) w
    ON w.tablename = c.relname AND w.schemaname = current_schema()
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
"""


async def used_bytes(connection: AsyncConnection) -> int:
    """Return what the rows of a database take, with their indexes."""
    if connection.dialect.name != "sqlite":
        return int((await connection.execute(text(_POSTGRESQL_USED))).scalar_one())
    pages, free, size = [
        int((await connection.execute(text(f"PRAGMA {name}"))).scalar_one())
        for name in ("page_count", "freelist_count", "page_size")
    ]
    return (pages - free) * size


async def give_back_some(connection: AsyncConnection) -> bool:
    """Give a few free pages of a SQLite file back to the disk; tell whether there may be more."""
    free = int((await connection.execute(text("PRAGMA freelist_count"))).scalar_one())
    if not free or not await can_give_back(connection):
        return False
    # As a statement it ends after its first page.
    await _outside(connection, f"PRAGMA incremental_vacuum({STEP_PAGES})")
    return free > STEP_PAGES


async def empty_log(connection: AsyncConnection) -> None:
    """Put what is in the log of a SQLite file into it, unless somebody reads just now."""
    await _outside(connection, "PRAGMA wal_checkpoint(TRUNCATE)")


async def _outside(connection: AsyncConnection, script: str) -> None:
    """Run a script, which ends our (empty) transaction first."""
    raw: Any = (await connection.get_raw_connection()).driver_connection
    try:
        await raw.executescript(script)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


async def can_give_back(connection: AsyncConnection) -> bool:
    """Tell whether a SQLite file was made so that it can shrink."""
    mode = (await connection.execute(text("PRAGMA auto_vacuum"))).scalar_one()
    return int(mode) == _INCREMENTAL


async def maintain(connection: AsyncConnection, what: str, tables: Iterable[Table]) -> None:
    """Have PostgreSQL VACUUM or ANALYZE tables; neither holds a writer up."""
    outside = await connection.execution_options(isolation_level="AUTOCOMMIT")
    for table in tables:
        await outside.execute(text(f'{what} "{table.name}"'))
