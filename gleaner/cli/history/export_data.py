"""`gleaner export data`: sessions, samples, events or runs into a file, all of them or none."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from gleaner.cli.connect import connected
from gleaner.cli.history.past import hear_inventories, simulated
from gleaner.cli.settings import Settings
from gleaner.client import ANSWER_SECONDS, Client, RequestFailed, Unanswered
from gleaner.export import FORMATS, Format, What, asked_of, encoder, pages
from gleaner.fleet import Fleet

PAGE_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What shall be written."""

    what: What
    form: Format
    since: datetime | None = None
    until: datetime | None = None
    node: str | None = None
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    rows: int
    simulated: str | None
    """What of it never really happened."""


def format_of(file: str, given: Format | None) -> Format:
    """Return the format that was asked for, else the one that the file's name ends with.

    Raise ValueError where it ends with another one: `a.xlsx` would be no such file.
    """
    if given is not None:
        return given
    suffix = Path(file).suffix.lstrip(".").lower()
    if suffix and suffix not in FORMATS:
        raise ValueError(f"{file} does not say which: it is one of {', '.join(FORMATS)}")
    return next((one for one in FORMATS if one == suffix), "csv")


async def export(settings: Settings, file: str, wish: Wish) -> Exported:
    """Write a file, or standard output for `-`."""
    fleet = Fleet()
    async with connected(settings) as client:
        hear_inventories(client.bus, fleet)
        rows = await export_from(client, file, wish)
    view = fleet.snapshot(datetime.now(UTC))
    return Exported(rows=rows, simulated=simulated(view, wish.node) if rows else None)


async def export_from(client: Client, file: str, wish: Wish) -> int:
    """Write what the recorder behind a client has, page by page.

    Raise RequestFailed, Incomplete or OSError; then the file is as it was before.
    """
    table, rows = encoder(wish.what, wish.form), 0

    async def ask(cursor: str | None) -> HistoryAnswer:
        query = HistoryQuery(
            id=uuid.uuid4().hex,
            client=client.id,
            **asked_of(wish.what),
            node=wish.node,
            user=wish.user,
            since=wish.since,
            until=wish.until,
            limit=PAGE_ROWS,
            cursor=cursor,
            expires_at=datetime.now(UTC) + timedelta(seconds=ANSWER_SECONDS),
        )
        return await client.page(query)

    with _written(file) as target:
        async with contextlib.aclosing(pages(ask, Unanswered, RequestFailed)) as found:
            # Not before there is an answer: who reads a pipe takes a heading for one.
            before = table.begin()
            async for page in found:
                target.write(before + table.page(page))
                before, rows = b"", rows + len(page)
            target.write(before + table.end())
    return rows


@contextlib.contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Open what becomes the file when everything is in it."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.exists() and not path.is_file():
        # A pipe or a device is written to, and not replaced by a file.
        with path.open("wb") as target:
            yield target
        return
    # The name may be as long as a name can be.
    unfinished = path.with_name(f".gleaner-export.{os.getpid()}")
    try:
        with unfinished.open("xb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
