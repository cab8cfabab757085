"""The packed hours in the database: added to, and read by span."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder import hours
from services.recorder.columns import DAY, from_slot, to_slot
from services.recorder.questions import Read
from services.recorder.tables import EVERY, sample_1h
from services.recorder.upsert import insert_into

_Key = tuple[int, datetime]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some hours of one day of a device: those from `begin` to before `end` in it."""

    device: int
    slot: int
    """With which the day begins."""
    day: hours.Day
    begin: int
    end: int


async def add(connection: AsyncConnection, rows: Iterable[tuple[_Key, Mapping[str, Any]]]) -> None:
    """Add totals of hours, each of a device and when it begins, to what is there."""
    new: dict[_Key, hours.Hours] = {}
    for (device, start), totals in rows:
        day = _day_of(start)
        place, numbers = to_slot(start) - to_slot(day), hours.numbers_of(totals)
        of_day = new.setdefault((device, day), {})
        of_day[place] = hours.together(of_day[place], numbers) if place in of_day else numbers
    if not new:
        return
    own = sample_1h
    there = select(own).where(tuple_(own.c.device, own.c.start).in_([*new]))
    for row in await connection.execute(there):
        mine = new[row.device, row.start]
        for place, numbers in hours.Day(row.data).hours().items():
            mine[place] = hours.together(mine[place], numbers) if place in mine else numbers
    insert = insert_into(connection.dialect.name, own)
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=["device", "start"], set_={"data": insert.excluded.data}
        ),
        [
            {"device": device, "start": day, "data": hours.pack(of_day)}
            for (device, day), of_day in sorted(new.items())
        ],
    )


async def between(
    read: Read, devices: Iterable[int], begin: datetime, end: datetime
) -> Iterator[Stretch]:
    """Return the hours of some devices that begin within a span, device by device."""
    found = await read(_between(devices, begin, end))
    return (one for row in found for one in _within(row, to_slot(begin), to_slot(end)))


async def first(read: Read) -> datetime | None:
    """Return when the first hour began that anything is known of."""
    own = sample_1h.c
    days = select(own.start, own.data).where(own.device == EVERY).order_by(own.start).limit(1)
    for row in await read(days):
        return from_slot(to_slot(row.start) + hours.Day(row.data).starts[0])
    return None


def _between(devices: Iterable[int], begin: datetime, end: datetime) -> Select[Any]:
    own = sample_1h.c
    return (
        select(own.device, own.start, own.data)
        .where(own.device.in_([*devices]), own.start >= _day_of(begin), own.start < end)
        .order_by(own.device, own.start)
    )


def _within(row: Any, begin: int, end: int) -> Iterator[Stretch]:
    slot, day = to_slot(row.start), hours.Day(row.data)
    first, last = day.place(begin - slot), day.place(end - slot)
    if first < last:
        yield Stretch(device=row.device, slot=slot, day=day, begin=first, end=last)


def _day_of(at: datetime) -> datetime:
    return from_slot(to_slot(at) // DAY * DAY)
