"""Readings of one GPU or node over time, at a resolution that fits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Select, func, select, type_coerce

from services.recorder import hour_rows, hours, mig, rollup, samples, tables
from services.recorder.adding import KNOWN
from services.recorder.columns import from_slot, to_microseconds, to_slot
from services.recorder.questions import Known, Question, Read, Shown
from services.recorder.rollup import DAY, FIVE_MINUTES, GAUGES, HOUR, STATES, Tier

MOST_SAMPLES = 5000
"""Read for one series; a longer one is of five minutes."""
_SAMPLES_APART = 10


async def rows(read: Read, question: Question, known: Known) -> list[Shown]:
    """Return the points of a series, the newest first."""
    query = question.query
    devices = known.names.devices_of(query.node, query.gpu)
    tier = _tier(question, known, len(devices))
    if tier is None:
        return [
            _point(total, question.step)
            for total in await _of_samples(read, question, known, devices)
        ]
    step = max(1, math.ceil(question.step / tier.width)) * tier.width
    if tier is HOUR:
        return [
            _point(total, step) for total in await _of_hours(read, question, known, step, devices)
        ]
    found = await read(_of_buckets(question, known, tier, step, devices))
    return [_point(row._asdict(), step) for row in found]


def _tier(question: Question, known: Known, devices: int) -> Tier | None:
    """Return the resolution: the coarsest that has the points, of what is kept; None: samples."""
    age, step, keep = question.now - question.since, question.step, known.retention
    if age > keep.hours or step > HOUR.width * 12:
        return DAY
    if age > keep.five_minutes or step >= HOUR.width:
        return HOUR
    count = (question.until - question.since).total_seconds() / _SAMPLES_APART * devices
    is_long = count > MOST_SAMPLES
    return FIVE_MINUTES if age > keep.samples or step >= FIVE_MINUTES.width or is_long else None


def _of_buckets(
    question: Question, known: Known, tier: Tier, step: timedelta, devices: list[int]
) -> Select[Any]:
    table = tables.rolled[tier]
    first = _first(question, known, tier)
    slots = step // FIVE_MINUTES.width
    # A day has 23 to 25 hours: half of one makes up for that.
    slack = 144 if tier is DAY else 0
    number = type_coerce(table.c.start, BigInteger)
    bucket = (number - to_slot(first) + slack) // slots
    sums: dict[str, Any] = {"seconds": tables.seconds_of(table)}
    for name in ("samples", "energy_joules", *(f"{state}_seconds" for state in STATES)):
        sums[name] = table.c[name]
    for name in (f"{gauge}_sum" for gauge in GAUGES):
        sums[name] = table.c[name]
    for name in KNOWN:
        sums[name] = tables.seconds_of(table, name)
    columns = [
        *(func.sum(value).label(name) for name, value in sums.items()),
        *(func.min(table.c[f"{gauge}_min"]).label(f"{gauge}_min") for gauge in GAUGES),
        *(func.max(table.c[f"{gauge}_max"]).label(f"{gauge}_max") for gauge in GAUGES),
    ]
    return (
        select(func.min(table.c.start).label("start"), *columns)
        .where(table.c.device.in_(devices), table.c.start >= first, table.c.start < _end(question))
        .group_by(bucket)
        .order_by(bucket.desc())
    )


async def _of_hours(
    read: Read, question: Question, known: Known, step: timedelta, devices: list[int]
) -> list[rollup.Totals]:
    begin = _first(question, known, HOUR)
    first, slots = to_slot(begin), step // FIVE_MINUTES.width
    sums: dict[int, hours.Numbers] = {}
    starts: dict[int, int] = {}
    for one in await hour_rows.between(read, devices, begin, _end(question)):
        place = one.begin
        while place < one.end:
            start = one.slot + one.day.starts[place]
            bucket = (start - first) // slots
            later = min(one.end, one.day.place(first + (bucket + 1) * slots - one.slot))
            total = one.day.total(place, later)
            sums[bucket] = hours.together(sums[bucket], total) if bucket in sums else total
            starts[bucket] = min(start, starts.get(bucket, start))
            place = later
    return [
        hours.totals_of(sums[bucket]) | {"start": from_slot(starts[bucket])}
        for bucket in sorted(sums, reverse=True)
    ]


def _first(question: Question, known: Known, tier: Tier) -> datetime:
    """Return when the first bucket of a tier begins that a question is about."""
    return rollup.start_in(tier, rollup.start_of(question.since, FIVE_MINUTES.width), known.local)


def _end(question: Question) -> datetime:
    """Return the first boundary of five minutes that is not before the end."""
    return rollup.start_of(
        question.until + timedelta(minutes=5, microseconds=-1), FIVE_MINUTES.width
    )


async def _of_samples(
    read: Read, question: Question, known: Known, devices: list[int]
) -> Iterable[rollup.Totals]:
    own, wanted = tables.sample.c, set(devices)
    nodes = {known.names.number[known.names.device[one].node] for one in devices}
    chunks = await read(
        select(own.data).where(
            own.slot >= question.since - FIVE_MINUTES.width,
            own.slot < _end(question),
            own.node.in_(nodes),
        )
    )
    step = question.step // timedelta(microseconds=1)
    found: dict[int, dict[Any, mig.Row]] = {}
    parents = {one: of for one, of in known.names.parents.items() if of in wanted}
    for chunk in chunks:
        every = list(samples.read(chunk.data, wanted | parents.keys()))
        divided = mig.divided((one["device"] for one in every), parents)
        mine = [one for one in every if one["device"] in wanted]
        for one in mig.without_doubles(mine, divided):
            if question.since < one["at"] <= question.until:
                # A sample on the boundary belongs before it.
                bucket = (to_microseconds(one["at"]) - 1) // step
                found.setdefault(bucket, {})[one["device"], one["at"]] = one
    return [
        rollup.of_samples(found[bucket].values())
        | {"start": tables.from_microseconds(bucket * step)}
        for bucket in sorted(found, reverse=True)
    ]


def _point(row: dict[str, Any], step: timedelta) -> Shown:
    point: Shown = {
        "start": row["start"].isoformat(),
        "resolution_seconds": step.total_seconds(),
        # PostgreSQL sums whole numbers to a decimal.
        "samples": int(row["samples"]),
        # In MIG mode it counts no time, and has readings nevertheless.
        "seconds": row["seconds"] or max(row[name] for name in KNOWN),
        "energy_joules": row["energy_joules"] if row["energy_seconds"] else None,
    }
    for state in STATES:
        point[f"{state}_seconds"] = row[f"{state}_seconds"]
    for gauge in GAUGES:
        known_for = row[f"{gauge}_seconds"]
        point[gauge] = row[f"{gauge}_sum"] / known_for if known_for else None
        point[f"{gauge}_min"] = row[f"{gauge}_min"]
        point[f"{gauge}_max"] = row[f"{gauge}_max"]
    return point
