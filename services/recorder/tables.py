"""The tables, in SQL that SQLite and PostgreSQL both understand.

Every row has a key that comes from its node, so that a repeated event cannot count twice.
Instants are whole microseconds since 1970 in UTC: exact, small, and the same in both databases.
`migrations/` makes them; a test keeps the two alike.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from services.recorder import rollup, use

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def to_microseconds(at: datetime) -> int:
    """Return an instant as it is stored."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(number: int) -> datetime:
    """Return a stored instant."""
    return _EPOCH + number * _MICROSECOND


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else from_microseconds(value)


# SQLite numbers rows by itself only for the type INTEGER, which is 64 bits wide there.
_RowId = BigInteger().with_variant(Integer, "sqlite")

stream = Table(
    "stream",
    metadata,
    Column("node", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("updated_at", Instant, nullable=False),
    PrimaryKeyConstraint("node", "stream"),
)

event = Table(
    "event",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("gpu", Text),
    Column("at", Instant, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("data", Text, nullable=False),
    UniqueConstraint("node", "stream", "sequence"),
    Index(None, "at", "id"),
    Index(None, "node", "at", "id"),
    Index(None, "kind", "at", "id"),
)

run = Table(
    "run",
    metadata,
    Column("node", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("at", Instant, nullable=False),
    Column("entry", Text, nullable=False),
    Column("gpus", Text, nullable=False),
    Column("user", Text),
    Column("state", Text, nullable=False),
    Column("is_final", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("cause_kind", Text),
    Column("cause_text", Text),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    Column("noticed_to_term_seconds", Double),
    Column("term_to_exit_seconds", Double),
    Column("exit_to_clear_seconds", Double),
    Column("noticed_to_clear_seconds", Double),
    Column("simulated", Boolean, nullable=False),
    PrimaryKeyConstraint("node", "run"),
    Index(None, "first_at", "node", "run"),
)

gpu_sample = Table(
    "gpu_sample",
    metadata,
    Column("node", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("utilization_percent", Double),
    Column("memory_utilization_percent", Double),
    Column("memory_used_bytes", BigInteger),
    Column("temperature_celsius", Double),
    Column("power_watts", Double),
    Column("energy_joules", Double),
    Column("sm_clock_mhz", Double),
    Column("fan_percent", Double),
    Column("energy_used_joules", Double),
    Column("users", Text),
    PrimaryKeyConstraint("node", "gpu", "at"),
    Index(None, "at", "node", "gpu"),
    sqlite_with_rowid=False,
)

gap = Table(
    "gap",
    metadata,
    Column("node", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noticed_at", Instant, nullable=False),
    PrimaryKeyConstraint("node", "stream", "first"),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("payload_bytes", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
)


def _rolled(tier: rollup.Tier) -> Table:
    gauges = (
        Column(f"{gauge}_{what}", Double, nullable=what in ("min", "max"))
        for gauge in rollup.GAUGES
        for what in ("sum", "seconds", "min", "max")
    )
    return Table(
        f"sample_{tier.name}",
        metadata,
        Column("node", Text, nullable=False),
        Column("gpu", Text, nullable=False),
        Column("start", Instant, nullable=False),
        # What it was made of is deleted: what comes now is added to it.
        Column("is_sealed", Boolean, nullable=False),
        Column("samples", BigInteger, nullable=False),
        Column("seconds", Double, nullable=False),
        *(Column(f"{state}_seconds", Double, nullable=False) for state in rollup.STATES),
        Column("energy_joules", Double, nullable=False),
        Column("energy_seconds", Double, nullable=False),
        *gauges,
        PrimaryKeyConstraint("node", "gpu", "start"),
        Index(None, "is_sealed", "start"),
        sqlite_with_rowid=False,
    )


def _who() -> tuple[Column[str], ...]:
    return tuple(Column(name, Text, nullable=False) for name in use.Who._fields)


def _used() -> tuple[Column[float], ...]:
    return (
        *(Column(name, Double, nullable=False) for name in use.SUMS),
        *(Column(name, Double) for name in use.LIMITS),
    )


def _use(tier: rollup.Tier) -> Table:
    return Table(
        f"use_{tier.name}",
        metadata,
        Column("node", Text, nullable=False),
        Column("gpu", Text, nullable=False),
        Column("start", Instant, nullable=False),
        *_who(),
        *_used(),
        PrimaryKeyConstraint("node", "gpu", "start", *use.Who._fields),
        Index(None, "start"),
        sqlite_with_rowid=False,
    )


sample_5m, sample_1h, sample_1d = rolled = tuple(map(_rolled, rollup.TIERS))
use_1h, use_1d = _use(rollup.HOUR), _use(rollup.DAY)

dirty = Table(
    "dirty",
    metadata,
    Column("tier", Text, nullable=False),
    Column("start", Instant, nullable=False),
    Column("node", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    PrimaryKeyConstraint("tier", "start", "node", "gpu"),
    Index(None, "node", "gpu", "start"),
    sqlite_with_rowid=False,
)

# The stretches that were counted of each five minutes, so that none is counted twice.
stretch = Table(
    "stretch",
    metadata,
    Column("node", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("start", Instant, nullable=False),
    *_who(),
    Column("begin", Instant, nullable=False),
    Column("end", Instant, nullable=False),
    Column("interval", Double, nullable=False),
    *_used(),
    PrimaryKeyConstraint("node", "gpu", "start", *use.Who._fields, "begin"),
    sqlite_with_rowid=False,
)

session = Table(
    "session",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    *_who(),
    Column("begin", Instant, nullable=False),
    Column("end", Instant, nullable=False),
    Column("interval", Double, nullable=False),
    *_used(),
    Index(None, "node", "gpu", "end"),
    Index(None, "begin", "id"),
    Index(None, "user", "begin", "id"),
)
