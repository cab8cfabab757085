"""The index of what events name, in the transaction at hand: of new events, and of older ones.

An event and its mentions are one commit. What was recorded before there was an index is taken in
from the newest to the oldest; `mentioned` says how far that is, so that it goes on after a stop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.index.mentions import Mentions, Sort, about, mentions_of
from services.recorder.schema import tables
from services.recorder.schema.names import Names
from services.recorder.schema.upsert import insert_into

Row = dict[str, Any]

AT_ONCE = 200
"""Older events in one transaction; the writer waits no longer."""
CHUNK = 100_000
"""The newest that are left, from their first to their last: backwards, pages stay half empty."""


async def newest(connection: AsyncConnection) -> int:
    """Return the number of the event that was written last."""
    found = await connection.execute(select(func.max(tables.event.c.id)))
    return int(found.scalar() or 0)


async def mention_new(
    connection: AsyncConnection,
    names: Names,
    after: int,
    events: Mapping[tuple[int, int], tuple[Mapping[str, Any], Mentions]],
) -> None:
    """Take in the events after a number: those of a batch that were not there before.

    `events` are by stream and sequence number; their names have numbers already.
    """
    own = tables.event.c
    found = await connection.execute(select(own.id, own.stream, own.sequence).where(own.id > after))
    rows = list[Row]()
    for number, stream, sequence in found:
        event, mentions = events[stream, sequence]
        rows += _rows(number, event, mentions, names.number)
    await _insert(connection, rows)


async def mention_older(connection: AsyncConnection, names: Names, at_once: int = AT_ONCE) -> int:
    """Take in some events from before there was an index; return how many are left at most."""
    mark, own = tables.mentioned, tables.event.c
    there = (await connection.execute(select(mark))).first()
    if there is None:
        return 0
    oldest = (await connection.execute(select(func.min(own.id)))).scalar() or there.since
    begin = max(there.since - CHUNK, oldest)
    columns = select(own.id, own.node, own.device, own.at, own.kind, own.data)
    some = columns.where(own.id >= max(begin, there.next), own.id < there.since)
    found = await connection.execute(some.order_by(own.id).limit(at_once))
    rows = found.mappings().all()
    named = [({**row}, mentions_of(row["kind"], json.loads(row["data"]))) for row in rows]
    await names.know(connection, {text for _, one in named for text in one.texts})
    new = (_rows(row["id"], row, one, names.number) for row, one in named)
    await _insert(connection, [row for some in new for row in some])
    following = rows[-1]["id"] + 1 if len(rows) == at_once else there.since
    if following < there.since:
        await connection.execute(update(mark).values(next=following))
    elif begin > oldest:
        await connection.execute(update(mark).values(since=begin, next=0))
    else:
        await connection.execute(delete(mark))
    return int(begin - oldest + there.since - following)


def _rows(
    number: int, event: Mapping[str, Any], mentions: Mentions, numbers: Mapping[str, int]
) -> list[Row]:
    node, at, what = event["node"], event["at"], numbers[mentions.what]
    of_node = about(Sort.NODE, node)
    return [
        {
            "about": one,
            "at": at,
            "event": number,
            "what": what,
            "device": event["device"] if one == of_node else None,
        }
        for one in mentions.lists(node, numbers)
    ]


async def _insert(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    if rows:
        statement = insert_into(connection.dialect.name, tables.mention).on_conflict_do_nothing()
        await connection.execute(statement, rows)
