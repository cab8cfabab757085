"""What is deleted when, in batches so small that nothing else waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Delete, Table, and_, delete, select, tuple_

from gleaner.bus.messages import EventKind
from services.recorder.tables import dead_letter, event, gap, gpu_sample, run, stream

BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long what is kept."""

    samples: timedelta
    events: timedelta

    def horizon(self, kind: str, now: datetime) -> datetime:
        """Return the instant before which an event of a kind is no longer kept."""
        return now - (self.samples if kind == EventKind.SAMPLES else self.events)

    def deletions(self, now: datetime) -> tuple[Delete, ...]:
        """Return one statement per table; each is repeated until it finds nothing."""
        samples, events = now - self.samples, now - self.events
        return (
            _delete(gpu_sample, gpu_sample.c.at < samples),
            _delete(event, and_(event.c.kind == EventKind.SAMPLES.value, event.c.at < samples)),
            _delete(event, event.c.at < events),
            _delete(run, and_(run.c.is_final, run.c.at < events)),
            _delete(gap, gap.c.noticed_at < events),
            _delete(dead_letter, dead_letter.c.received_at < events),
            _delete(stream, stream.c.updated_at < events),
        )


def _delete(table: Table, where: ColumnElement[bool]) -> Delete:
    # Neither SQLite as it is usually built nor PostgreSQL knows DELETE … LIMIT.
    key: tuple[Column[Any], ...] = tuple(table.primary_key)
    return delete(table).where(tuple_(*key).in_(select(*key).where(where).limit(BATCH)))
