"""What is deleted when, in batches so small that nothing else waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Table,
    and_,
    delete,
    literal,
    select,
    tuple_,
    union_all,
)

from gleaner.bus.messages import EventKind
from services.recorder.schema.distinct import each_value
from services.recorder.schema.tables import (
    EVERY,
    dead_letter,
    device,
    event,
    gap,
    host_1h,
    host_5m,
    mention,
    name,
    run,
    sample_1h,
    sample_5m,
    sealed,
    stream,
    use_1h,
)

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

        Samples go by `sealed`.
        """
        events, hours = now - self.events, now - self.hours
        five_minutes = now - self.five_minutes
        return (
            # First: what is in a list is there.
            deletion_of_mentions(events),
            deletion(event, event.c.at < events),
            deletion(run, and_(run.c.is_final, run.c.at < events)),
            deletion(gap, gap.c.noticed_at < events),
            deletion(dead_letter, dead_letter.c.received_at < events),
            deletion(stream, stream.c.updated_at < events),
            *deletions_of_five_minutes(five_minutes),
            # A day goes when its last hour does.
            deletion(sample_1h, sample_1h.c.start < hours - timedelta(days=1)),
            deletion(host_1h, host_1h.c.start < hours - timedelta(days=1)),
            deletion(use_1h, use_1h.c.start < hours),
        )

    def sealed(self, now: datetime) -> datetime:
        """Return up to when samples go, and with that their five minutes are sealed."""
        return now - self.samples


def deletions_of_five_minutes(before: datetime) -> tuple[Delete, ...]:
    """Return the statements that delete sums of five minutes; each is repeated too."""
    return tuple(_deletion_of_five_minutes(table, before) for table in (sample_5m, host_5m))


def _deletion_of_five_minutes(table: Table, before: datetime) -> Delete:
    # By device or node, as the rows lie: nothing else knows where the old ones are.
    owner = table.c[0]
    known = select(name.c.id) if owner.name == "node" else select(device.c.id)
    owners = union_all(known, select(literal(EVERY))).subquery()
    old = and_(
        owner == owners.c.id,
        table.c.start < before,
        # Not while samples are there from which they would be made again.
        table.c.start < select(sealed.c.until).scalar_subquery(),
    )
    some = select(owner, table.c.start).select_from(owners.join(table, old)).limit(BATCH)
    return delete(table).where(tuple_(owner, table.c.start).in_(some))


def deletion_of_mentions(before: datetime) -> Delete:
    """Return the statement that deletes some of the mentions before an instant."""
    own = mention.c
    lists = each_value(own.about)
    key = (own.about, own.at, own.event)
    old = select(*key).join(lists, lists.c.about == own.about).where(own.at < before).limit(BATCH)
    return delete(mention).where(tuple_(*key).in_(old))


def deletion(table: Table, where: ColumnElement[bool]) -> Delete:
    """Return the statement that deletes some of the rows; it is repeated until it finds none."""
    # Neither SQLite as it is usually built nor PostgreSQL knows DELETE … LIMIT.
    key: tuple[Column[Any], ...] = tuple(table.primary_key)
    return delete(table).where(tuple_(*key).in_(select(*key).where(where).limit(BATCH)))
