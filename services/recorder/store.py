"""What the recorder keeps: SQLite by default, PostgreSQL if configured; one writer at a time.

A batch of events is one transaction; what it returns may be acknowledged. A damaged SQLite file is
kept aside and a new one begun: the nodes still hold what was not recorded.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Self

from sqlalchemy import CursorResult, Executable, Row, Table
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

from gleaner.bus.messages import Inventory
from services.recorder.accounts import accounting
from services.recorder.index import mentioning
from services.recorder.intake.batch import DeadLetter, Number, batch_of, write_batch
from services.recorder.intake.streams import Streams, read_streams
from services.recorder.schema import tables
from services.recorder.schema.names import Names
from services.recorder.schema.zones import read_zones
from services.recorder.storage import space
from services.recorder.storage.condition import Condition, look
from services.recorder.storage.database import Database
from services.recorder.storage.failures import UNACCEPTABLE, may_pass, words_of
from services.recorder.storage.whole import whole
from services.recorder.values.local_time import LocalTime

logger = logging.getLogger(__name__)


class Store:
    """The database together with what is known of it by heart: names, streams, time zones."""

    def __init__(self, url: str, zone: str = "UTC") -> None:
        self._database = Database(url)
        self.zone = zone
        """By whose days and months it counts."""
        self.local = LocalTime()
        self.names = Names()
        self._names_are_certain = False
        self._streams = Streams()
        self._has_predecessor = False

    @property
    def name(self) -> str:
        """The file, or the server without its password; for messages."""
        return self._database.name

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this machine, and no server that may be away for a while."""
        return self._database.is_file

    @property
    def is_open(self) -> bool:
        """Whether it can be written and read, as far as we know."""
        return self._database.is_open

    @whole
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
        async with self._database.turn:
            if not self.is_open:
                await self.open()

    async def __aenter__(self) -> Self:
        await self.open_or_begin_anew()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, bring the tables up to date, read how far each stream is."""
        try:
            await self._database.open()
            self._has_predecessor = bool(self.kept_aside())
            self._names_are_certain = False
            async with self._change() as connection:
                self._streams = await read_streams(connection, self.names)
                self.local = await read_zones(connection, self.zone, self.name)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close every connection, and with it its thread."""
        await self._database.close()

    def is_damaged(self, error: Exception) -> bool:
        """Tell a damaged file from one that is locked, full or out of reach."""
        return self._database.is_damaged(error)

    @whole
    async def begin_anew(self, error: Exception) -> None:
        """Keep a damaged file aside and begin a new one, when those who read it are done."""
        async with self._database.turn, self._database.replaced(error):
            await self.open()

    async def suspected(self) -> Exception:
        """Wait for an error, of who reads or writes, that only a damaged file causes."""
        while self._database.suspicion is None:
            await self._database.is_suspect.wait()
        return self._database.suspicion

    @whole
    async def replace_if_damaged(self) -> bool:
        """Examine a file that a reader suspects; return whether it was replaced.

        Meanwhile nobody writes, for that would be told to be safe.
        """
        async with self._database.turn:
            error = self._database.suspicion
            if error is None:
                # Somebody else was faster.
                return False
            is_certain = self._database.is_certain or not self.is_open
            if not is_certain and await self._database.is_whole():
                await self._database.write_log_anew()
                self._database.trust()
                return False
            async with self._database.replaced(error):
                await self.open()
            return True

    def kept_aside(self) -> dict[str, datetime]:
        """Return the damaged files that lie beside the database, and since when."""
        return self._database.kept_aside()

    def recorded(self, node: str) -> dict[str, int]:
        """Return how far the streams of a node are that were heard last."""
        return self._streams.recorded(node)

    def nodes(self) -> set[str]:
        """Return the nodes that anything is known of."""
        return self._streams.nodes()

    def has(self, node: str, stream: str, sequence: int) -> bool:
        """Tell whether an event, or the fact that it is lost, is recorded for certain."""
        return self._streams.has(node, stream, sequence)

    @whole
    async def write(
        self, numbers: Sequence[Number], letters: Sequence[DeadLetter] = (), *, now: datetime
    ) -> None:
        """Commit a batch; what is there already is left as it is."""
        async with self._database.turn:
            if not self.is_open:
                await self.open()
            batch = batch_of(
                numbers, letters, self._streams, now, has_predecessor=self._has_predecessor
            )
            async with self._change() as connection:
                await write_batch(connection, self.names, batch)
            self._streams.keep(batch.reached)

    @whole
    async def hear(self, inventory: Inventory, now: datetime) -> None:
        """Remember the models of a node's GPUs."""
        async with self._database.turn, self._change() as connection:
            await self.names.hear(connection, inventory, now)

    @contextlib.asynccontextmanager
    async def _change(self) -> AsyncIterator[AsyncConnection]:
        """One transaction; the names are what is in the database after it, whatever it was."""
        async with self._database.writing() as connection:
            if not self._names_are_certain:
                await self.names.load(connection)
            self._names_are_certain = False
            yield connection
        self._names_are_certain = True

    @whole
    async def read(self, statement: Any) -> Sequence[Row[Any]]:
        """Answer a question beside the writer, without holding it up."""
        async with self._database.reading() as connection:
            result = await connection.execute(statement)
            return list(result)

    @whole
    async def change(self, statement: Executable) -> int:
        """Carry out one statement in a transaction of its own; return how many rows it took."""
        async with self._database.turn, self._database.writing() as connection:
            result = await connection.execute(statement)
            if getattr(statement, "table", None) is tables.stream:
                self._names_are_certain = False
            return result.rowcount if isinstance(result, CursorResult) else 0

    @whole
    async def roll_up(self, now: datetime) -> int:
        """Count some of the five minutes that something came for; return how many, 0 when done.

        What cannot be counted does not hold up the others: it is left out.
        """
        async with self._database.turn:
            for is_one_by_one in (False, True):
                try:
                    async with self._change() as connection:
                        return await accounting.roll_up(
                            connection, self.names, self.local, now, is_one_by_one=is_one_by_one
                        )
                except UNACCEPTABLE as error:
                    if may_pass(error) or self.is_damaged(error):
                        raise
                    why = words_of(error)
            async with self._change() as connection:
                slot, node = await accounting.leave_out(connection, now)
            logger.error(
                "%s: what %s sampled in the five minutes from %s UTC cannot be summed up and is "
                "left out: %s",
                *(self.name, self.names.text[node], f"{slot:%Y-%m-%d %H:%M}", why),
            )
            return 1

    @whole
    async def mention_older(self) -> int:
        """Take in some events from before there was an index of what they name.

        Return how many are left at most, 0 when done.
        """
        async with self._database.turn, self._change() as connection:
            return await mentioning.mention_older(connection, self.names)

    @whole
    async def seal(self, before: datetime) -> int:
        """Delete the samples of five minutes before an instant; return how many, 0 if none."""
        async with self._database.turn, self._change() as connection:
            return await accounting.seal(connection, before)

    @whole
    async def condition(self) -> Condition:
        """Return what is there since when, and what never came."""
        if self.is_file:
            async with self._database.turn:
                self._database.look_at_log()
        async with self._database.reading() as connection:
            return await look(connection)

    @whole
    async def used_bytes(self) -> int:
        """Return what all rows take, with their indexes."""
        async with self._database.reading() as connection:
            return await space.used_bytes(connection)

    @whole
    async def give_back_some(self) -> bool:
        """Give a little of the free room back to the disk; tell whether there may be more."""
        if not self.is_file:
            return False
        async with self._database.turn, self._database.writing() as connection:
            return await space.give_back_some(connection)

    async def count_anew(self, of: Iterable[Table]) -> None:
        """Have a server find out what is left of some tables; SQLite knows."""
        await self._maintain("ANALYZE", of)

    async def reuse(self, of: Iterable[Table]) -> None:
        """Have a server use the room of deleted rows again; SQLite does so by itself."""
        await self._maintain("VACUUM (ANALYZE)", of)

    async def _maintain(self, what: str, of: Iterable[Table]) -> None:
        if not self.is_file:
            async with self._database.reading() as connection:
                await space.maintain(connection, what, of)
