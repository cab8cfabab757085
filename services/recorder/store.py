"""The database: SQLite by default, PostgreSQL if configured; one writer, readers beside it.

A batch of events is one transaction; what it returns may be acknowledged. Everything that a
full disk, a lock or a server that is away can cause is an `OperationalError`, and may be tried
again. A damaged SQLite file is kept aside and a new one begun: the nodes still hold what was not
recorded.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    CursorResult,
    Executable,
    Insert,
    Row,
    Select,
    Table,
    and_,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.recorder import accounting, rows, space, tables
from services.recorder.connect import is_file, name_of, reading, url_of, writing
from services.recorder.lock import FileLock
from services.recorder.migrate import migrate
from services.recorder.progress import Gap, Progress
from services.recorder.rollup import TIERS, Tier
from services.recorder.upsert import insert_into

logger = logging.getLogger(__name__)

DEAD_LETTERS = 1000
"""Kept at most; the newest."""
STREAMS_PER_NODE = 100
"""Named at most in one `Recorded`; each start of a node begins a stream."""

_Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A payload that is no event."""

    topic: str
    payload: bytes
    reason: str
    received_at: datetime

    KEPT_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Number:
    """The place of one event in its stream, and what it becomes; nothing if it is unreadable."""

    node: str
    stream: str
    sequence: int
    oldest: int
    rows: rows.Rows | None


