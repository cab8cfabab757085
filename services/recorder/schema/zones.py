"""The time zones that counted since when, as the database remembers them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.schema import tables
from services.recorder.schema.upsert import insert_into
from services.recorder.values import rollup
from services.recorder.values.local_time import EPOCH, LocalTime
from services.recorder.values.rollup import FIVE_MINUTES

logger = logging.getLogger(__name__)


async def read_zones(connection: AsyncConnection, zone: str, name: str) -> LocalTime:
    """Return which time zones counted since when; from now on it is this one."""
    own = tables.time_zone
    found = await connection.execute(select(own).order_by(own.c.since))
    zones = [(row.since, row.name) for row in found]
    if not zones or zones[-1][1] != zone:
        since = rollup.start_of(datetime.now(UTC), FIVE_MINUTES.width) if zones else EPOCH
        if zones:
            logger.warning(
                "%s: hours, days and months are of %s from now on; what was summed before stays "
                "as it was counted, of %s",
                name,
                zone,
                zones[-1][1],
            )
        insert = insert_into(connection.dialect.name, own).values(since=since, name=zone)
        await connection.execute(
            insert.on_conflict_do_update(index_elements=["since"], set_={"name": zone})
        )
        zones = [*(one for one in zones if one[0] != since), (since, zone)]
    return LocalTime(zones=tuple(zones))
