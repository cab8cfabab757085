"""Roll-ups and sessions in the database: made anew for the buckets that something came for.

A sample and the mark that its bucket is dirty are one transaction, and so are a bucket, its use,
its sessions and the end of the mark: a stop in between costs nothing and counts nothing twice.
A bucket is made from what is below it; when that is deleted by its age the bucket is sealed, and
what comes later is added to it and deleted with the same commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Subquery,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder import rollup, tables, use
from services.recorder.rollup import DAY, FIVE_MINUTES, HOUR, TIERS, Tier
from services.recorder.upsert import insert_into

BUCKETS = 50
"""Made in one transaction; the writer waits no longer."""
LATENESS = timedelta(seconds=90)
"""A minute's samples come at its end; a bucket that is not over yet would be made in vain."""

_Bucket = tuple[str, str, datetime]
_Values = dict[str, Any]
_TABLES = dict(zip(TIERS, tables.rolled, strict=True))
_BELOW = {FIVE_MINUTES: None, HOUR: FIVE_MINUTES, DAY: HOUR}
_USE = ((HOUR, tables.use_1h), (DAY, tables.use_1d))


async def mark(connection: AsyncConnection, samples: Iterable[_Values]) -> None:
    """Remember which buckets samples fall into, in the transaction that writes them."""
    width = FIVE_MINUTES.width
    buckets = {(one["node"], one["gpu"], rollup.bucket_of(one["at"], width)) for one in samples}
    await _mark(connection, FIVE_MINUTES, buckets)


async def roll_up(connection: AsyncConnection, tier: Tier, now: datetime) -> int:
    """Make some dirty buckets of a tier anew, the oldest first; return how many."""
    dirty, table = tables.dirty, _TABLES[tier]
    until = now - LATENESS - (tier.width if tier is FIVE_MINUTES else timedelta())
    marked = (
        select(dirty.c.node, dirty.c.gpu, dirty.c.start)
        .where(dirty.c.tier == tier.name, dirty.c.start <= until)
        .order_by(dirty.c.start, dirty.c.node, dirty.c.gpu)
        .limit(BUCKETS)
    )
    buckets: list[_Bucket] = [
        (one.node, one.gpu, one.start) for one in await connection.execute(marked)
    ]
    if not buckets:
        return 0
    chosen = marked.subquery("chosen")
    known = {_bucket(one): one for one in await connection.execute(_own(table, chosen))}
    sealed = {bucket for bucket, one in known.items() if one.is_sealed}
    if sealed:
        sealed -= await _unsettled(connection, chosen, tier)
        buckets = [one for one in buckets if one in sealed or not _is_sealed(known.get(one))]
    below: dict[_Bucket, list[_Values]] = {bucket: [] for bucket in buckets}
    for one in await connection.execute(_parts(tier, chosen)):
        if (bucket := (one.node, one.gpu, one.bucket)) in below:
            below[bucket].append(one._asdict())

    if tier is FIVE_MINUTES:
        made = {bucket: rollup.of_samples(parts) for bucket, parts in below.items()}
        await _count_use(connection, chosen, below, sealed)
    else:
        made = {bucket: rollup.of_totals(parts) for bucket, parts in below.items()}
    for bucket in sealed:
        made[bucket] = rollup.of_totals([known[bucket]._asdict(), made[bucket]])
    await _replace(connection, table, made, sealed)
    await _consume(connection, tier, sealed)
    if not buckets:
        return 0
    await connection.execute(
        delete(dirty).where(dirty.c.tier == tier.name, *_is_bound(dirty)),
        [_bound(bucket) for bucket in buckets],
    )
    if tier is not DAY:
        above = HOUR if tier is FIVE_MINUTES else DAY
        larger = {(node, gpu, rollup.start_of(at, above.width)) for node, gpu, at in buckets}
        await _mark(connection, above, larger)
    return len(buckets)


async def seal(connection: AsyncConnection, tier: Tier, before: datetime) -> int:
    """Delete what some old buckets of a tier were made of, and seal them; return how many."""
    table, lower = _TABLES[tier], _BELOW[tier]
    own = table.c
    wanted = [
        ~own.is_sealed,
        own.start <= before - tier.width,
        ~exists().where(_dirty_within(own, tier)),
    ]
    if lower is not None:
        part = _TABLES[lower].c
        wanted.append(
            ~exists().where(
                part.node == own.node,
                part.gpu == own.gpu,
                part.start >= own.start,
                _number(part.start) < _number(own.start) + _microseconds(tier),
                ~part.is_sealed,
            )
        )
    found = await connection.execute(
        select(own.node, own.gpu, own.start).where(*wanted).order_by(own.start).limit(BUCKETS)
    )
    buckets = {_bucket(one) for one in found}
    await _consume(connection, tier, buckets)
    if buckets:
        await connection.execute(
            update(table).where(*_is_bound(table)).values(is_sealed=True),
            [_bound(bucket) for bucket in buckets],
        )
    return len(buckets)


