"""Roll-ups, sessions, use by hour and day, and what still has to be made of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_STATES = ("idle", "busy", "held", "ours", "dirty", "lost", "unknown")
_GAUGES = (
    "utilization_percent",
    "memory_utilization_percent",
    "memory_used_bytes",
    "temperature_celsius",
    "power_watts",
    "sm_clock_mhz",
    "fan_percent",
)
_WHO = ("user", "entry", "container")
_USED = (
    "seconds",
    "busy_seconds",
    "held_seconds",
    "shared_seconds",
    "utilization_sum",
    "utilization_seconds",
    "memory_byte_seconds",
    "energy_joules",
)
_LARGEST = ("utilization_max", "memory_max_bytes")


def upgrade() -> None:
    """Make the tables; samples that are there already are rolled up as well."""
    op.add_column("gpu_sample", sa.Column("energy_used_joules", sa.Double(), nullable=True))
    op.add_column("gpu_sample", sa.Column("users", sa.Text(), nullable=True))
    for tier in ("5m", "1h", "1d"):
        _make_rolled(f"sample_{tier}")
    for table in ("use_1h", "use_1d"):
        op.create_table(
            table,
            *_texts("node", "gpu"),
            sa.Column("start", sa.BigInteger(), nullable=False),
            *_texts(*_WHO),
            *_used(),
            sa.PrimaryKeyConstraint("node", "gpu", "start", *_WHO, name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )
        op.create_index(op.f(f"ix_{table}_start"), table, ["start"], unique=False)
    op.create_table(
        "dirty",
        *_texts("tier"),
        sa.Column("start", sa.BigInteger(), nullable=False),
        *_texts("node", "gpu"),
        sa.PrimaryKeyConstraint("tier", "start", "node", "gpu", name=op.f("pk_dirty")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_dirty_node_gpu_start"), "dirty", ["node", "gpu", "start"], unique=False
    )
    op.create_table(
        "stretch",
        *_texts("node", "gpu"),
        sa.Column("start", sa.BigInteger(), nullable=False),
        *_texts(*_WHO),
        *_span(),
        *_used(),
        sa.PrimaryKeyConstraint("node", "gpu", "start", *_WHO, "begin", name=op.f("pk_stretch")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        *_texts("node", "gpu", *_WHO),
        *_span(),
        *_used(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
    )
    for columns in (["node", "gpu", "end"], ["begin", "id"], ["user", "begin", "id"]):
        name = f"ix_session_{'_'.join(columns)}"
        op.create_index(op.f(name), "session", columns, unique=False)
    # Five minutes in microseconds; a sample on the boundary belongs before it.
    op.execute(
        "INSERT INTO dirty (tier, start, node, gpu) "
        "SELECT DISTINCT '5m', (at - 1) / 300000000 * 300000000, node, gpu FROM gpu_sample"
    )


def _make_rolled(table: str) -> None:
    op.create_table(
        table,
        *_texts("node", "gpu"),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("is_sealed", sa.Boolean(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        *_numbers("seconds", *(f"{state}_seconds" for state in _STATES)),
        *_numbers("energy_joules", "energy_seconds"),
        *(
            sa.Column(f"{gauge}_{what}", sa.Double(), nullable=what in ("min", "max"))
            for gauge in _GAUGES
            for what in ("sum", "seconds", "min", "max")
        ),
        sa.PrimaryKeyConstraint("node", "gpu", "start", name=op.f(f"pk_{table}")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f(f"ix_{table}_is_sealed_start"), table, ["is_sealed", "start"], unique=False
    )


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Double(), nullable=False) for name in names]


def _span() -> list[sa.Column[int] | sa.Column[float]]:
    instants = [sa.Column(name, sa.BigInteger(), nullable=False) for name in ("begin", "end")]
    return [*instants, *_numbers("interval")]


def _used() -> list[sa.Column[float]]:
    return [*_numbers(*_USED), *(sa.Column(name, sa.Double()) for name in _LARGEST)]
