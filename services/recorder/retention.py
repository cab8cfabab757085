"""What is deleted when, in batches so small that nothing else waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Delete, Table, and_, delete, select, tuple_

from gleaner.bus.messages import EventKind
from services.recorder.rollup import DAY, FIVE_MINUTES, HOUR, Tier
from services.recorder.tables import dead_letter, event, gap, run, stream, use_1h

BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long what is kept."""

    samples: timedelta
    events: timedelta
    five_minutes: timedelta = timedelta(days=14)
    hours: timedelta = timedelta(days=731)

    def horizon(self, kind: str, now: datetime) -> datetime:
        """Return the instant before which an event of a kind is no longer kept."""
        return now - (self.samples if kind == EventKind.SAMPLES else self.events)

    def deletions(self, now: datetime) -> tuple[Delete, ...]:
        """Return one statement per table; each is repeated until it finds nothing.

        Samples and roll-ups go by `seals`.
        """
        samples, events, hours = now - self.samples, now - self.events, now - self.hours
        return (
            deletion(event, and_(event.c.kind == EventKind.SAMPLES.value, event.c.at < samples)),
            deletion(event, event.c.at < events),
            deletion(run, and_(run.c.is_final, run.c.at < events)),
            deletion(gap, gap.c.noticed_at < events),
            deletion(dead_letter, dead_letter.c.received_at < events),
            deletion(stream, stream.c.updated_at < events),
            deletion(use_1h, use_1h.c.start < hours),
        )

    def seals(self, now: datetime) -> tuple[tuple[Tier, datetime], ...]:
        """Return up to when each tier is sealed: what it was made of is deleted with that.

        From the finest: only buckets that are sealed themselves are deleted from above.
        """
        return (
            (FIVE_MINUTES, now - self.samples),
            (HOUR, now - self.five_minutes),
            (DAY, now - self.hours),
        )


def deletion(table: Table, where: ColumnElement[bool]) -> Delete:
    """Return the statement that deletes some of the rows; it is repeated until it finds none."""
    # Neither SQLite as it is usually built nor PostgreSQL knows DELETE … LIMIT.
    key: tuple[Column[Any], ...] = tuple(table.primary_key)
    return delete(table).where(tuple_(*key).in_(select(*key).where(where).limit(BATCH)))
