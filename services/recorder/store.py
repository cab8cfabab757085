"""The database: SQLite by default, PostgreSQL if configured; one writer, readers beside it.

A batch of events is one transaction; what it returns may be acknowledged. Everything that a
full disk, a lock or a server that is away can cause is an `OperationalError`, and may be tried
again. A damaged SQLite file is kept aside and a new one begun: the nodes still hold what was not
recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    CursorResult,
    Executable,
    Insert,
    Row,
    Table,
    and_,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gleaner.bus.messages import Inventory
from services.recorder import accounting, rollup, rows, samples, space, tables
from services.recorder.condition import LOST, Condition, look
from services.recorder.connect import is_file, name_of, reading, url_of, writing
from services.recorder.local_time import EPOCH, LocalTime
from services.recorder.lock import FileLock
from services.recorder.migrate import migrate
from services.recorder.names import Names
from services.recorder.progress import Gap, Progress
from services.recorder.rollup import FIVE_MINUTES
from services.recorder.upsert import insert_into
from services.recorder.whole import whole

logger = logging.getLogger(__name__)

DEAD_LETTERS = 1000
"""Kept at most; the newest."""
STREAMS_PER_NODE = 100
"""Named at most in one `Recorded`; each start of a node begins a stream."""

_ASIDE, _ASIDE_AT = ".damaged-", "%Y%m%dT%H%M%S%f"
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

    def __init__(self, url: str, zone: str = "UTC") -> None:
        self._url = url_of(url)
        self._is_file = is_file(self._url)
        self._lock = FileLock(Path(str(self._url.database))) if self._is_file else None
        self._one_at_a_time = asyncio.Lock()
        self._writing: AsyncEngine | None = None
        self._reading: AsyncEngine | None = None
        self._zone = zone
        self.local = LocalTime()
        self.names = Names()
        self._names_are_certain = False
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

    @whole
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
            _make_private(Path(self._url.database))
        if self._lock is not None:
            self._lock.take()
        self._writing = writing(self._url)
        self._reading = reading(self._url)
        async with self._writing.begin() as connection:
            await connection.run_sync(migrate, self.name)
        self._names_are_certain = False
        async with self._change() as connection:
            self._progress = await _read_progress(connection, self.names)
            self.local = await _read_zones(connection, self._zone, self.name)

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
        aside = path.with_name(f"{path.name}{_ASIDE}{datetime.now(UTC):{_ASIDE_AT}}")
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

    def kept_aside(self) -> dict[str, datetime]:
        """Return the damaged files that lie beside the database, and since when."""
        if not self._is_file:
            return {}
        path = Path(str(self._url.database))
        found = {}
        for one in sorted(path.parent.glob(f"{path.name}{_ASIDE}*")):
            with contextlib.suppress(ValueError):
                at = f"{one.name.rpartition(_ASIDE)[2]}+0000"
                found[one.name] = datetime.strptime(at, f"{_ASIDE_AT}%z")
        return found

    def recorded(self, node: str) -> dict[str, int]:
        """Return how far the streams of a node are that were heard last."""
        streams = list(self._progress.get(node, {}).items())
        return {stream: progress.watermark for stream, progress in streams[-STREAMS_PER_NODE:]}

    def nodes(self) -> set[str]:
        """Return the nodes that anything is known of."""
        return set(self._progress)

    @whole
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
        made = [(one, one.rows) for one in numbers if one.rows is not None]
        async with self._change() as connection:
            await self._know(connection, numbers, progress, now)
            events = [self._event_row(one, own.event) for one, own in made if own.event]
            await _insert(connection, tables.event, events)
            chunks = [row for one, own in made for row in self._chunks(one, own)]
            await accounting.keep(connection, self.names, chunks, now)
            for _, own in made:
                if own.run is not None:
                    node = self.names.number[own.run["node"]]
                    await connection.execute(self._upsert_run(), own.run | {"node": node})
            await _insert(connection, tables.gap, gaps)
            await _insert(connection, tables.dead_letter, [_letter_row(one) for one in letters])
            if letters:
                newest = select(func.max(tables.dead_letter.c.id)).scalar_subquery()
                old = tables.dead_letter.c.id <= newest - DEAD_LETTERS
                await connection.execute(delete(tables.dead_letter).where(old))
        for (of_node, stream), reached in progress.items():
            streams = self._progress.setdefault(of_node, {})
            streams.pop(stream, None)
            streams[stream] = reached

    async def _know(
        self,
        connection: AsyncConnection,
        numbers: Sequence[Number],
        progress: dict[_Key, Progress],
        now: datetime,
    ) -> None:
        """Give numbers to all that the rows name, and write how far the streams are."""
        events = [one.rows.event for one in numbers if one.rows and one.rows.event]
        texts = {node for node, _ in progress} | {event["boot_id"] for event in events}
        await self.names.know(connection, texts)
        gpus = {(event["node"], event["gpu"]) for event in events if event["gpu"]}
        await self.names.know_devices(connection, gpus, now)
        if not progress:
            return
        await connection.execute(self._upsert_stream(), _stream_rows(self.names, progress, now))
        if progress.keys() - self.names.streams.keys():
            await self.names.know_streams(connection)

    def _event_row(self, one: Number, event: rows.Row) -> rows.Row:
        names, gpu = self.names, event["gpu"]
        return event | {
            "node": names.number[event["node"]],
            "stream": names.streams[one.node, one.stream],
            "device": names.devices[event["node"], gpu] if gpu else None,
            "boot": names.number[event["boot_id"]],
        }

    def _chunks(self, one: Number, own: rows.Rows) -> list[rows.Row]:
        place = {
            "node": self.names.number[one.node],
            "stream": self.names.streams[one.node, one.stream],
            "sequence": one.sequence,
        }
        found = samples.by_slot(own.samples)
        return [place | {"slot": slot, "samples": mine} for slot, mine in found.items()]

    @whole
    async def hear(self, inventory: Inventory, now: datetime) -> None:
        """Remember the models of a node's GPUs."""
        async with self._one_at_a_time, self._change() as connection:
            await self.names.hear(connection, inventory, now)

    @contextlib.asynccontextmanager
    async def _change(self) -> AsyncIterator[AsyncConnection]:
        """One transaction; the names are what is in the database after it, whatever it was."""
        async with self._writer().begin() as connection:
            if not self._names_are_certain:
                await self.names.load(connection)
            self._names_are_certain = False
            yield connection
        self._names_are_certain = True

    @whole
    async def read(self, statement: Any) -> Sequence[Row[Any]]:
        """Answer a question beside the writer, without holding it up."""
        async with self._reader().connect() as connection:
            result = await connection.execute(statement)
            return list(result)

    @whole
    async def change(self, statement: Executable) -> int:
        """Carry out one statement in a transaction of its own; return how many rows it took."""
        async with self._one_at_a_time, self._writer().begin() as connection:
            result = await connection.execute(statement)
            if getattr(statement, "table", None) is tables.stream:
                self._names_are_certain = False
            return result.rowcount if isinstance(result, CursorResult) else 0

    @whole
    async def roll_up(self, now: datetime) -> int:
        """Count some of the five minutes that something came for; return how many, 0 when done."""
        async with self._one_at_a_time, self._change() as connection:
            return await accounting.roll_up(connection, self.names, self.local, now)

    @whole
    async def seal(self, before: datetime) -> int:
        """Delete the samples of five minutes before an instant; return how many, 0 if none."""
        async with self._one_at_a_time, self._change() as connection:
            return await accounting.seal(connection, before)

    @whole
    async def condition(self) -> Condition:
        """Return what is there since when, and what never came."""
        # One at a time: a file that is replaced meanwhile would leave the connection behind.
        async with self._one_at_a_time, self._reader().connect() as connection:
            return await look(connection)

    @whole
    async def used_bytes(self) -> int:
        """Return what all rows take, with their indexes."""
        async with self._reader().connect() as connection:
            return await space.used_bytes(connection)

    @whole
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
            gaps += [_gap_row(key, gap, LOST, now) for gap in lost]
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


