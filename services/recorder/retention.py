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
            _delete(event, and_(event.c.kind == EventKind.SAMPLES.value, event.c.at < samples)),
            _delete(event, event.c.at < events),
            _delete(run, and_(run.c.is_final, run.c.at < events)),
            _delete(gap, gap.c.noticed_at < events),
            _delete(dead_letter, dead_letter.c.received_at < events),
            _delete(stream, stream.c.updated_at < events),
            _delete(use_1h, use_1h.c.start < hours),
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


def _delete(table: Table, where: ColumnElement[bool]) -> Delete:
    # Neither SQLite as it is usually built nor PostgreSQL knows DELETE … LIMIT.
    key: tuple[Column[Any], ...] = tuple(table.primary_key)
    return delete(table).where(tuple_(*key).in_(select(*key).where(where).limit(BATCH)))
