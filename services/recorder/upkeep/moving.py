"""`gleaner database migrate` and `copy`: a database brought up to date, or into another one.

Both take the recorder's place as the one who writes. A copy is all or nothing: into a new file
under another name, or in one transaction of the server.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, RowMapping, Table, delete, func, insert, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gleaner.runtime import Fatal
from services.recorder.index import mentioning
from services.recorder.schema import tables
from services.recorder.schema.migrate import layout_of, migrate, tables_of
from services.recorder.schema.names import Names
from services.recorder.storage import damage, space
from services.recorder.storage.connect import is_file, name_of, url_of, writing
from services.recorder.storage.database import make_private
from services.recorder.storage.failures import words_of
from services.recorder.storage.lock import FileLock, InUse, give_to_owner_of_folder

ROWS = 1000
SAID_SECONDS = 5.0
_MADE_WITH_THE_TABLES = (tables.name, tables.time_zone)
"""What is in them says nothing unless there are rows elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What became of a database."""

    name: str
    before: str | None
    after: str
    can_shrink_now: bool
    """It could not give room back to the disk before."""


def _nothing(_: str) -> None:
    """Say nothing."""


async def bring_up_to_date(database_url: str, say: Callable[[str], None] = _nothing) -> Migrated:
    """Make the tables the newest, and a SQLite file such that it can shrink; raise Fatal."""
    url = url_of(database_url)
    async with _alone(url) as engine:
        async with engine.begin() as connection:
            before = await connection.run_sync(migrate, name_of(url))
        await _index_all(engine, say)
        is_made_new = is_file(url) and await _make_shrinkable(engine)
    return Migrated(
        name=name_of(url),
        before=before.current,
        after=before.newest,
        can_shrink_now=is_made_new,
    )


async def _index_all(engine: AsyncEngine, say: Callable[[str], None]) -> None:
    """Take older events into the index of what they name, which a recorder does beside its work."""
    names, said = Names(), 0.0
    async with engine.begin() as connection:
        await names.load(connection)
    left = 1
    while left:
        async with engine.begin() as connection:
            left = await mentioning.mention_older(connection, names, ROWS)
        if left and time.monotonic() - said >= SAID_SECONDS:
            said = time.monotonic()
            say(f"older events are being indexed, {left} left at most")


async def copy(source_url: str, target_url: str, say: Callable[[str], None]) -> int:
    """Copy everything into an empty database and count it there; return how many rows."""
    source, target = url_of(source_url), url_of(target_url)
    if source == target:
        raise Fatal(f"{name_of(source)}: source and target are the same")
    async with _alone(source) as engine, engine.connect() as connection:
        layout = await connection.run_sync(layout_of)
        if layout.problem is not None:
            raise Fatal(f"{name_of(source)} {layout.problem}")
        if not layout.is_newest:
            raise Fatal(
                f"{name_of(source)} has layout {layout.current or 'none'}, not {layout.newest}: "
                "first `gleaner database migrate`"
            )
        if not is_file(target):
            async with _alone(target) as into:
                return await _fill(connection, into, name_of(target), say)
        path = Path(str(target.database))
        _refuse_other(path)
        if _has_bytes(path):
            async with _alone(target) as old, old.connect() as found:
                await _refuse_filled(found, name_of(target))
        unfinished = path.with_name(f"{path.name}.copying")
        _remove(unfinished)
        try:
            with _told_of(name_of(target)):
                make_private(unfinished)
            new = target.set(database=str(unfinished))
            async with _alone(new, name=name_of(target), is_new=True) as into:
                copied = await _fill(connection, into, name_of(target), say)
            _put_in_place(unfinished, path)
        finally:
            _remove(unfinished)
        return copied


@contextlib.asynccontextmanager
async def _alone(url: URL, *, name: str = "", is_new: bool = False) -> AsyncIterator[AsyncEngine]:
    """Connect as the one who writes; what goes wrong is told in one line."""
    name, lock = name or name_of(url), None
    if is_file(url):
        path = Path(str(url.database))
        if not is_new:
            _require_file(path)
        lock = FileLock(path)
    engine = writing(url)
    try:
        with _told_of(name):
            if lock is not None:
                lock.take()
                damage.keep_log_aside(path)
            yield engine
    finally:
        await engine.dispose()
        if lock is not None:
            lock.release()


@contextlib.contextmanager
def _told_of(name: str) -> Iterator[None]:
    """Tell what goes wrong in one line, with the database that it is about."""
    try:
        yield
    except InUse as error:
        raise Fatal(f"{name}: {error}; stop the recorder first") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise Fatal(f"{name}: {words_of(error)}") from error


async def _make_shrinkable(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        if await space.can_give_back(connection):
            return False
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        # The whole file is written anew, beside itself: only without a recorder.
        await raw.executescript("PRAGMA auto_vacuum=INCREMENTAL; VACUUM")
        return await space.can_give_back(connection)


def _has_bytes(path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.exists() and path.stat().st_size > 0


def _require_file(path: Path) -> None:
    _refuse_other(path)
    if not path.exists():
        raise Fatal(f"{path}: there is no such file")


def _refuse_other(path: Path) -> None:
    """Refuse what is there and no file: a copy would take the place of a device."""
    if path.exists() and not path.is_file():
        raise Fatal(f"{path}: it is no file")


async def _refuse_filled(connection: AsyncConnection, name: str) -> None:
    layout = await connection.run_sync(layout_of)
    if layout.problem is not None:
        raise Fatal(f"{name} {layout.problem}")
    ours = {table.name for table in tables.metadata.sorted_tables}
    there = await connection.run_sync(tables_of)
    for table in sorted(there - {"alembic_version"}):
        if table not in ours:
            raise Fatal(f"{name} has a table {table}, which is not Gleaner's; use an empty one")
        if tables.metadata.tables[table] in _MADE_WITH_THE_TABLES:
            continue
        one = select(literal(1)).select_from(tables.metadata.tables[table]).limit(1)
        if (await connection.execute(one)).first():
            raise Fatal(f"{name} is not empty: there are rows in {table}")


async def _fill(
    source: AsyncConnection, engine: AsyncEngine, name: str, say: Callable[[str], None]
) -> int:
    copied = 0
    async with engine.connect() as target:
        await _refuse_filled(target, name)
        await target.run_sync(migrate, name)
        for table in _MADE_WITH_THE_TABLES:
            await target.execute(delete(table))
        for table in tables.metadata.sorted_tables:
            rows = await _copy_table(source, target, table)
            there = await _count(target, table)
            if not rows == there == await _count(source, table):
                raise Fatal(f"{name}: {rows} rows of {table.name} were copied, {there} are there")
            say(f"{table.name}: {rows} rows")
            copied += rows
        await target.commit()
    return copied


async def _copy_table(source: AsyncConnection, target: AsyncConnection, table: Table) -> int:
    rows = 0
    async for page in _pages(source, table):
        await target.execute(insert(table), [dict(row) for row in page])
        rows += len(page)
        if target.dialect.name == "sqlite":
            # Nobody sees the file yet, and one transaction would take its room twice.
            await target.commit()
    number = table.autoincrement_column
    if number is not None and rows and target.dialect.name == "postgresql":
        # It counts on from what it gave out itself, which is nothing.
        sequence = func.pg_get_serial_sequence(f'"{table.name}"', number.name)
        await target.execute(
            select(func.setval(sequence, select(func.max(number)).scalar_subquery()))
        )
    return rows


async def _pages(source: AsyncConnection, table: Table) -> AsyncIterator[Sequence[RowMapping]]:
    # What fails while it is written is about the target.
    with _told_of(name_of(source.engine.url)):
        stream = await source.stream(select(table), execution_options={"yield_per": ROWS})
        async for page in stream.mappings().partitions(ROWS):
            yield page


async def _count(connection: AsyncConnection, table: Table) -> int:
    with _told_of(name_of(connection.engine.url)):
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


def _put_in_place(unfinished: Path, path: Path) -> None:
    with unfinished.open("rb+") as file:
        give_to_owner_of_folder(file.fileno(), path)
        os.fsync(file.fileno())
    unfinished.replace(path)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
