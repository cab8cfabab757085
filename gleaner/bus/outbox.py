"""What a node must not lose, on its own disk until the recorder has it.

A PUBACK is not delivery: a broker that is killed has lost a third of what it acknowledged. So an
event stays here until the recorder's published watermark (`Recorded`) covers it, and is sent
again when the watermark does not move. Bounded: when full, the oldest go, and an `overflow` event
says how many. The file is standard-library SQLite, used by one thread of its own, so that no
caller ever waits for a disk. When the disk fails, events go on in memory and the log says so.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Self

from gleaner.bus.messages import Event

logger = logging.getLogger(__name__)

MAX_EVENTS = 100_000
"""About 60 MB on disk; a month of an idle node, a day of a busy one without any recorder."""

_SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS stream (name TEXT NOT NULL, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS event (sequence INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""

_Work = Callable[[sqlite3.Connection], None]


class Outbox:
    """Events by sequence number; all methods return at once.

    The unrecorded ones are held in memory as well, since they are sent from there.
    """

    def __init__(self, path: Path | None, *, max_events: int = MAX_EVENTS) -> None:
        self._path = path
        self._max_events = max_events
        self._events: OrderedDict[int, Event] = OrderedDict()
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._disk_is_fine = True
        self.stream = str(uuid.uuid4())
        """New with each file: a lost or copied disk must not be taken for repeats."""
        self.last = 0
        """The last sequence number given."""

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._load(self._path)
            except (sqlite3.DatabaseError, ValueError) as error:
                aside = self._path.with_name(f"{self._path.name}.damaged-{uuid.uuid4().hex[:8]}")
                logger.error("%s: %s; it is kept as %s, a new one begins", self._path, error, aside)
                self._path.rename(aside)
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                self._load(self._path)
            self._thread = threading.Thread(target=self._write, name="outbox")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()

    @property
    def oldest(self) -> int:
        """The oldest sequence number kept; the next one if there is none."""
        return next(iter(self._events), self.last + 1)

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> Event:
        """Keep an event; return it with its stream and sequence number."""
        self.last += 1
        kept = event.model_copy(update={"stream": self.stream, "sequence": self.last})
        self._events[self.last] = kept
        body, sequence = kept.model_dump_json(), self.last

        def insert(database: sqlite3.Connection) -> None:
            database.execute("INSERT OR REPLACE INTO event VALUES (?, ?)", (sequence, body))
            database.execute("UPDATE stream SET last = ?", (sequence,))

        self._work.put(insert)
        return kept

    def overflow(self) -> int:
        """Forget the oldest beyond the limit; return how many."""
        surplus = max(0, len(self._events) - self._max_events)
        if surplus:
            # A tenth more, so that a full outbox does not complain with every event.
            surplus += self._max_events // 10
            self.forget(list(self._events)[surplus - 1])
        return surplus

    def forget(self, sequence: int) -> None:
        """Forget everything up to a sequence number: the recorder has it."""
        if self.oldest > sequence:
            return
        while self._events and next(iter(self._events)) <= sequence:
            self._events.popitem(last=False)

        def delete(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM event WHERE sequence <= ?", (sequence,))

        self._work.put(delete)

    def after(self, sequence: int, limit: int) -> list[Event]:
        """Return up to `limit` kept events after a sequence number, oldest first."""
        start = max(sequence + 1, self.oldest)
        found = (self._events.get(number) for number in range(start, start + limit))
        return [event for event in found if event is not None]

    def _load(self, path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.executescript(_SCHEMA)
            row = database.execute("SELECT name, last FROM stream").fetchone()
            if row is None:
                database.execute("INSERT INTO stream VALUES (?, 0)", (self.stream,))
            else:
                self.stream, self.last = row
            for sequence, body in database.execute("SELECT * FROM event ORDER BY sequence"):
                self._events[sequence] = Event.model_validate_json(body)
                self.last = max(self.last, sequence)

    def _write(self) -> None:
        """Carry out work in batches until told to end (None)."""
        assert self._path is not None
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            database.execute("PRAGMA synchronous=NORMAL")
            ending = False
            while not ending:
                batch = [self._work.get()]
                with contextlib.suppress(queue.Empty):
                    while len(batch) < 500:
                        batch.append(self._work.get_nowait())
                ending = None in batch
                self._carry_out(database, [work for work in batch if work is not None])

    def _carry_out(self, database: sqlite3.Connection, batch: list[_Work]) -> None:
        try:
            with database:
                for work in batch:
                    work(database)
        except sqlite3.Error as error:
            if self._disk_is_fine:
                logger.error(
                    "%s: %s; events are kept in memory only, a crash now would lose them",
                    self._path,
                    error,
                )
            self._disk_is_fine = False
        else:
            self._disk_is_fine = True
