"""Events, and a recorder that runs on a bus in memory."""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Table, func, select

from gleaner.bus.interface import Bus
from gleaner.bus.messages import Event, HistoryQuery
from services.recorder.accounts import hour_rows
from services.recorder.intake.batch import Number
from services.recorder.intake.rows import rows_of
from services.recorder.schema import tables
from services.recorder.service import Recorder
from services.recorder.store import Store
from services.recorder.upkeep.moving import bring_up_to_date
from services.recorder.upkeep.retention import Retention
from services.recorder.upkeep.tidy import Tidying
from services.recorder.values import samples
from services.recorder.values.columns import from_slot
from services.recorder.values.local_time import EPOCH
from tests.builders import NOW
from tests.postgres import Postgres

KEEP = Retention(samples=timedelta(days=2), events=timedelta(days=731))


def an_event(
    sequence: int = 1,
    *,
    node: str = "n1",
    stream: str = "s1",
    oldest: int = 1,
    kind: str = "people",
    data: dict[str, JsonValue] | None = None,
    at: datetime | None = None,
) -> Event:
    return Event(
        node=node,
        stream=stream,
        sequence=sequence,
        oldest_sequence=oldest,
        kind=kind,
        data={"active": False} if data is None else data,
        boot_id="boot",
        at=at or datetime.now(UTC),
    )


def numbers(*events: Event, now: datetime = NOW) -> list[Number]:
    """Return what a recorder writes of events that come `now`."""
    return [
        Number(
            node=one.node,
            stream=one.stream,
            sequence=one.sequence,
            oldest=one.oldest_sequence,
            rows=rows_of(one, now),
        )
        for one in events
    ]


def a_run(sequence: int, state: str, seconds: float = 0, **more: Any) -> Event:
    at = NOW + timedelta(seconds=seconds)
    data = {
        "run": "r1",
        "entry": "fold",
        "digest": "d",
        "gpus": ["GPU-1"],
        "state": state,
        "reason": f"it is {state}",
        "term": 1,
        "at": at.isoformat(),
    }
    return an_event(sequence, kind="run", data=data | more, at=at)


def a_query(**wanted: Any) -> HistoryQuery:
    return HistoryQuery.model_validate(
        {"id": "q", "client": "c", "what": "events", "expires_at": datetime.now(UTC)} | wanted
    )


def url(directory: Path, *, with_tables: bool = True) -> str:
    """The database of a folder: a file in it, or one of the server that the test runs on.

    To make the tables takes longer than most tests: they are copied.
    """
    server = _servers[-1] if _servers else None
    if server:
        if not with_tables:
            return server.database(str(directory))
        _make_tables(server.database("tables"))
        return server.database(str(directory), like="tables")
    file = directory / "recorder" / "gleaner.sqlite"
    if with_tables and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_file_with_tables(), file)
    return f"sqlite:///{file}"


@functools.cache
def _make_tables(where: str) -> None:
    # Tests have a loop that runs, and so need another thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(bring_up_to_date(where))).result()


@functools.cache
def _file_with_tables() -> Path:
    file = Path(tempfile.mkdtemp(prefix="gleaner-tables-")) / "gleaner.sqlite"
    atexit.register(shutil.rmtree, file.parent)
    file.touch(0o600)
    _make_tables(f"sqlite:///{file}")
    return file


_servers: list[Postgres] = []


@contextmanager
def on(server: Postgres) -> Iterator[None]:
    """Let `url` mean databases of a server."""
    _servers.append(server)
    try:
        yield
    finally:
        _servers.pop()


async def count(store: Store, table: Table) -> int:
    return int((await store.read(select(func.count()).select_from(table)))[0][0])


async def hours_of(
    store: Store, owner: int = tables.EVERY, own: tables.Rolled = tables.GPUS
) -> dict[datetime, dict[str, Any]]:
    """Return what the hours of a device or host come to, by when they begin."""
    end = EPOCH + timedelta(days=36500)
    found = await hour_rows.between(store.read, own, [owner], EPOCH, end)
    return {
        from_slot(one.slot + start): own.columns.totals_of(of_hour)
        for one in found
        for start, of_hour in one.day.hours().items()
    }


async def samples_left(store: Store) -> list[dict[str, Any]]:
    """Return the single samples that are kept still."""
    chunks = await store.read(select(tables.sample.c.data))
    return [one for chunk in chunks for one in samples.read(chunk.data)]


@asynccontextmanager
async def recording(bus: Bus, store: Store, retention: Retention = KEEP) -> AsyncIterator[Recorder]:
    """A recorder that runs until the block ends."""
    recorder = Recorder(bus, store, Tidying(store, retention))
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):
            raise error
