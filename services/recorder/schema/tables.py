"""The tables, in SQL that SQLite and PostgreSQL both understand.

Every row has a key that comes from its node, so that a repeated event cannot count twice. What
there are many rows of has numbers where a name would be long: `name` and `device` say whose they
are, `named` puts the names back. `columns` says how values are stored. `migrations/` makes the
tables; a test keeps the two alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
    type_coerce,
)

from services.recorder.values import hours, rollup, use
from services.recorder.values.columns import (
    Fixed,
    Instant,
    Packed,
    Slot,
    from_microseconds,
    to_microseconds,
)
from services.recorder.values.units import parts_of

__all__ = ["from_microseconds", "named", "seconds_of", "to_microseconds"]

MICROSECONDS = 1_000_000
EVERY = 0
"""The number of no device: rows of it are the sum of all."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for the type INTEGER, which is 64 bits wide there.
_RowId = BigInteger().with_variant(Integer, "sqlite")

# Nodes, users, entries, boots, models: whatever has a name and many rows.
name = Table(
    "name",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("text", Text, nullable=False),
    UniqueConstraint("text"),
)

device = Table(
    "device",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("node", BigInteger, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("index", BigInteger),
    # As the inventory says; NULL until one was heard.
    Column("model", BigInteger),
    Column("parent", Text),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    UniqueConstraint("node", "gpu"),
)

stream = Table(
    "stream",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("node", BigInteger, nullable=False),
    Column("stream", Text, nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("node", "stream"),
)

event = Table(
    "event",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("node", BigInteger, nullable=False),
    Column("stream", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("device", BigInteger),
    Column("at", Instant, nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("data", Packed, nullable=False),
    UniqueConstraint("stream", "sequence"),
    Index(None, "at", "id"),
)

# The events that are about something, in the order of time; see `mentions`.
mention = Table(
    "mention",
    metadata,
    Column("about", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("event", BigInteger, nullable=False),
    # Of every event, so that to ask for both takes one list.
    Column("what", BigInteger, nullable=False),
    # In the list of its node.
    Column("device", BigInteger),
    PrimaryKeyConstraint("about", "at", "event"),
    sqlite_with_rowid=False,
)

# From which event on all are in `mention`, while older ones still have to be taken in; else none.
# Of those just before they are in up to the next one.
mentioned = Table(
    "mentioned",
    metadata,
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("next", BigInteger, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("node", BigInteger, nullable=False),
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
    *(
        Column(f"{stage}_seconds", Fixed(MICROSECONDS))
        for stage in ("noticed_to_term", "term_to_exit", "exit_to_clear", "noticed_to_clear")
    ),
    Column("simulated", Boolean, nullable=False),
    PrimaryKeyConstraint("node", "run"),
)
# What runs are asked for by: only those that fit need to be looked at.
Index("ix_run_asked", run.c.first_at, run.c.node, run.c.run, run.c.state, run.c.entry, run.c.user)
_is_evicted = run.c.noticed_to_term_seconds.is_not(None)
# All that is asked of evictions: their runs need not be looked at.
Index(
    "ix_run_evicted",
    run.c.ended_at,
    run.c.node,
    run.c.noticed_to_term_seconds,
    run.c.term_to_exit_seconds,
    run.c.exit_to_clear_seconds,
    sqlite_where=_is_evicted,
    postgresql_where=_is_evicted,
)

# What one event says of one node and its GPUs in one five minutes; see `samples`.
sample = Table(
    "sample",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("slot", Slot, nullable=False),
    Column("node", BigInteger, nullable=False),
    Column("stream", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("data", Packed, nullable=False),
    UniqueConstraint("slot", "node", "stream", "sequence"),
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

# Since when which time zone counts.
time_zone = Table(
    "time_zone",
    metadata,
    Column("since", Instant, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)

# Up to when samples were deleted by their age: what comes now for that time is added.
sealed = Table(
    "sealed",
    metadata,
    Column("until", Slot, primary_key=True, autoincrement=False),
)

# The five minutes of a node that something came for.
dirty = Table(
    "dirty",
    metadata,
    Column("slot", Slot, nullable=False),
    Column("node", BigInteger, nullable=False),
    PrimaryKeyConstraint("slot", "node"),
    sqlite_with_rowid=False,
)


def _sum(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Fixed(parts_of(name)), nullable=nullable)


def _by_time(*owner: str) -> tuple[PrimaryKeyConstraint, Index]:
    """Return a key with which the sums of one day lie together, and what finds those of one.

    By owner and then by time a page would be written for each of them all the time.
    """
    return PrimaryKeyConstraint("start", *owner), Index(None, owner[0], "start")


def _rolled(name: str, owner: str, kind: rollup.Kind, *, is_by_time: bool = True) -> Table:
    gauges = (
        # The seconds are NULL where they are all the seconds of the row.
        _sum(f"{gauge}_{what}", nullable=what != "sum")
        for gauge in kind.gauges
        for what in ("sum", "seconds", "min", "max")
    )
    energy = (_sum("energy_joules"), _sum("energy_seconds", nullable=True))
    return Table(
        name,
        metadata,
        Column(owner, BigInteger, nullable=False),
        Column("start", Slot, nullable=False),
        Column("samples", BigInteger, nullable=False),
        # Each sample has one state: its seconds are the sum of these.
        *(_sum(f"{state}_seconds") for state in kind.states),
        *(energy if kind.has_energy else ()),
        *gauges,
        *(_by_time(owner) if is_by_time else (PrimaryKeyConstraint(owner, "start"),)),
        sqlite_with_rowid=False,
        info={"kind": kind},
    )


def kind_of(table: Table) -> rollup.Kind | None:
    """Return what a table sums up; None if it is no roll-up."""
    kind: rollup.Kind | None = table.info.get("kind")
    return kind


def _hours(name: str, owner: str) -> Table:
    """The hours that begin on one day of UTC; see `hours`."""
    return Table(
        name,
        metadata,
        Column(owner, BigInteger, nullable=False),
        Column("start", Slot, nullable=False),
        Column("data", LargeBinary, nullable=False),
        *_by_time(owner),
        sqlite_with_rowid=False,
    )


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """Where all roll-ups of one kind of thing are."""

    kind: rollup.Kind
    columns: hours.Columns
    rows: Mapping[rollup.Tier, Table]
    hours: Table
    has_sum_of_all: bool
    """As those of EVERY."""

    def owner(self, table: Table) -> Column[int]:
        """Return whose a row is."""
        column: Column[int] = table.c[0]
        return column


def _used() -> tuple[Column[float], ...]:
    return (
        *(_sum(name) for name in use.SUMS),
        *(_sum(name, nullable=True) for name in use.LIMITS),
    )


def _who() -> tuple[Column[Any], ...]:
    return (
        Column("user", BigInteger, nullable=False),
        Column("entry", BigInteger, nullable=False),
    )


# A series of a week is read from these, of one GPU or node: they lie together.
sample_5m = _rolled("sample_5m", "device", rollup.GPU, is_by_time=False)
sample_1h = _hours("sample_1h", "device")
sample_1d = _rolled("sample_1d", "device", rollup.GPU)
sample_1mo = _rolled("sample_1mo", "device", rollup.GPU)
host_5m = _rolled("host_5m", "node", rollup.HOST, is_by_time=False)
host_1h = _hours("host_1h", "node")
host_1d = _rolled("host_1d", "node", rollup.HOST)

GPUS = Rolled(
    kind=rollup.GPU,
    columns=hours.OF_GPU,
    rows={rollup.FIVE_MINUTES: sample_5m, rollup.DAY: sample_1d, rollup.MONTH: sample_1mo},
    hours=sample_1h,
    has_sum_of_all=True,
)
HOSTS = Rolled(
    kind=rollup.HOST,
    columns=hours.OF_HOST,
    rows={rollup.FIVE_MINUTES: host_5m, rollup.DAY: host_1d},
    hours=host_1h,
    has_sum_of_all=False,
)

# Who used what, all GPUs together.
use_1h = Table(
    "use_1h",
    metadata,
    Column("start", Slot, nullable=False),
    *_who(),
    *_used(),
    PrimaryKeyConstraint("start", "user", "entry"),
    Index(None, "user", "start"),
    sqlite_with_rowid=False,
)

use_1d = Table(
    "use_1d",
    metadata,
    Column("device", BigInteger, nullable=False),
    Column("start", Slot, nullable=False),
    *_who(),
    *_used(),
    *_by_time("device", "user", "entry"),
    Index(None, "user", "start"),
    sqlite_with_rowid=False,
)

# The stretches that were counted of each five minutes, so that none is counted twice.
stretch = Table(
    "stretch",
    metadata,
    Column("start", Slot, nullable=False),
    Column("device", BigInteger, nullable=False),
    *_who(),
    Column("container", Text, nullable=False),
    Column("begin", Instant, nullable=False),
    Column("end", Instant, nullable=False),
    _sum("interval"),
    *_used(),
    PrimaryKeyConstraint("start", "device", "user", "entry", "container", "begin"),
    sqlite_with_rowid=False,
)

session = Table(
    "session",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("device", BigInteger, nullable=False),
    *_who(),
    Column("container", Text, nullable=False),
    Column("begin", Instant, nullable=False),
    Column("end", Instant, nullable=False),
    _sum("interval"),
    *_used(),
    # With the other end of a session too: what lies outside a span need not be looked at.
    Index(None, "device", "end", "begin"),
    Index(None, "begin", "id"),
    Index(None, "user", "begin", "id", "end"),
)


def seconds_of(table: Table, name: str = "seconds") -> Any:
    """Return the seconds of a row of a roll-up, or those that a gauge was known for."""
    kind = kind_of(table)
    assert kind is not None
    first, *others = (table.c[f"{state}_seconds"] for state in kind.states)
    total: Any = sum(others, start=first)
    if name != "seconds":
        total = func.coalesce(table.c[name], total)
    return type_coerce(total, Fixed(parts_of(name)))


def named(table: Table) -> Select[Any]:
    """Return the SELECT of a table with names in place of numbers."""
    source: Any = table
    columns: list[Any] = []
    is_rolled = kind_of(table) is not None
    for column in table.c:
        match column.name:
            case "device":
                own, of_node = device.alias(), name.alias()
                source = source.outerjoin(own, own.c.id == column)
                if "node" not in table.c:
                    source = source.outerjoin(of_node, of_node.c.id == own.c.node)
                    columns.append(of_node.c.text.label("node"))
                columns.append(own.c.gpu.label("gpu"))
            case "stream" if table in (event, sample):
                own = stream.alias()
                source = source.outerjoin(own, own.c.id == column)
                columns.append(own.c.stream.label("stream"))
            case "node" | "user" | "entry" | "boot" | "model" if isinstance(
                column.type, BigInteger
            ):
                own = name.alias()
                source = source.outerjoin(own, own.c.id == column)
                columns.append(
                    own.c.text.label("boot_id" if column.name == "boot" else column.name)
                )
            case str(text) if is_rolled and text.endswith("_seconds") and column.nullable:
                columns.append(seconds_of(table, text).label(text))
            case _:
                columns.append(column)
    if is_rolled:
        columns.append(seconds_of(table).label("seconds"))
    return select(*columns).select_from(source)
