"""Roll-ups, use and sessions in the database: counted for the five minutes that something came for.

Samples and the mark that their five minutes are dirty are one transaction, and so are all that is
counted of them and the end of the mark: a stop in between costs nothing and counts nothing twice.
Five minutes are made again from all their samples; what is new in them is added to the hour, day
and month, to the sums of all GPUs, to use and to sessions. When samples are deleted by their age,
their five minutes are *sealed*: what comes later is all new, and is deleted with the commit that
adds it. What nodes say of themselves is counted in the same way as what they say of their GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy import bindparam, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.accounts import sessions, sums
from services.recorder.accounts.adding import add
from services.recorder.accounts.sums import Key, Values
from services.recorder.schema import tables
from services.recorder.schema.names import Names
from services.recorder.schema.upsert import insert_into
from services.recorder.values import mig, rollup, samples, use
from services.recorder.values.local_time import LocalTime
from services.recorder.values.rollup import DAY, FIVE_MINUTES, HOUR

NODES = 8
"""Of how many nodes five minutes are counted in one transaction; the writer waits no longer."""
SEALED_ROWS = 1000
LATENESS = timedelta(seconds=90)
"""A minute's samples come at its end; what is not over yet would be counted in vain."""

MOST_GPUS = 1000
"""Of one node in five minutes, and about so many in one transaction: a statement takes only so many
values, and who makes up more must not hold up the others."""

Mark = tuple[datetime, int]
"""Five minutes that something came for, and the number of the node."""


@dataclass(kw_only=True)
class _Found:
    """What is to be counted, by device (or host) and five minutes."""

    samples: dict[Key, dict[datetime, Values]] = field(default_factory=dict)
    totals: dict[Key, Values] = field(default_factory=dict)
    used: list[tuple[Key, use.Who, use.Totals]] = field(default_factory=list)
    stretches: list[Values] = field(default_factory=list)
    hosts: dict[Key, dict[datetime, Values]] = field(default_factory=dict)
    host_totals: dict[Key, Values] = field(default_factory=dict)


async def keep(
    connection: AsyncConnection, names: Names, chunks: Iterable[Values], now: datetime
) -> None:
    """Write samples, and remember which five minutes they fall into."""
    rows = list(chunks)
    if not rows:
        return
    gpus = {(names.text[row["node"]], one["gpu"]) for row in rows for one in row["samples"]}
    await names.know_devices(connection, gpus, now)
    insert = insert_into(connection.dialect.name, tables.sample).on_conflict_do_nothing()
    numbers: dict[int, dict[str, int]] = {}
    for row in rows:
        mine = numbers.setdefault(row["node"], {})
        node = names.text[row["node"]]
        mine |= {one["gpu"]: names.devices[node, one["gpu"]] for one in row["samples"]}
    written = [
        row | {"data": samples.written(row["samples"], numbers[row["node"]], row["hosts"])}
        for row in rows
    ]
    await connection.execute(insert, written)
    marks = {(row["slot"], row["node"]) for row in rows}
    mark = insert_into(connection.dialect.name, tables.dirty).on_conflict_do_nothing()
    await connection.execute(mark, [{"slot": slot, "node": node} for slot, node in sorted(marks)])


async def roll_up(
    connection: AsyncConnection,
    names: Names,
    local: LocalTime,
    now: datetime,
    *,
    is_one_by_one: bool = False,
) -> int:
    """Count some dirty five minutes, the oldest first; return of how many nodes."""
    found = _Found()
    marks = await _marks(connection, now, 1 if is_one_by_one else NODES)
    if not marks:
        return 0
    marks = await _read(connection, marks, found)
    until = await _sealed_until(connection)
    sealed = {slot: slot < until for slot, _ in marks}
    await _know_users(connection, names, found)
    await _compare(connection, names, sealed, found)
    await _compare_hosts(connection, sealed, found)
    await sums.add(connection, tables.GPUS, local, found.totals)
    await sums.add(connection, tables.HOSTS, local, found.host_totals)
    await _add_use(connection, local, found)
    await sessions.add(connection, ((key[0], who, new) for key, who, new in found.used))
    await _see(connection, found)
    if late := [mark for mark in marks if sealed[mark[0]]]:
        own = tables.sample
        await connection.execute(delete(own).where(tuple_(own.c.slot, own.c.node).in_(late)))
    dirty = tables.dirty
    await connection.execute(delete(dirty).where(tuple_(dirty.c.slot, dirty.c.node).in_(marks)))
    return len(marks)