async def _mark(connection: AsyncConnection, tier: Tier, buckets: Iterable[_Bucket]) -> None:
    values = [
        {"tier": tier.name, "node": node, "gpu": gpu, "start": start}
        for node, gpu, start in sorted(buckets)
    ]
    if values:
        statement = insert_into(connection.dialect.name, tables.dirty).on_conflict_do_nothing()
        await connection.execute(statement, values)


def _parts(tier: Tier, chosen: Subquery) -> Any:
    """Return the SELECT of everything below the chosen buckets, each with its `bucket`."""
    lower = _BELOW[tier]
    end = _number(chosen.c.start) + _microseconds(tier)
    if lower is None:
        part = tables.gpu_sample
        within = and_(part.c.at > chosen.c.start, _number(part.c.at) <= end)
    else:
        part = _TABLES[lower]
        within = and_(part.c.start >= chosen.c.start, _number(part.c.start) < end)
    same = and_(part.c.node == chosen.c.node, part.c.gpu == chosen.c.gpu, within)
    return select(part, chosen.c.start.label("bucket")).select_from(chosen.join(part, same))


def _own(table: Table, chosen: Subquery) -> Any:
    key = (table.c.node, table.c.gpu, table.c.start)
    same = tuple_(*key) == tuple_(chosen.c.node, chosen.c.gpu, chosen.c.start)
    if table is not tables.stretch:
        return select(table).select_from(chosen.join(table, same))
    return select(table).select_from(chosen.join(table, same)).order_by(table.c.begin)


async def _unsettled(connection: AsyncConnection, chosen: Subquery, tier: Tier) -> set[_Bucket]:
    """Return the chosen buckets below which something is dirty still: their turn comes later."""
    if tier is FIVE_MINUTES:
        return set()
    below = and_(_dirty_within(chosen.c, tier), tables.dirty.c.tier != tier.name)
    if tier is HOUR:
        below = and_(below, tables.dirty.c.tier != DAY.name)
    found = await connection.execute(
        select(chosen.c.node, chosen.c.gpu, chosen.c.start).where(exists().where(below))
    )
    return {_bucket(one) for one in found}


def _dirty_within(own: Any, tier: Tier) -> ColumnElement[bool]:
    dirty = tables.dirty.c
    return and_(
        dirty.node == own.node,
        dirty.gpu == own.gpu,
        dirty.start >= own.start,
        _number(dirty.start) < _number(own.start) + _microseconds(tier),
    )


async def _replace(
    connection: AsyncConnection,
    table: Table,
    made: dict[_Bucket, rollup.Totals],
    sealed: set[_Bucket],
) -> None:
    values = [
        {"node": node, "gpu": gpu, "start": start, "is_sealed": (node, gpu, start) in sealed}
        | totals
        for (node, gpu, start), totals in made.items()
        if totals["samples"]
    ]
    if not values:
        return
    statement = insert_into(connection.dialect.name, table)
    key = ("node", "gpu", "start")
    changed = {
        column.name: statement.excluded[column.name] for column in table.c if column.name not in key
    }
    await connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_=changed), values
    )


async def _consume(connection: AsyncConnection, tier: Tier, buckets: Iterable[_Bucket]) -> None:
    """Delete everything that buckets were made of, down to the samples."""
    spans = [_bound(bucket) | {"of_end": bucket[2] + tier.width} for bucket in buckets]
    if not spans:
        return
    at = tables.gpu_sample.c.at
    raw = and_(at > bindparam("of_start"), at <= bindparam("of_end"))
    doomed: list[tuple[Table, ColumnElement[bool]]] = [(tables.gpu_sample, raw)]
    lower = _BELOW[tier]
    while lower is not None:
        doomed.append((_TABLES[lower], _starts_within(_TABLES[lower])))
        lower = _BELOW[lower]
    if tier is not FIVE_MINUTES:
        doomed.append((tables.stretch, _starts_within(tables.stretch)))
    for table, within in doomed:
        same = (table.c.node == bindparam("of_node"), table.c.gpu == bindparam("of_gpu"))
        await connection.execute(delete(table).where(*same, within), spans)


def _starts_within(table: Table) -> ColumnElement[bool]:
    start = table.c.start
    return and_(start >= bindparam("of_start"), start < bindparam("of_end"))


