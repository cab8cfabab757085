"""What a node must not lose, on its own disk until the recorder has it.

A PUBACK is not delivery: a broker that is killed has lost a third of what it acknowledged. So an
event stays here until the recorder's published watermark (`Recorded`) covers it, and is sent
again when the watermark does not move. Bounded: when full, the oldest go, and an `overflow` event
says how many.

Every opening begins a new stream. A number that was sent but not yet on disk when the power went
would otherwise be given twice, and the recorder would take the second event for a repeat; for the
same reason a copied disk does no harm.

Sent from memory, where events are kept compressed; the file (standard-library SQLite, used by one
thread of its own) is there for the next start, so that no caller ever waits for a disk. While the
disk is full or gone, events go on in memory, the log says so, and they are written when it is back.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import uuid
import zlib
from collections import OrderedDict
from contextvars import copy_context
from itertools import islice
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from gleaner.bus.codec import MAX_PAYLOAD_BYTES, encode
from gleaner.bus.messages import Event, EventKind

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 1024 * 1024
"""Compressed: a fortnight of a node with 8 GPUs without any recorder."""
MAX_EVENT_BYTES = MAX_PAYLOAD_BYTES // 2
"""A larger event would be refused on its way for ever, and hold up all that follow."""
OVERHEAD_BYTES = 200
"""What an event costs beside its body, in memory and on disk."""
BATCH = 500
RETRY_SECONDS = 1.0
LOCKED_SECONDS = 0.5
LAYOUT = 1
LARGEST_HOLE = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS origin (machine TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, stream TEXT NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL,
    UNIQUE (stream, sequence)
);
"""

_Key = tuple[str, int]
_Streams = dict[str, "OrderedDict[int, bytes]"]


class _Unusable(Exception):
    """A file that cannot be gone on with; the text says why."""