def _make_private(file: Path) -> None:
    """Make a file that others may not read, for who may read it may also lock it.

    An administrator who allows it later is not overruled.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)


async def _read_zones(connection: AsyncConnection, zone: str, name: str) -> LocalTime:
    """Return which time zones counted since when; from now on it is this one."""
    own = tables.time_zone
    found = await connection.execute(select(own).order_by(own.c.since))
    zones = [(row.since, row.name) for row in found]
    if not zones or zones[-1][1] != zone:
        since = rollup.start_of(datetime.now(UTC), FIVE_MINUTES.width) if zones else EPOCH
        if zones:
            logger.warning(
                "%s: hours, days and months are of %s from now on; what was summed before stays "
                "as it was counted, of %s",
                name,
                zone,
                zones[-1][1],
            )
        insert = insert_into(connection.dialect.name, own).values(since=since, name=zone)
        await connection.execute(
            insert.on_conflict_do_update(index_elements=["since"], set_={"name": zone})
        )
        zones = [*(one for one in zones if one[0] != since), (since, zone)]
    return LocalTime(zones=tuple(zones))


async def _read_progress(
    connection: AsyncConnection, names: Names
) -> dict[str, dict[str, Progress]]:
    stream = tables.stream.c
    beyond: dict[int, set[int]] = {}
    for table in (tables.event, tables.sample):
        ahead = and_(table.c.stream == stream.id, table.c.sequence > stream.watermark)
        for row in await connection.execute(
            select(stream.id, table.c.sequence).select_from(tables.stream.join(table, ahead))
        ):
            beyond.setdefault(row.id, set()).add(row.sequence)
    progress: dict[str, dict[str, Progress]] = {}
    for row in await connection.execute(select(tables.stream).order_by(stream.updated_at)):
        progress.setdefault(names.text[row.node], {})[row.stream] = Progress(
            watermark=row.watermark, gaps=row.gaps, beyond=frozenset(beyond.get(row.id, ()))
        )
    return progress


def _stream_rows(names: Names, progress: dict[_Key, Progress], now: datetime) -> list[rows.Row]:
    return [
        {
            "node": names.number[node],
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
