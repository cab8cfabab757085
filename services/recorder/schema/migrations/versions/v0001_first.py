"""The first layout: streams, events, runs, samples, gaps, dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "dead_letter",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
    )
    op.create_table(
        "event",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("gpu", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint(
            "node", "stream", "sequence", name=op.f("uq_event_node_stream_sequence")
        ),
    )
    op.create_index(op.f("ix_event_at_id"), "event", ["at", "id"], unique=False)
    op.create_index(op.f("ix_event_kind_at_id"), "event", ["kind", "at", "id"], unique=False)
    op.create_index(op.f("ix_event_node_at_id"), "event", ["node", "at", "id"], unique=False)
    op.create_table(
        "gap",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("noticed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", "stream", "first", name=op.f("pk_gap")),
    )
    op.create_table(
        "gpu_sample",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("gpu", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("utilization_percent", sa.Double(), nullable=True),
        sa.Column("memory_utilization_percent", sa.Double(), nullable=True),
        sa.Column("memory_used_bytes", sa.BigInteger(), nullable=True),
        sa.Column("temperature_celsius", sa.Double(), nullable=True),
        sa.Column("power_watts", sa.Double(), nullable=True),
        sa.Column("energy_joules", sa.Double(), nullable=True),
        sa.Column("sm_clock_mhz", sa.Double(), nullable=True),
        sa.Column("fan_percent", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("node", "gpu", "at", name=op.f("pk_gpu_sample")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_gpu_sample_at_node_gpu"), "gpu_sample", ["at", "node", "gpu"], unique=False
    )
    op.create_table(
        "run",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("gpus", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("cause_kind", sa.Text(), nullable=True),
        sa.Column("cause_text", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.Integer(), nullable=True),
        sa.Column("noticed_to_term_seconds", sa.Double(), nullable=True),
        sa.Column("term_to_exit_seconds", sa.Double(), nullable=True),
        sa.Column("exit_to_clear_seconds", sa.Double(), nullable=True),
        sa.Column("noticed_to_clear_seconds", sa.Double(), nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("node", "run", name=op.f("pk_run")),
    )
    op.create_index(
        op.f("ix_run_first_at_node_run"), "run", ["first_at", "node", "run"], unique=False
    )
    op.create_table(
        "stream",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", "stream", name=op.f("pk_stream")),
    )
