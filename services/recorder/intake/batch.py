"""What a batch is made of, and the statements that write it in the transaction at hand.

What is there already is left as it is: a batch may be written twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Insert, Table, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.accounts import accounting
from services.recorder.index import mentioning
from services.recorder.index.mentions import Mentions, is_fit
from services.recorder.intake import rows
from services.recorder.intake.progress import Gap, Progress
from services.recorder.intake.streams import Key, Streams
from services.recorder.schema import tables
from services.recorder.schema.names import Names
from services.recorder.schema.upsert import insert_into
from services.recorder.storage.condition import ASIDE, LOST
from services.recorder.values import samples

DEAD_LETTERS = 1000
"""Kept at most; the newest."""


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


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is to be written, and how far the streams will be when it is."""

    numbers: Sequence[Number]
    letters: Sequence[DeadLetter]
    reached: Mapping[Key, Progress]
    gaps: Sequence[rows.Row]
    now: datetime


def batch_of(
    numbers: Sequence[Number],
    letters: Sequence[DeadLetter],
    streams: Streams,
    now: datetime,
    *,
    has_predecessor: bool = False,
) -> Batch:
    """Return what is to be written; pure.

    With a predecessor, a damaged database that was kept aside, what a stream had before it was
    first heard is taken to be there.
    """
    reached: dict[Key, Progress] = {}
    gaps: list[rows.Row] = []
    by_stream: dict[Key, list[Number]] = {}
    for one in numbers:
        by_stream.setdefault((one.node, one.stream), []).append(one)
    for key, of_stream in by_stream.items():
        reached[key], lost = streams.with_numbers(
            key, [one.sequence for one in of_stream], max(one.oldest for one in of_stream)
        )
        may_be_aside = has_predecessor and not streams.knows(key)
        gaps += [
            _gap_row(key, gap, ASIDE if may_be_aside and gap.first == 1 else LOST, now)
            for gap in lost
        ]
        unread = [one.sequence for one in of_stream if one.rows is None]
        gaps += [
            _gap_row(key, Gap(first=number, last=number), "unreadable", now) for number in unread
        ]
    return Batch(numbers=numbers, letters=letters, reached=reached, gaps=gaps, now=now)


async def write_batch(connection: AsyncConnection, names: Names, batch: Batch) -> None:
    """Write all rows of a batch."""
    made = [(one, one.rows) for one in batch.numbers if one.rows is not None]
    await _know(connection, names, batch)
    await _write_events(connection, names, made)
    chunks = [row for one, own in made for row in _chunks(names, one, own)]
    await accounting.keep(connection, names, chunks, batch.now)
    runs = [own.run | {"node": names.number[own.run["node"]]} for _, own in made if own.run]
    if runs:
        # One after the other, as they came.
        await connection.execute(_upsert_run(connection), runs)
    await _insert(connection, tables.gap, batch.gaps)
    await _insert(connection, tables.dead_letter, [_letter_row(one) for one in batch.letters])
    if batch.letters:
        newest = select(func.max(tables.dead_letter.c.id)).scalar_subquery()
        old = tables.dead_letter.c.id <= newest - DEAD_LETTERS
        await connection.execute(delete(tables.dead_letter).where(old))


async def _write_events(
    connection: AsyncConnection, names: Names, made: Sequence[tuple[Number, rows.Rows]]
) -> None:
    """Write events, and whom and what those of them name that were not there before."""
    events: dict[tuple[int, int], tuple[rows.Row, Mentions]] = {}
    for one, own in made:
        if own.event and own.mentions:
            row = _event_row(names, one, own.event)
            events.setdefault((row["stream"], one.sequence), (row, own.mentions))
    if events:
        last = await mentioning.newest(connection)
        await _insert(connection, tables.event, [row for row, _ in events.values()])
        await mentioning.mention_new(connection, names, last, events)


async def _know(connection: AsyncConnection, names: Names, batch: Batch) -> None:
    """Give numbers to all that the rows name, and write how far the streams are."""
    events = [one.rows.event for one in batch.numbers if one.rows and one.rows.event]
    texts = {node for node, _ in batch.reached} | {event["boot_id"] for event in events}
    texts |= {
        text
        for one in batch.numbers
        if one.rows and one.rows.mentions
        for text in one.rows.mentions.texts
    }
    await names.know(connection, texts)
    gpus = {(event["node"], event["gpu"]) for event in events if event["gpu"]}
    runs = [one.rows.run for one in batch.numbers if one.rows and one.rows.run]
    gpus |= {(run["node"], gpu) for run in runs for gpu in json.loads(run["gpus"]) if is_fit(gpu)}
    await names.know_devices(connection, gpus, batch.now)
    if not batch.reached:
        return
    await connection.execute(_upsert_stream(connection), _stream_rows(names, batch))
    if {*batch.reached}.difference(names.streams):
        await names.know_streams(connection)


def _event_row(names: Names, one: Number, event: rows.Row) -> rows.Row:
    gpu = event["gpu"]
    return event | {
        "node": names.number[event["node"]],
        "stream": names.streams[one.node, one.stream],
        "device": names.devices[event["node"], gpu] if gpu else None,
        "boot": names.number[event["boot_id"]],
    }


def _chunks(names: Names, one: Number, own: rows.Rows) -> list[rows.Row]:
    place = {
        "node": names.number[one.node],
        "stream": names.streams[one.node, one.stream],
        "sequence": one.sequence,
    }
    found, hosts = samples.by_slot(own.samples), samples.by_slot(own.hosts)
    return [
        place | {"slot": slot, "samples": found.get(slot, []), "hosts": hosts.get(slot, [])}
        for slot in sorted(found.keys() | hosts.keys())
    ]


def _stream_rows(names: Names, batch: Batch) -> list[rows.Row]:
    return [
        {
            "node": names.number[node],
            "stream": stream,
            "watermark": one.watermark,
            "gaps": one.gaps,
            "updated_at": batch.now,
        }
        for (node, stream), one in batch.reached.items()
    ]


def _gap_row(key: Key, gap: Gap, reason: str, now: datetime) -> rows.Row:
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


def _upsert_run(connection: AsyncConnection) -> Insert:
    statement = insert_into(connection.dialect.name, tables.run)
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


def _upsert_stream(connection: AsyncConnection) -> Insert:
    statement = insert_into(connection.dialect.name, tables.stream)
    changed = ("watermark", "gaps", "updated_at")
    return statement.on_conflict_do_update(
        index_elements=["node", "stream"],
        set_={name: statement.excluded[name] for name in changed},
    )


async def _insert(connection: AsyncConnection, table: Table, values: Sequence[rows.Row]) -> None:
    if values:
        statement = insert_into(connection.dialect.name, table).on_conflict_do_nothing()
        await connection.execute(statement, values)