class Store:
    """An open database; close it, for its threads live as long as its connections."""

    def __init__(self, url: str) -> None:
        self._url = url_of(url)
        self._is_file = is_file(self._url)
        self._lock = FileLock(Path(str(self._url.database))) if self._is_file else None
        self._one_at_a_time = asyncio.Lock()
        self._writing: AsyncEngine | None = None
        self._reading: AsyncEngine | None = None
        self._progress: dict[str, dict[str, Progress]] = {}
        """By node and stream, as committed; the stream that was heard last stands last."""

    @property
    def name(self) -> str:
        """The file, or the server without its password; for messages."""
        return name_of(self._url)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this machine, and no server that may be away for a while."""
        return self._is_file

    @property
    def is_open(self) -> bool:
        """Whether it can be written and read, as far as we know."""
        return self._writing is not None

    async def open_or_begin_anew(self) -> None:
        """Open; if the file is damaged, keep it aside and begin a new one."""
        try:
            await self.open()
        except DatabaseError as error:
            if not self.is_damaged(error):
                raise
            await self.begin_anew(error)

    async def open_if_closed(self) -> None:
        """Open, unless somebody who wanted to write was faster."""
        async with self._one_at_a_time:
            if self._writing is None:
                await self.open()

    async def __aenter__(self) -> Self:
        await self.open_or_begin_anew()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, bring the tables up to date, read how far each stream is."""
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        if self._is_file and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        if self._lock is not None:
            self._lock.take()
        self._writing = writing(self._url)
        self._reading = reading(self._url)
        async with self._writing.begin() as connection:
            await connection.run_sync(migrate, self.name)
            self._progress = await _read_progress(connection)

    async def close(self) -> None:
        """Close every connection, and with it its thread."""
        for engine in (self._writing, self._reading):
            if engine is not None:
                await engine.dispose()
        self._writing = self._reading = None
        if self._lock is not None:
            self._lock.release()

    def is_damaged(self, error: Exception) -> bool:
        """Tell a damaged file from one that is locked, full or out of reach."""
        cause = getattr(error, "orig", None)
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return self._is_file and code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

    async def begin_anew(self, error: Exception) -> None:
        """Keep a damaged file aside and begin a new one."""
        async with self._one_at_a_time:
            await self._begin_anew(error)

    async def _begin_anew(self, error: Exception) -> None:
        await self.close()
        path = Path(str(self._url.database))
        aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
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
        await self.open()

    def recorded(self, node: str) -> dict[str, int]:
        """Return how far the streams of a node are that were heard last."""
        streams = list(self._progress.get(node, {}).items())
        return {stream: progress.watermark for stream, progress in streams[-STREAMS_PER_NODE:]}

    def nodes(self) -> set[str]:
        """Return the nodes that anything is known of."""
        return set(self._progress)

    async def write(
        self, numbers: Sequence[Number], letters: Sequence[DeadLetter] = (), *, now: datetime
    ) -> None:
        """Commit a batch; what is there already is left as it is."""
        async with self._one_at_a_time:
            if self._writing is None:
                await self.open()
            await self._write(numbers, letters, now)

    async def _write(
        self, numbers: Sequence[Number], letters: Sequence[DeadLetter], now: datetime
    ) -> None:
        progress, gaps = self._advance(numbers, now)
        made = [one.rows for one in numbers if one.rows is not None]
        samples = [row for one in made for row in one.samples]
        async with self._writer().begin() as connection:
            await _insert(connection, tables.event, [one.event for one in made])
            await _insert(connection, tables.gpu_sample, samples)
            await accounting.mark(connection, samples)
            for one in made:
                if one.run is not None:
                    await connection.execute(self._upsert_run(), one.run)
            await _insert(connection, tables.gap, gaps)
            if progress:
                await connection.execute(self._upsert_stream(), _stream_rows(progress, now))
            await _insert(connection, tables.dead_letter, [_letter_row(one) for one in letters])
            if letters:
                newest = select(func.max(tables.dead_letter.c.id)).scalar_subquery()
                old = tables.dead_letter.c.id <= newest - DEAD_LETTERS
                await connection.execute(delete(tables.dead_letter).where(old))
        for (node, stream), reached in progress.items():
            streams = self._progress.setdefault(node, {})
            streams.pop(stream, None)
            streams[stream] = reached

    async def read(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        """Answer a question beside the writer, without holding it up."""
        async with self._reader().connect() as connection:
            result = await connection.execute(statement)
            return list(result)

    async def change(self, statement: Executable) -> int:
        """Carry out one statement in a transaction of its own; return how many rows it took."""
        async with self._one_at_a_time, self._writer().begin() as connection:
            result = await connection.execute(statement)
            return result.rowcount if isinstance(result, CursorResult) else 0

    async def roll_up(self, now: datetime) -> int:
        """Make some of the buckets anew that something came for; return how many, 0 when done."""
        for tier in TIERS:
            async with self._one_at_a_time, self._writer().begin() as connection:
                made = await accounting.roll_up(connection, tier, now)
            if made:
                return made
        return 0

    async def seal(self, tier: Tier, before: datetime) -> int:
        """Delete what some buckets before an instant were made of; return how many, 0 if none."""
        async with self._one_at_a_time, self._writer().begin() as connection:
            return await accounting.seal(connection, tier, before)

    async def used_bytes(self) -> int:
        """Return what all rows take, with their indexes."""
        async with self._reader().connect() as connection:
            return await space.used_bytes(connection)

    async def give_back_some(self) -> bool:
        """Give a little of the free room back to the disk; tell whether there may be more."""
        if not self._is_file:
            return False
        async with self._one_at_a_time, self._writer().begin() as connection:
            return await space.give_back_some(connection)

    async def count_anew(self, of: Iterable[Table]) -> None:
        """Have a server find out what is left of some tables; SQLite knows."""
        await self._maintain("ANALYZE", of)

    async def reuse(self, of: Iterable[Table]) -> None:
        """Have a server use the room of deleted rows again; SQLite does so by itself."""
        await self._maintain("VACUUM (ANALYZE)", of)

    async def _maintain(self, what: str, of: Iterable[Table]) -> None:
        if not self._is_file:
            async with self._reader().connect() as connection:
                await space.maintain(connection, what, of)

    def has(self, node: str, stream: str, sequence: int) -> bool:
        """Tell whether an event, or the fact that it is lost, is recorded for certain."""
        known = self._progress.get(node, {}).get(stream)
        return known is not None and sequence <= known.watermark

    def _reader(self) -> AsyncEngine:
        if self._reading is None:
            raise OSError("the database is not open just now")
        return self._reading

    def _writer(self) -> AsyncEngine:
        if self._writing is None:
            raise OSError("the database is not open just now")
        return self._writing

    def _advance(
        self, numbers: Sequence[Number], now: datetime
    ) -> tuple[dict[_Key, Progress], list[rows.Row]]:
        """Return how far the touched streams will be, and the rows of the gaps that show."""
        touched: dict[_Key, Progress] = {}
        gaps: list[rows.Row] = []
        by_stream: dict[_Key, list[Number]] = {}
        for one in numbers:
            by_stream.setdefault((one.node, one.stream), []).append(one)
        for key, of_stream in by_stream.items():
            before = self._progress.get(key[0], {}).get(key[1], Progress())
            touched[key], lost = before.recorded(
                [one.sequence for one in of_stream], max(one.oldest for one in of_stream)
            )
            gaps += [_gap_row(key, gap, "lost before it was recorded", now) for gap in lost]
            unread = [one.sequence for one in of_stream if one.rows is None]
            gaps += [
                _gap_row(key, Gap(first=number, last=number), "unreadable", now)
                for number in unread
            ]
        return touched, gaps

    def _upsert_run(self) -> Insert:
        statement = insert_into(self._dialect, tables.run)
        new, old = statement.excluded, tables.run.c
        kept = {"node", "run", "first_at"}
        # Final wins over not final whatever the clock says; else the newer one wins.
        newer = or_(
            and_(new.is_final, ~old.is_final),
            and_(new.at >= old.at, or_(new.is_final, ~old.is_final)),
        )
        return statement.on_conflict_do_update(
            index_elements=["node", "run"],
            set_={column.name: new[column.name] for column in old if column.name not in kept},
            where=newer,
        )

    def _upsert_stream(self) -> Insert:
        statement = insert_into(self._dialect, tables.stream)
        changed = ("watermark", "gaps", "updated_at")
        return statement.on_conflict_do_update(
            index_elements=["node", "stream"],
            set_={name: statement.excluded[name] for name in changed},
        )

    @property
    def _dialect(self) -> str:
        return self._writer().dialect.name


async def _insert(connection: AsyncConnection, table: Table, values: list[rows.Row]) -> None:
    if values:
        statement = insert_into(connection.dialect.name, table).on_conflict_do_nothing()
        await connection.execute(statement, values)


async def _read_progress(connection: AsyncConnection) -> dict[str, dict[str, Progress]]:
    stream, recorded = tables.stream.c, tables.event.c
    ahead = and_(
        recorded.node == stream.node,
        recorded.stream == stream.stream,
        recorded.sequence > stream.watermark,
    )
    beyond: dict[_Key, set[int]] = {}
    for row in await connection.execute(
        select(recorded.node, recorded.stream, recorded.sequence).select_from(
            tables.stream.join(tables.event, ahead)
        )
    ):
        beyond.setdefault((row.node, row.stream), set()).add(row.sequence)
    progress: dict[str, dict[str, Progress]] = {}
    for row in await connection.execute(select(tables.stream).order_by(stream.updated_at)):
        progress.setdefault(row.node, {})[row.stream] = Progress(
            watermark=row.watermark,
            gaps=row.gaps,
            beyond=frozenset(beyond.get((row.node, row.stream), ())),
        )
    return progress


def _stream_rows(progress: dict[_Key, Progress], now: datetime) -> list[rows.Row]:
    return [
        {
            "node": node,
            "stream": stream,
            "watermark": one.watermark,
            "gaps": one.gaps,
            "updated_at": now,
        }
        for (node, stream), one in progress.items()
    ]


def _gap_row(key: _Key, gap: Gap, reason: str, now: datetime) -> rows.Row:
    return {
        "node": key[0],
        "stream": key[1],
        "first": gap.first,
        "last": gap.last,
        "reason": reason,
        "noticed_at": now,
    }


def _letter_row(letter: DeadLetter) -> rows.Row:
    return {
        "topic": letter.topic,
        "payload": letter.payload[: DeadLetter.KEPT_BYTES],
        "payload_bytes": len(letter.payload),
        "reason": letter.reason,
        "received_at": letter.received_at,
    }