async def leave_out(connection: AsyncConnection, now: datetime) -> tuple[datetime, int]:
    """Forget that the oldest dirty five minutes are; return when they began, and of which node."""
    (mark,) = await _marks(connection, now, 1)
    dirty = tables.dirty
    await connection.execute(delete(dirty).where(tuple_(dirty.c.slot, dirty.c.node) == mark))
    return mark


async def _marks(connection: AsyncConnection, now: datetime, most: int) -> list[Mark]:
    dirty = tables.dirty
    until = now - LATENESS - FIVE_MINUTES.width
    marked = select(dirty).where(dirty.c.slot <= until).order_by(dirty.c.slot, dirty.c.node)
    return [(one.slot, one.node) for one in await connection.execute(marked.limit(most))]


async def seal(connection: AsyncConnection, before: datetime) -> int:
    """Delete the samples of some old five minutes, and seal them; return how many, 0 if none."""
    own = tables.sample
    oldest = (await connection.execute(select(func.min(own.c.slot)))).scalar()
    if oldest is None:
        return 0
    # Of a large fleet five minutes, of a small one more: the writer waits no longer.
    some = select(own.c.slot).order_by(own.c.slot).offset(SEALED_ROWS).limit(1)
    last = (await connection.execute(some)).scalar() or before
    waits = (await connection.execute(select(func.min(tables.dirty.c.slot)))).scalar() or before
    until = rollup.start_of(before, FIVE_MINUTES.width)
    until = min(until, waits, max(last, oldest + FIVE_MINUTES.width))
    if until <= oldest:
        return 0
    gone = await connection.execute(delete(own).where(own.c.slot < until))
    await connection.execute(delete(tables.stretch).where(tables.stretch.c.start < until))
    if until > await _sealed_until(connection):
        await connection.execute(delete(tables.sealed))
        await connection.execute(tables.sealed.insert().values(until=until))
    return int(gone.rowcount)


async def _sealed_until(connection: AsyncConnection) -> datetime:
    found = (await connection.execute(select(func.max(tables.sealed.c.until)))).scalar()
    return found if isinstance(found, datetime) else rollup.start_of(
        tables.from_microseconds(0), FIVE_MINUTES.width
    )  # fmt: skip


async def _read(connection: AsyncConnection, marks: list[Mark], found: _Found) -> list[Mark]:
    """Read the samples of the marked five minutes, each once however often it was sent.

    Return of which: not of all where they are of very many GPUs.
    """
    own = tables.sample.c
    gpus = dict[Mark, int]()
    wanted = tuple_(own.slot, own.node).in_(marks)
    chunks = select(own.slot, own.node, own.data).where(wanted).order_by(own.slot, own.node, own.id)
    for chunk in await connection.execute(chunks):
        mark = (chunk.slot, chunk.node)
        if mark not in gpus and len(found.samples) >= MOST_GPUS:
            return marks[: marks.index(mark)]
        gpus.setdefault(mark, 0)
        of_gpus, of_host = samples.read_all(chunk.data)
        for one in of_gpus:
            key = (one["device"], chunk.slot)
            if key not in found.samples:
                gpus[mark] += 1
                if gpus[mark] > MOST_GPUS:
                    continue
            found.samples.setdefault(key, {}).setdefault(one["at"], one)
        for one in of_host:
            key = (chunk.node, chunk.slot)
            found.hosts.setdefault(key, {}).setdefault(one["at"], one)
    return marks


async def _know_users(connection: AsyncConnection, names: Names, found: _Found) -> None:
    users = chain.from_iterable(
        one["users"] or () for mine in found.samples.values() for one in mine.values()
    )
    texts = {user[name] or "" for user in users for name in ("user", "entry", "run")}
    await names.know(connection, {*texts, ""})


