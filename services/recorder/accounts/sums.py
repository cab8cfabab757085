"""The roll-ups of one kind of thing in the database: what was counted, and what is added to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.accounts import adding, hour_rows
from services.recorder.schema import tables
from services.recorder.values import rollup
from services.recorder.values.local_time import LocalTime
from services.recorder.values.rollup import FIVE_MINUTES, HOUR, TIERS

Values = dict[str, Any]
Key = tuple[int, datetime]
"""A device or host, and when its bucket begins."""


async def counted(
    connection: AsyncConnection, own: tables.Rolled, keys: list[Key]
) -> dict[Key, Values]:
    """Return what was counted of some five minutes so far."""
    if not keys:
        return {}
    table = own.rows[FIVE_MINUTES]
    owner = own.owner(table)
    some = tuple_(owner, table.c.start).in_(keys)
    rows = await connection.execute(adding.totals_of(table).where(some))
    return {
        (values.pop(owner.name), row.start): values for row in rows if (values := row._asdict())
    }


async def add(
    connection: AsyncConnection, own: tables.Rolled, local: LocalTime, new: Mapping[Key, Values]
) -> None:
    """Add what is new in some five minutes to them, and to their hours, days and months."""
    for tier in TIERS:
        if tier is not HOUR and tier not in own.rows:
            continue
        parts: dict[Key, list[Values]] = {}
        for (owner, slot), totals in new.items():
            start = rollup.start_in(tier, slot, local)
            parts.setdefault((owner, start), []).append(totals)
            if own.has_sum_of_all:
                parts.setdefault((tables.EVERY, start), []).append(totals)
        sums = {key: rollup.of_totals(mine, own.kind) for key, mine in sorted(parts.items())}
        if tier is HOUR:
            await hour_rows.add(connection, own, sums.items())
            continue
        table = own.rows[tier]
        name = own.owner(table).name
        rows = [
            {name: owner, "start": start} | _stored(total, own.kind)
            for (owner, start), total in sums.items()
        ]
        await adding.add(connection, table, rows)


def _stored(totals: Values, kind: rollup.Kind) -> Values:
    """Return totals without what is the same as all seconds."""
    seconds = totals.pop("seconds")
    return totals | {name: None for name in kind.known if totals[name] == seconds}
