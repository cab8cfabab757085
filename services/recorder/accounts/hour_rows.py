"""The packed hours in the database, of GPUs and of hosts: added to, and read by span."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.schema.reading import Read
from services.recorder.schema.tables import EVERY, Rolled, sample_1h
from services.recorder.schema.upsert import insert_into
from services.recorder.values import hours
from services.recorder.values.columns import DAY, from_slot, to_slot

_Key = tuple[int, datetime]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some hours of one day of a device or host: those from `begin` to before `end` in it."""

    owner: int
    slot: int
    """With which the day begins."""
    day: hours.Day
    begin: int
    end: int


async def add(
    connection: AsyncConnection, own: Rolled, rows: Iterable[tuple[_Key, Mapping[str, Any]]]
) -> None:
    """Add totals of hours, each of whom they are and when it begins, to what is there."""
    columns, table = own.columns, own.hours
    new: dict[_Key, hours.Hours] = {}
    for (owner, start), totals in rows:
        day = _day_of(start)
        place, numbers = to_slot(start) - to_slot(day), columns.numbers_of(totals)
        of_day = new.setdefault((owner, day), {})
        of_day[place] = columns.together(of_day[place], numbers) if place in of_day else numbers
    if not new:
        return
    key, start_of = own.owner(table), table.c.start
    there = select(key.label("owner"), start_of, table.c.data)
    for row in await connection.execute(there.where(tuple_(key, start_of).in_([*new]))):
        mine = new[row.owner, row.start]
        for place, numbers in hours.Day(row.data).hours().items():
            mine[place] = columns.together(mine[place], numbers) if place in mine else numbers
    insert = insert_into(connection.dialect.name, table)
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=[key, start_of], set_={"data": insert.excluded.data}
        ),
        [
            {key.name: owner, "start": day, "data": columns.pack(of_day)}
            for (owner, day), of_day in sorted(new.items())
        ],
    )


async def between(
    read: Read, own: Rolled, owners: Iterable[int], begin: datetime, end: datetime
) -> Iterator[Stretch]:
    """Return the hours of some that begin within a span, one after the other."""
    found = await read(_between(own, owners, begin, end))
    return (one for row in found for one in _within(row, to_slot(begin), to_slot(end)))


async def first(read: Read) -> datetime | None:
    """Return when the first hour began that anything is known of."""
    own = sample_1h.c
    days = select(own.start, own.data).where(own.device == EVERY).order_by(own.start).limit(1)
    for row in await read(days):
        return from_slot(to_slot(row.start) + hours.Day(row.data).starts[0])
    return None


def _between(own: Rolled, owners: Iterable[int], begin: datetime, end: datetime) -> Select[Any]:
    key, start = own.owner(own.hours), own.hours.c.start
    return (
        select(key.label("owner"), start, own.hours.c.data)
        .where(key.in_([*owners]), start >= _day_of(begin), start < end)
        .order_by(key, start)
    )


def _within(row: Any, begin: int, end: int) -> Iterator[Stretch]:
    slot, day = to_slot(row.start), hours.Day(row.data)
    first, last = day.place(begin - slot), day.place(end - slot)
    if first < last:
        yield Stretch(owner=row.owner, slot=slot, day=day, begin=first, end=last)


def _day_of(at: datetime) -> datetime:
    return from_slot(to_slot(at) // DAY * DAY)
