"""`gleaner database check`: what is in a database, how much, from when, and whether it is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Column, Table, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.schema import tables
from services.recorder.schema.migrate import Layout, layout_of, tables_of
from services.recorder.storage import damage, space
from services.recorder.storage.connect import is_file, name_of, reading, url_of
from services.recorder.storage.failures import words_of
from services.recorder.storage.lock import FileLock, InUse, is_server_locked

MISTAKES = 5
_TIMES = ("at", "slot", "start", "begin", "noticed_at", "received_at", "updated_at")
_SQLITE_BYTES = """
SELECT m.tbl_name AS name, sum(s.pgsize) AS bytes
FROM dbstat s JOIN sqlite_master m ON m.name = s.name WHERE s.aggregate = 1 GROUP BY m.tbl_name
"""
_POSTGRESQL_BYTES = """
SELECT relname AS name, pg_total_relation_size(oid) AS bytes
FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    verdict: Literal["ok", "warn", "fail"]
    text: str


@dataclass(frozen=True, kw_only=True)
class TableSize:
    """One table; None where nobody can tell."""

    name: str
    rows: int
    bytes: int | None
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A database as it was found."""

    name: str
    findings: tuple[Finding, ...]
    tables: tuple[TableSize, ...] = ()
    used_bytes: int | None = None

    @property
    def is_well(self) -> bool:
        """Whether this version of Gleaner can use it."""
        return all(finding.verdict != "fail" for finding in self.findings)


async def examine(database_url: str) -> Examined:
    """Look at a database without changing it, also while a recorder writes to it."""
    url = url_of(database_url)
    name = name_of(url)
    if is_file(url) and (why := _why_not_there(name)):
        return Examined(name=name, findings=(_fail(why),))
    engine = reading(url)
    # Who closes a file last would put its log into it, without a word of what is damaged in that.
    with damage.log_kept(Path(name)) if is_file(url) else contextlib.nullcontext():
        try:
            async with engine.connect() as connection:
                return await _examine(connection, name)
        except (SQLAlchemyError, OSError) as error:
            return Examined(name=name, findings=(_fail(words_of(error)),))
        finally:
            await engine.dispose()


def _why_not_there(name: str) -> str | None:
    path = Path(name)
    if path.is_file():
        return None
    return "it is no file" if path.exists() else "there is no such file"


async def _examine(connection: AsyncConnection, name: str) -> Examined:
    layout = await connection.run_sync(layout_of)
    there = await connection.run_sync(tables_of)
    findings = [_of_layout(layout, there), *await _of_integrity(connection)]
    if await _is_written(connection, name):
        findings.append(_ok("a recorder writes to it"))
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite and layout.current and not await space.can_give_back(connection):
        findings.append(
            _warn("its file cannot shrink: `gleaner database migrate` makes it able to")
        )
    if layout.is_newest and (await connection.execute(select(tables.mentioned))).first():
        findings.append(
            _warn(
                "older events are not indexed yet: the recorder does so beside its work, or "
                "`gleaner database migrate` at once"
            )
        )
    sizes: tuple[TableSize, ...] = ()
    if layout.is_newest and all(finding.verdict != "fail" for finding in findings):
        sizes = await _sizes(connection)
    return Examined(
        name=name,
        findings=tuple(findings),
        tables=sizes,
        used_bytes=await space.used_bytes(connection),
    )


def _of_layout(layout: Layout, there: frozenset[str]) -> Finding:
    if layout.problem is not None:
        return _fail(layout.problem)
    if layout.current is None:
        if not there:
            return _fail("it is empty")
        return _fail(f"it is not Gleaner's: it has {', '.join(sorted(there)[:5])}")
    if not layout.is_newest:
        return _warn(
            f"layout {layout.current}, the newest is {layout.newest}: "
            "the recorder brings it up to date when it starts, or `gleaner database migrate`"
        )
    return _ok(f"layout {layout.current}, the newest")


async def _of_integrity(connection: AsyncConnection) -> Sequence[Finding]:
    if connection.dialect.name != "sqlite":
        return [_ok("PostgreSQL answers; its own tools check its files")]
    said = (await connection.execute(text(f"PRAGMA integrity_check({MISTAKES})"))).scalars().all()
    if [*said] == ["ok"]:
        return [_ok("every page and index is whole")]
    return [_fail(f"damaged: {line}") for line in said]


async def _is_written(connection: AsyncConnection, name: str) -> bool:
    if connection.dialect.name != "sqlite":
        return await is_server_locked(connection)
    lock = FileLock(Path(name))
    try:
        lock.take(make=False)
    except InUse:
        return True
    lock.release()
    return False


async def _sizes(connection: AsyncConnection) -> tuple[TableSize, ...]:
    is_sqlite = connection.dialect.name == "sqlite"
    try:
        found = await connection.execute(text(_SQLITE_BYTES if is_sqlite else _POSTGRESQL_BYTES))
        bytes_of: dict[str, int] = {row.name: int(row.bytes) for row in found}
    except SQLAlchemyError:
        # Not every SQLite is built with dbstat.
        bytes_of = {}
    return tuple(
        [
            await _size(connection, table, bytes_of.get(table.name))
            for table in tables.metadata.sorted_tables
        ]
    )


async def _size(connection: AsyncConnection, table: Table, taken: int | None) -> TableSize:
    time = next((table.c[name] for name in _TIMES if name in table.c), None)
    if table is tables.mention:
        # No index begins with it; it is that of the events.
        time = None
    limits: list[Column[Any] | Any] = [] if time is None else [func.min(time), func.max(time)]
    rows = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
    # One by one, so that each is a look into the index.
    ends = [(await connection.execute(select(limit))).scalar_one() for limit in limits]
    oldest, newest = ends or (None, None)
    return TableSize(name=table.name, rows=rows, bytes=taken, oldest=oldest, newest=newest)


def _ok(words: str) -> Finding:
    return Finding(verdict="ok", text=words)


def _warn(words: str) -> Finding:
    return Finding(verdict="warn", text=words)


def _fail(words: str) -> Finding:
    return Finding(verdict="fail", text=words)
