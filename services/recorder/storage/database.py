"""The database as a place: a file or a server, its lock, one who writes and those who read beside.

Everything that a full disk, a lock or a server that is away can cause is an `OperationalError`, or
an `OSError` while it is not open, and may be tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.recorder.schema.migrate import migrate
from services.recorder.storage import damage, space
from services.recorder.storage.connect import is_file, name_of, reading, url_of, writing
from services.recorder.storage.lock import FileLock
from services.recorder.storage.readers import Readers


class Database:
    """Connections to one database; close it, for its threads live as long as its connections."""

    def __init__(self, url: str) -> None:
        self._url = url_of(url)
        self.is_file = is_file(self._url)
        """Whether it is a file of this machine, and no server that may be away for a while."""
        self._path = Path(str(self._url.database))
        self._lock = FileLock(self._path) if self.is_file else None
        self._writing: AsyncEngine | None = None
        self._reading: AsyncEngine | None = None
        self._readers = Readers()
        self.turn = asyncio.Lock()
        """Held by who writes, opens or replaces it: one at a time."""
        self.suspicion: Exception | None = None
        """What only a damaged file causes, of who read or wrote it since it was begun."""
        self.is_suspect = asyncio.Event()
        self.is_certain = False
        """Whether it was the writer, who cannot go on, whatever others see."""

    @property
    def name(self) -> str:
        """The file, or the server without its password; for messages."""
        return name_of(self._url)

    @property
    def is_open(self) -> bool:
        """Whether it can be written and read, as far as we know."""
        return self._writing is not None

    async def open(self) -> None:
        """Connect, and bring the tables up to date."""
        if self.is_file and self._url.database:
            make_private(self._path)
        if self._lock is not None:
            self._lock.take()
            damage.keep_log_aside(self._path)
        self._writing = writing(self._url)
        self._reading = reading(self._url)
        async with self.writing() as connection:
            await connection.run_sync(migrate, self.name)

    async def close(self) -> None:
        """Close every connection, and with it its thread."""
        for engine in (self._writing, self._reading):
            if engine is not None:
                await engine.dispose()
        self._writing = self._reading = None
        if self._lock is not None:
            self._lock.release()

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction; whose turn it is, the caller sees to."""
        if self._writing is None:
            raise _not_open()
        with self._watched(is_certain=True):
            async with self._writing.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection to ask beside the writer, which is not held up by it."""
        async with self._readers.one():
            if self._reading is None:
                raise _not_open()
            with self._watched():
                async with self._reading.connect() as connection:
                    yield connection

    @contextlib.contextmanager
    def _watched(self, *, is_certain: bool = False) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if self.is_damaged(error):
                self.is_certain |= is_certain
                self._suspect(error)
            raise

    def look_at_log(self) -> None:
        """Suspect a log that only who has it open can read; whose turn it is may do so."""
        if self.is_file and damage.would_be_dropped(self._path):
            self._suspect(OSError("the beginning of its log is damaged"))

    def _suspect(self, error: Exception) -> None:
        self.suspicion = error
        self.is_suspect.set()

    async def write_log_anew(self) -> None:
        """Put what is in the log into the file, which was found whole with it, and empty it."""
        async with self.writing() as connection:
            await space.empty_log(connection)

    def trust(self) -> None:
        """Forget what was suspected: it is another file, or was found whole."""
        self.suspicion, self.is_certain = None, False
        self.is_suspect.clear()

    async def is_whole(self) -> bool:
        """Look at every page, as those see it who come anew."""
        try:
            async with self.reading() as connection:
                said = await connection.execute(text("PRAGMA integrity_check(1)"))
                return [*said.scalars()] == ["ok"]
        except DatabaseError as error:
            if not self.is_damaged(error):
                raise
            return False

    @contextlib.asynccontextmanager
    async def replaced(self, error: Exception) -> AsyncIterator[None]:
        """Keep a damaged file aside; in the block a new one is opened, and nobody reads.

        Else a reader would find the log of one file beside the other.
        """
        async with self._readers.kept_out():
            with damage.log_kept(self._path):
                await self.close()
            damage.keep_aside(self._path, error)
            self.trust()
            yield

    def is_damaged(self, error: Exception) -> bool:
        """Tell a damaged file from one that is locked, full or out of reach."""
        return self.is_file and damage.is_damage(error)

    def kept_aside(self) -> dict[str, datetime]:
        """Return the damaged files that lie beside the database, and since when."""
        return damage.kept_aside(self._path) if self.is_file else {}


def _not_open() -> OSError:
    return OSError("the database is not open just now")


def make_private(file: Path) -> None:
    """Make a file that others may not read, for who may read it may also lock it.

    An administrator who allows it later is not overruled.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