async def _count_use(
    connection: AsyncConnection,
    chosen: Subquery,
    samples: dict[_Bucket, list[_Values]],
    sealed: set[_Bucket],
) -> None:
    """Count what is new of each one's use, in sessions and by hour and day."""
    counted: dict[_Bucket, dict[use.Who, list[_Values]]] = {}
    for one in await connection.execute(_own(tables.stretch, chosen)):
        # Of a sealed bucket only what came since is in its samples.
        if (bucket := _bucket(one)) in samples and bucket not in sealed:
            counted.setdefault(bucket, {}).setdefault(_who(one), []).append(one._asdict())
    found: list[tuple[_Bucket, use.Who, use.Totals]] = []
    rows: list[_Values] = []
    for bucket, parts in samples.items():
        for who, stretches in use.stretches(parts).items():
            before = counted.get(bucket, {}).get(who, [])
            found += [(bucket, who, new) for new in use.news(stretches, before)]
            rows += [_key(bucket) | who._asdict() | one for one in stretches]
    replaced = [bucket for bucket in counted if bucket not in sealed]
    if replaced:
        await connection.execute(
            delete(tables.stretch).where(*_is_bound(tables.stretch)), list(map(_bound, replaced))
        )
    if rows:
        statement = insert_into(connection.dialect.name, tables.stretch).on_conflict_do_nothing()
        await connection.execute(statement, rows)
    await _add_to_use(connection, found)
    await _add_to_sessions(connection, found)


async def _add_to_use(
    connection: AsyncConnection, found: list[tuple[_Bucket, use.Who, use.Totals]]
) -> None:
    for tier, table in _USE:
        sums: dict[tuple[_Bucket, use.Who], use.Totals] = {}
        for (node, gpu, at), who, new in found:
            key = ((node, gpu, rollup.start_of(at, tier.width)), who)
            sums[key] = use.added(sums[key], new) if key in sums else new
        values = [
            _key(bucket) | who._asdict() | {name: one[name] for name in (*use.SUMS, *use.LIMITS)}
            for (bucket, who), one in sums.items()
        ]
        if not values:
            continue
        statement = insert_into(connection.dialect.name, table)
        old, new_ = table.c, statement.excluded
        changed: dict[str, Any] = {name: old[name] + new_[name] for name in use.SUMS}
        for name in use.LIMITS:
            larger = or_(old[name].is_(None), new_[name] > old[name])
            changed[name] = case((larger, new_[name]), else_=old[name])
        key_columns = ("node", "gpu", "start", *use.Who._fields)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=key_columns, set_=changed), values
        )


async def _add_to_sessions(
    connection: AsyncConnection, found: list[tuple[_Bucket, use.Who, use.Totals]]
) -> None:
    """Lengthen the sessions that new use touches, join those it connects, begin the others."""
    session = tables.session
    joint: dict[tuple[str, str, use.Who], list[use.Totals]] = {}
    for (node, gpu, _), who, new in sorted(found, key=lambda one: one[2]["begin"]):
        mine = joint.setdefault((node, gpu, who), [])
        if mine and not use.is_gap(mine[-1], new):
            mine[-1] = use.together(mine[-1], new)
        else:
            mine.append(new)
    for node, gpu, who, new in ((*key, one) for key, mine in joint.items() for one in mine):
        slack = timedelta(seconds=use.GAP_INTERVALS * new["interval"])
        near = await connection.execute(
            select(session)
            .where(
                session.c.node == node,
                session.c.gpu == gpu,
                session.c.end >= new["begin"] - slack,
                session.c.begin <= new["end"] + slack,
                *(session.c[name] == value for name, value in who._asdict().items()),
            )
            .order_by(session.c.id)
        )
        touched = [one for one in near if not use.is_gap(one._asdict(), new)]
        total = new
        for one in touched:
            total = use.together(total, one._asdict())
        values = {name: total[name] for name in ("begin", "end", "interval")} | {
            name: total[name] for name in (*use.SUMS, *use.LIMITS)
        }
        if not touched:
            where = {"node": node, "gpu": gpu} | who._asdict()
            await connection.execute(session.insert().values(where | values))
            continue
        kept, *joined = (one.id for one in touched)
        await connection.execute(update(session).where(session.c.id == kept).values(values))
        if joined:
            await connection.execute(delete(session).where(session.c.id.in_(joined)))


def _bucket(row: Any) -> _Bucket:
    return row.node, row.gpu, row.start


def _key(bucket: _Bucket) -> _Values:
    return dict(zip(("node", "gpu", "start"), bucket, strict=True))


def _bound(bucket: _Bucket) -> _Values:
    return dict(zip(("of_node", "of_gpu", "of_start"), bucket, strict=True))


def _is_bound(table: Table) -> tuple[ColumnElement[bool], ...]:
    return tuple(table.c[name] == bindparam(f"of_{name}") for name in ("node", "gpu", "start"))


def _who(row: Row[Any]) -> use.Who:
    return use.Who(row.user, row.entry, row.container)


def _is_sealed(row: Row[Any] | None) -> bool:
    return row is not None and bool(row.is_sealed)


def _number(column: Any) -> Any:
    return type_coerce(column, BigInteger)


def _microseconds(tier: Tier) -> int:
    return tier.width // timedelta(microseconds=1)