async def _compare(
    connection: AsyncConnection, names: Names, sealed: Mapping[datetime, bool], found: _Found
) -> None:
    """Find what is new in the samples against what was counted of the same five minutes."""
    again = [key for key in found.samples if not sealed[key[1]]]
    before = await sums.counted(connection, tables.GPUS, again)
    stretches = await _counted_stretches(connection, again)
    divided = _divided(names, found)
    for key, by_instant in found.samples.items():
        mine = mig.without_doubles(by_instant.values(), divided[key[1]])
        now = rollup.of_samples(mine)
        found.totals[key] = rollup.less(now, before[key]) if key in before else now
        for who, parts in use.stretches(mine).items():
            known = use.Who(
                names.number[str(who.user)], names.number[str(who.entry)], who.container
            )
            old = stretches.get(key, {}).get(known, [])
            found.used += [(key, known, new) for new in use.news(parts, old)]
            if not sealed[key[1]]:
                found.stretches += [
                    {"device": key[0], "start": key[1]} | known._asdict() | one for one in parts
                ]


async def _compare_hosts(
    connection: AsyncConnection, sealed: Mapping[datetime, bool], found: _Found
) -> None:
    """Find what is new of the hosts in the same way."""
    again = [key for key in found.hosts if not sealed[key[1]]]
    before = await sums.counted(connection, tables.HOSTS, again)
    for key, by_instant in found.hosts.items():
        now = rollup.of_samples(by_instant.values(), rollup.HOST)
        found.host_totals[key] = (
            rollup.less(now, before[key], rollup.HOST) if key in before else now
        )


def _divided(names: Names, found: _Found) -> dict[datetime, set[int]]:
    """Return which GPUs are in MIG mode, by five minutes."""
    devices: dict[datetime, set[int]] = {}
    for device, slot in found.samples:
        devices.setdefault(slot, set()).add(device)
    parents = names.parents
    return {slot: mig.divided(of_slot, parents) for slot, of_slot in devices.items()}


async def _counted_stretches(
    connection: AsyncConnection, keys: list[Key]
) -> dict[Key, dict[use.Who, list[Values]]]:
    """Return the stretches that were counted, and forget them: they are written anew."""
    found: dict[Key, dict[use.Who, list[Values]]] = {}
    if not keys:
        return found
    own = tables.stretch
    same = tuple_(own.c.start, own.c.device).in_([(start, device) for device, start in keys])
    for row in await connection.execute(select(own).where(same).order_by(own.c.begin)):
        who = use.Who(row.user, row.entry, row.container)
        found.setdefault((row.device, row.start), {}).setdefault(who, []).append(row._asdict())
    if found:
        await connection.execute(delete(own).where(same))
    return found


async def _add_use(connection: AsyncConnection, local: LocalTime, found: _Found) -> None:
    hours: dict[tuple[Any, ...], use.Totals] = {}
    days: dict[tuple[Any, ...], use.Totals] = {}
    for (device, slot), who, new in found.used:
        day = rollup.start_in(DAY, slot, local)
        for totals, key in (
            (hours, (rollup.start_in(HOUR, slot, local), who.user, who.entry)),
            (days, (day, device, who.user, who.entry)),
            (days, (day, tables.EVERY, who.user, who.entry)),
        ):
            totals[key] = use.added(totals[key], new) if key in totals else new
    for table, totals in ((tables.use_1h, hours), (tables.use_1d, days)):
        key_names = [column.name for column in table.primary_key]
        rows = [
            dict(zip(key_names, key, strict=True))
            | {name: one[name] for name in (*use.SUMS, *use.LIMITS)}
            for key, one in sorted(totals.items())
        ]
        await add(connection, table, rows)
    if found.stretches:
        insert = insert_into(connection.dialect.name, tables.stretch).on_conflict_do_nothing()
        await connection.execute(insert, found.stretches)


async def _see(connection: AsyncConnection, found: _Found) -> None:
    """Remember which GPUs were seen last when, and where they are in their node."""
    if not found.samples:
        return
    last = {device: max(mine.values(), key=_at) for (device, _), mine in found.samples.items()}
    own = tables.device
    await connection.execute(
        update(own)
        .where(own.c.id == bindparam("of_id"), own.c.last_at < bindparam("at"))
        .values(last_at=bindparam("at"), index=bindparam("place")),
        [
            {"of_id": device, "at": one["at"], "place": one["index"]}
            for device, one in sorted(last.items())
        ],
    )


def _at(sample: samples.Row) -> datetime:
    at: datetime = sample["at"]
    return at
