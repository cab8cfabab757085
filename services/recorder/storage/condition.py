"""What is in the database since when, and what never came to it; for `recorder/state`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Float, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.schema import tables

LOST = "lost before it was recorded"
"""The reason of a gap of events that no node has any more."""
ASIDE = "recorded in the database that was kept aside"
"""The reason of a gap at the beginning of a stream that a database before this one heard."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How things are; None and empty before somebody looked."""

    oldest: Mapping[str, datetime] = field(default_factory=dict)
    lost_events: int | None = None
    unreadable_messages: int | None = None


async def look(connection: AsyncConnection) -> Condition:
    """Look at the ends of indexes and at small tables."""

    async def one(value: Any, *where: Any) -> Any:
        return (await connection.execute(select(value).where(*where))).scalar()

    rolled = {
        "five_minutes": tables.sample_5m,
        "hours": tables.sample_1h,  # to the day
        "days": tables.sample_1d,
    }
    oldest = {
        "samples": await one(func.min(tables.sample.c.slot)),
        # The sum of all GPUs lies in the order of time.
        **{
            name: await one(func.min(table.c.start), table.c.device == tables.EVERY)
            for name, table in rolled.items()
        },
        "events": await one(func.min(tables.event.c.at)),
        "sessions": await one(func.min(tables.session.c.begin)),
    }
    gap = tables.gap.c
    # Whole numbers would overflow, and an error each minute tell nothing any more.
    lost = await one(func.sum(cast(gap.last - gap.first + 1, Float)), gap.reason == LOST)
    return Condition(
        oldest={name: at for name, at in oldest.items() if at is not None},
        lost_events=int(lost or 0),
        unreadable_messages=await one(func.count(tables.dead_letter.c.id)),
    )