class Outbox:
    """Events by stream and sequence number; all methods return at once."""

    def __init__(self, path: Path | None, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept: _Streams = {}
        """Streams in the order of their age; the numbers of each have no holes."""
        self._bytes = 0
        self._dropped = 0
        self._changes: dict[_Key, bytes | None] = {}
        """What the disk does not have yet: a body to be written, or None for one to be removed."""
        self._batch: dict[_Key, bytes | None] = {}
        """The changes that are being written just now."""
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._end = threading.Event()
        self._is_disk_fine = True
        self.stream = str(uuid.uuid4())
        self.last = 0
        """The last sequence number given in our stream."""

    def __enter__(self) -> Self:
        if self._path is not None:
            self._open()
            self._thread = threading.Thread(
                target=copy_context().run, args=(self._write,), name="outbox"
            )
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._end.set()
            self._wake.set()
            self._thread.join()

    def __len__(self) -> int:
        with self._lock:
            return sum(len(bodies) for bodies in self._kept.values())

    def append(self, event: Event) -> Event:
        """Keep an event; return it with its stream and sequence number."""
        self.last += 1
        kept = event.model_copy(update={"stream": self.stream, "sequence": self.last})
        text = encode(kept)
        if len(text) > MAX_EVENT_BYTES:
            logger.error("an event %s of %d bytes is too large to be kept", event.kind, len(text))
            what = f"an event {event.kind} of {len(text)} bytes was too large to be kept"
            kept = _problem(kept, what)
            text = encode(kept)
        # Level 1: a minute's samples of 8 GPUs (16 kB) take 0.1 ms and shrink to a tenth.
        body = zlib.compress(text, 1)
        with self._lock:
            self._kept.setdefault(self.stream, OrderedDict())[self.last] = body
            self._bytes += len(body) + OVERHEAD_BYTES
            self._note((self.stream, self.last), body)
            if self._bytes > self._max_bytes:
                self._drop_oldest()
        self._wake.set()
        return kept

    def overflow(self) -> int:
        """Return how many events were dropped, unrecorded, since this was asked last."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def forget(self, recorded: dict[str, int]) -> int:
        """Forget what the recorder has: per stream up to a number; return how many went."""
        gone = 0
        with self._lock:
            for stream, upto in recorded.items():
                bodies = self._kept.get(stream)
                while bodies and next(iter(bodies)) <= upto:
                    self._remove(stream)
                    gone += 1
        if gone:
            self._wake.set()
        return gone

    def after(self, sent: dict[str, int], window: int, limit: int) -> list[Event]:
        """Return up to `limit` events beyond those sent, oldest first.

        None beyond the first `window` that are kept: that many may be on their way at once.
        """
        found: list[tuple[str, int, int, bytes]] = []
        with self._lock:
            for stream, bodies in self._kept.items():
                oldest, newest = next(iter(bodies)), next(reversed(bodies))
                start = max(oldest, sent.get(stream, 0) + 1)
                window -= start - oldest
                stop = min(newest + 1, start + max(0, min(window, limit - len(found))))
                found += [(stream, oldest, number, bodies[number]) for number in range(start, stop)]
                window -= max(0, stop - start)
                if window <= 0 or len(found) >= limit:
                    break
        return [_event(*one) for one in found]

    def _note(self, key: _Key, body: bytes | None) -> None:
        if body is None and key in self._changes and key not in self._batch:
            del self._changes[key]
        elif self._path is not None:
            self._changes[key] = body

    def _remove(self, stream: str) -> None:
        """Remove the oldest event of a stream."""
        bodies = self._kept[stream]
        number, body = bodies.popitem(last=False)
        if not bodies:
            del self._kept[stream]
        self._bytes -= len(body) + OVERHEAD_BYTES
        self._note((stream, number), None)

    def _drop_oldest(self) -> None:
        # A tenth more than needed, so that a full outbox does not complain with every event.
        while self._bytes > self._max_bytes * 0.9 and self._kept:
            self._remove(next(iter(self._kept)))
            self._dropped += 1

    def _open(self) -> None:
        """Open the file and take in what is there; without it go on in memory."""
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives the files beside it the same mode. Others may neither read what people
            # did nor lock it: who may read may hold a lock that keeps us from writing.
            self._path.touch(mode=0o600)
            try:
                found = self._load(self._path)
            except (sqlite3.DatabaseError, _Unusable) as error:
                if not isinstance(error, _Unusable) and not _is_damaged(error):
                    raise
                self._put_aside(error)
                found = self._load(self._path)
        except (sqlite3.Error, OSError) as error:
            self._disk_failed(error)
            return
        with self._lock:
            self._kept = found | self._kept
            self._bytes += sum(
                len(body) + OVERHEAD_BYTES for bodies in found.values() for body in bodies.values()
            )

    def _load(self, path: Path) -> _Streams:
        # Used by the thread once it runs, by its opener before; never by both.
        database = sqlite3.connect(path, timeout=LOCKED_SECONDS, check_same_thread=False)
        try:
            # Exclusive: a second process with this file would mix up its numbers.
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            found: _Streams = {}
            with database:
                database.execute("BEGIN IMMEDIATE")
                self._check_origin(database)
                for row in database.execute("SELECT stream, sequence, body FROM event ORDER BY id"):
                    if row[0] not in self._kept:
                        _take_in(found, *row)
        except BaseException:
            database.close()
            raise
        self._database = database
        return found

    def _check_origin(self, database: sqlite3.Connection) -> None:
        layout = database.execute("PRAGMA user_version").fetchone()[0]
        if layout not in (0, LAYOUT):
            raise _Unusable(f"written by another version of Gleaner (layout {layout})")
        if layout == 0:
            # Nothing is written otherwise: on a full disk, what is there can still be read.
            for statement in filter(str.strip, _SCHEMA.split(";")):
                database.execute(statement)
            database.execute(f"PRAGMA user_version={LAYOUT}")
        machine = _machine()
        row = database.execute("SELECT machine FROM origin").fetchone()
        if row is None:
            database.execute("INSERT INTO origin VALUES (?)", (machine,))
        elif row[0] and machine and row[0] != machine:
            raise _Unusable("it comes from another machine")

    def _put_aside(self, error: Exception) -> None:
        assert self._path is not None
        aside = self._path.with_name(f"{self._path.name}.aside-{uuid.uuid4().hex[:8]}")
        logger.error("%s: %s; it is kept as %s, a new one begins", self._path, error, aside.name)
        for suffix in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).rename(f"{aside}{suffix}")

    def _write(self) -> None:
        """Bring the disk up to date until told to end."""
        while not self._end.is_set():
            self._wake.wait()
            self._wake.clear()
            while not self._bring_up_to_date() and not self._end.wait(RETRY_SECONDS):
                pass
        self._bring_up_to_date()
        if self._changes:
            logger.error("%s: %d events could not be kept", self._path, len(self._changes))
        if self._database is not None:
            self._database.close()

    def _bring_up_to_date(self) -> bool:
        """Write all changes; False if the disk does not take them."""
        if self._database is None:
            self._open()
        while self._database is not None:
            with self._lock:
                self._batch = dict(islice(self._changes.items(), BATCH))
            if not self._batch:
                self._disk_works()
                return True
            try:
                with self._database:
                    _carry_out(self._database, self._batch)
            except sqlite3.Error as error:
                self._disk_failed(error)
                with self._lock:
                    self._batch = {}
                if not _is_damaged(error):
                    return False
                self._begin_anew(error)
            else:
                with self._lock:
                    for key, body in self._batch.items():
                        if self._changes.get(key, self) is body:
                            del self._changes[key]
                    self._batch = {}
        return False

    def _begin_anew(self, error: sqlite3.Error) -> None:
        """The file broke under us: put it aside and write everything into a new one."""
        assert self._database is not None
        self._database.close()
        self._database = None
        try:
            self._put_aside(error)
        except OSError as failure:
            self._disk_failed(failure)
            return
        with self._lock:
            self._changes = {
                (stream, number): body
                for stream, bodies in self._kept.items()
                for number, body in bodies.items()
            }
        self._open()

    def _disk_failed(self, error: Exception) -> None:
        if self._is_disk_fine:
            logger.error(
                "%s: %s; events are kept in memory only, a crash now would lose them",
                self._path,
                error,
            )
        self._is_disk_fine = False

    def _disk_works(self) -> None:
        if not self._is_disk_fine:
            logger.warning("%s: can be written again; all events are kept", self._path)
        self._is_disk_fine = True


def _take_in(streams: _Streams, stream: str, number: int, body: bytes) -> None:
    """Add what was read; fill a hole, for the recorder would wait for its numbers for ever."""
    bodies = streams.setdefault(stream, OrderedDict())
    newest = next(reversed(bodies), number - 1)
    if not isinstance(body, bytes) or not newest < number <= newest + LARGEST_HOLE:
        raise _Unusable(f"its rows make no sense (number {number} after {newest})")
    for missing in range(newest + 1, number):
        bodies[missing] = b""
    bodies[number] = body


def _carry_out(database: sqlite3.Connection, changes: dict[_Key, bytes | None]) -> None:
    database.executemany(
        "INSERT OR REPLACE INTO event (stream, sequence, body) VALUES (?, ?, ?)",
        [(*key, body) for key, body in changes.items() if body is not None],
    )
    database.executemany(
        "DELETE FROM event WHERE stream = ? AND sequence = ?",
        [key for key, body in changes.items() if body is None],
    )


def _is_damaged(error: sqlite3.Error) -> bool:
    """Tell a damaged file from one that is locked, full or out of reach."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _event(stream: str, oldest: int, number: int, body: bytes) -> Event:
    try:
        event = Event.model_validate_json(zlib.decompress(body))
    except (zlib.error, ValidationError) as error:
        logger.error("event %d of stream %s cannot be read back: %s", number, stream, error)
        lost = Event.model_validate_json(
            '{"node":"-","stream":"-","sequence":0,"oldest_sequence":0,"kind":"problem",'
            '"data":{},"boot_id":"","at":"1970-01-01T00:00:00Z"}'
        )
        event = _problem(lost, "an event in the outbox could not be read back")
    return event.model_copy(
        update={"stream": stream, "sequence": number, "oldest_sequence": oldest}
    )


def _problem(event: Event, text: str) -> Event:
    data = {"what": "outbox", "text": text}
    return event.model_copy(update={"kind": EventKind.PROBLEM.value, "data": data})


def _machine() -> str:
    """Return the machine's id, or nothing where it has none (some containers)."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""
