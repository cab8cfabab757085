"""Readings of one GPU, of a node's GPUs or of the node itself over time, as finely as fits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Select, func, select, type_coerce

from services.recorder.accounts import hour_rows
from services.recorder.queries import fine_series
from services.recorder.queries.questions import Known, Question, Shown
from services.recorder.schema import tables
from services.recorder.schema.reading import Read
from services.recorder.values import hours, rollup
from services.recorder.values.columns import from_slot, to_slot
from services.recorder.values.rollup import DAY, FIVE_MINUTES, HOUR, Kind, Tier

MOST_SAMPLES = 5000
"""Read for one series; a longer one is of five minutes."""
_SAMPLES_APART = 10


async def rows(read: Read, question: Question, known: Known) -> list[Shown]:
    """Return the points of a series, the newest first."""
    query, names = question.query, known.names
    if query.of == "host":
        own, owners = tables.HOSTS, [names.number[str(query.node)]]
    else:
        own, owners = tables.GPUS, names.devices_of(query.node, query.gpu)
    tier, step = _tier(question, known, len(owners)), question.step
    totals: Iterable[rollup.Totals]
    if tier is None:
        totals = await (
            fine_series.of_hosts(read, question, owners)
            if own is tables.HOSTS
            else fine_series.of_gpus(read, question, known, owners)
        )
    else:
        step = max(1, math.ceil(step / tier.width)) * tier.width
        if tier is HOUR:
            totals = await _of_hours(read, question, known, step, own, owners)
        else:
            found = await read(_of_buckets(question, known, tier, step, own, owners))
            totals = (row._asdict() for row in found)
    return [_point(total, step, own.kind) for total in totals]


def _tier(question: Question, known: Known, owners: int) -> Tier | None:
    """Return the resolution: the coarsest that has the points, of what is kept; None: samples."""
    age, step, keep = question.now - question.since, question.step, known.retention
    if age > keep.hours or step > HOUR.width * 12:
        return DAY
    if age > keep.five_minutes or step >= HOUR.width:
        return HOUR
    count = (question.until - question.since).total_seconds() / _SAMPLES_APART * owners
    is_long = count > MOST_SAMPLES
    return FIVE_MINUTES if age > keep.samples or step >= FIVE_MINUTES.width or is_long else None


def _of_buckets(
    question: Question,
    known: Known,
    tier: Tier,
    step: timedelta,
    own: tables.Rolled,
    owners: list[int],
) -> Select[Any]:
    table, kind = own.rows[tier], own.kind
    first = _first(question, known, tier)
    slots = step // FIVE_MINUTES.width
    # A day has 23 to 25 hours: half of one makes up for that.
    slack = 144 if tier is DAY else 0
    number = type_coerce(table.c.start, BigInteger)
    bucket = (number - to_slot(first) + slack) // slots
    # The seconds are NULL where they are all the seconds of the row.
    sums = {
        name: tables.seconds_of(table, name) if name in ("seconds", *kind.known) else table.c[name]
        for name in kind.sums
    }
    columns = [
        *(func.sum(value).label(name) for name, value in sums.items()),
        *(func.min(table.c[f"{gauge}_min"]).label(f"{gauge}_min") for gauge in kind.gauges),
        *(func.max(table.c[f"{gauge}_max"]).label(f"{gauge}_max") for gauge in kind.gauges),
    ]
    of_these = own.owner(table).in_(owners)
    return (
        select(func.min(table.c.start).label("start"), *columns)
        .where(of_these, table.c.start >= first, table.c.start < rollup.end_of(question.until))
        .group_by(bucket)
        .order_by(bucket.desc())
    )


async def _of_hours(
    read: Read,
    question: Question,
    known: Known,
    step: timedelta,
    own: tables.Rolled,
    owners: list[int],
) -> list[rollup.Totals]:
    columns = own.columns
    begin = _first(question, known, HOUR)
    first, slots = to_slot(begin), step // FIVE_MINUTES.width
    sums: dict[int, hours.Numbers] = {}
    starts: dict[int, int] = {}
    for one in await hour_rows.between(read, own, owners, begin, rollup.end_of(question.until)):
        place = one.begin
        while place < one.end:
            start = one.slot + one.day.starts[place]
            bucket = (start - first) // slots
            later = min(one.end, one.day.place(first + (bucket + 1) * slots - one.slot))
            total = one.day.total(place, later)
            sums[bucket] = columns.together(sums[bucket], total) if bucket in sums else total
            starts[bucket] = min(start, starts.get(bucket, start))
            place = later
    return [
        columns.totals_of(sums[bucket]) | {"start": from_slot(starts[bucket])}
        for bucket in sorted(sums, reverse=True)
    ]


def _first(question: Question, known: Known, tier: Tier) -> datetime:
    """Return when the first bucket of a tier begins that a question is about."""
    return rollup.start_in(tier, rollup.start_of(question.since, FIVE_MINUTES.width), known.local)


def _point(row: Mapping[str, Any], step: timedelta, kind: Kind) -> Shown:
    point: Shown = {
        "start": row["start"].isoformat(),
        "resolution_seconds": step.total_seconds(),
        # PostgreSQL sums whole numbers to a decimal.
        "samples": int(row["samples"]),
        # In MIG mode it counts no time, and has readings nevertheless.
        "seconds": row["seconds"] or max(row[name] for name in kind.known),
    }
    if kind.has_energy:
        point["energy_joules"] = row["energy_joules"] if row["energy_seconds"] else None
    if kind is rollup.GPU:
        point |= {f"{state}_seconds": row[f"{state}_seconds"] for state in kind.states}
    for gauge in kind.gauges:
        known_for = row[f"{gauge}_seconds"]
        point[gauge] = row[f"{gauge}_sum"] / known_for if known_for else None
        point[f"{gauge}_min"] = row[f"{gauge}_min"]
        point[f"{gauge}_max"] = row[f"{gauge}_max"]
    return point
