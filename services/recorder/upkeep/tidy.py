"""Delete what is too old, and when the database is too large what is oldest; give the room back."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Delete, Select, Table, func, select

from services.recorder.accounts import hour_rows
from services.recorder.schema import tables
from services.recorder.store import Store
from services.recorder.upkeep.limit import Kept, Limit, horizons
from services.recorder.upkeep.retention import (
    Retention,
    deletion,
    deletion_of_mentions,
    deletions_of_five_minutes,
)
from services.recorder.values.rollup import HOUR, start_of

logger = logging.getLogger(__name__)

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
PAUSE_SECONDS = 0.05
"""Between two small transactions, for the writer."""
_SHRINK = (
    tables.sample,
    tables.sample_5m,
    tables.host_5m,
    tables.stretch,
    tables.mention,
    tables.event,
)


class Tidying:
    """Keeps a database as small as its settings say."""

    def __init__(self, store: Store, retention: Retention, limit: Limit | None = None) -> None:
        self._store = store
        self._configured = retention
        self._limit = limit
        self._said: set[Kept | None] = set()
        self._gone: dict[Kept, datetime] = {}
        """Up to when it is gone."""
        self.shortened: dict[Kept, datetime] = {}
        """What went before its time, up to when."""
        self.used_bytes: int | None = None
        """When it was measured last."""

    @property
    def max_bytes(self) -> int | None:
        """How large it may be."""
        return self._limit.max_bytes if self._limit else None

    def retention(self, now: datetime) -> Retention:
        """Return how long what is really kept: shorter than configured for want of room."""
        kept, gone = self._configured, self._gone
        return replace(
            kept,
            samples=min(kept.samples, now - gone.get(Kept.SAMPLES, NEVER)),
            five_minutes=min(kept.five_minutes, now - gone.get(Kept.FIVE_MINUTES, NEVER)),
            events=min(kept.events, now - gone.get(Kept.EVENTS, NEVER)),
        )

    async def recall(self) -> None:
        """Find out what is gone already; a repeat must not count again."""
        ((until,),) = await self._store.read(select(func.max(tables.sealed.c.until)))
        if until is not None:
            self._gone[Kept.SAMPLES] = until
        fine = await self._oldest(Kept.FIVE_MINUTES)
        hour = await hour_rows.first(self._store.read)
        if fine is not None and hour is not None and hour < start_of(fine, HOUR.width):
            self._gone[Kept.FIVE_MINUTES] = fine

    async def tidy(self, now: datetime) -> None:
        """Delete what its time is over for, then for want of room; give room back."""
        await self._delete_old(now)
        if self._limit is not None:
            await self._keep_within(self._limit, now)
        while await self._store.give_back_some():  # noqa: ASYNC110 - not a poll
            await asyncio.sleep(PAUSE_SECONDS)
        await self.measure()

    async def measure(self) -> None:
        """Find out how large it is."""
        self.used_bytes = await self._store.used_bytes()

    async def _delete_old(self, now: datetime) -> None:
        await self._seal(self._configured.sealed(now))
        for statement in self._configured.deletions(now):
            await self._repeat(statement)

    async def _keep_within(self, limit: Limit, now: datetime) -> None:
        used = await self._store.used_bytes()
        if not limit.is_exceeded(used):
            return
        for kept in Kept:
            if limit.is_met(used):
                break
            before = used
            for horizon in horizons(kept, await self._oldest(kept), now):
                await self._delete(kept, horizon)
                self._gone[kept] = self.shortened[kept] = horizon
                await self._store.count_anew(_SHRINK)
                used = await self._store.used_bytes()
                if limit.is_met(used):
                    break
            if used < before:
                self._say_once(kept, limit, before)
            await self._store.reuse(_SHRINK)
        if limit.is_exceeded(used):
            self._say_that_it_stays(limit, used)

    def _say_once(self, kept: Kept, limit: Limit, used: int) -> None:
        if kept not in self._said:
            self._said.add(kept)
            logger.warning(
                "%s has %d bytes, database.max_bytes is %d: %s go before their time, "
                "for now those before %s",
                self._store.name,
                used,
                limit.max_bytes,
                kept,
                f"{self.shortened[kept]:%Y-%m-%d %H:%M} UTC",
            )

    def _say_that_it_stays(self, limit: Limit, used: int) -> None:
        if None not in self._said:
            self._said.add(None)
            logger.warning(
                "%s still has %d bytes, database.max_bytes is %d: the last day, hourly and daily "
                "sums, runs and sessions stay; allow for more",
                self._store.name,
                used,
                limit.max_bytes,
            )

    async def _delete(self, kept: Kept, horizon: datetime) -> None:
        match kept:
            case Kept.SAMPLES:
                await self._seal(horizon)
            case Kept.FIVE_MINUTES:
                for statement in deletions_of_five_minutes(horizon):
                    await self._repeat(statement)
            case Kept.EVENTS:
                await self._repeat(deletion_of_mentions(horizon))
                await self._repeat(deletion(tables.event, tables.event.c.at < horizon))

    async def _seal(self, before: datetime) -> None:
        while await self._store.seal(before):  # noqa: ASYNC110 - not a poll
            await asyncio.sleep(PAUSE_SECONDS)

    async def _repeat(self, statement: Delete) -> None:
        while await self._store.change(statement):  # noqa: ASYNC110 - not a poll
            await asyncio.sleep(PAUSE_SECONDS)

    async def _oldest(self, kept: Kept) -> datetime | None:
        match kept:
            case Kept.SAMPLES:
                question = select(func.min(tables.sample.c.slot))
            case Kept.FIVE_MINUTES:
                return await self._first(tables.sample_5m)
            case Kept.EVENTS:
                question = select(func.min(tables.event.c.at))
        return await self._instant(question)

    async def _first(self, rolled: Table) -> datetime | None:
        # The sum of all GPUs lies in the order of time.
        of_all = rolled.c.device == tables.EVERY
        return await self._instant(select(func.min(rolled.c.start)).where(of_all))

    async def _instant(self, question: Select[Any]) -> datetime | None:
        (row,) = await self._store.read(question)
        found: datetime | None = row[0]
        return found
