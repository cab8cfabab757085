"""The hours of a day in one packed value; stages of evictions in microseconds.

Hours were half of the database. Of the room that they took, the new ones need about a quarter
while both are there; what is free then is given back to the disk in small steps, as ever.
"""

# ruff: noqa: S608 - the names of tables and columns are our own
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.recorder.values.hours import packed

revision = "0004"
down_revision = "0003"

_STAGES = ("noticed_to_term", "term_to_exit", "exit_to_clear", "noticed_to_clear")
_RUN = (
    'node, run, first_at, at, entry, gpus, "user", state, is_final, reason, started_at, ended_at, '
    "cause_kind, cause_text, exit_code, exit_signal, simulated"
)


def upgrade() -> None:
    """Make both tables anew, and bring over what was there."""
    for index in ("ix_run_first_at_node_run", "ix_run_evicted"):
        op.drop_index(index, "run")
    for table in ("run", "sample_1h"):
        if op.get_bind().dialect.name == "postgresql":
            # Names of constraints are those of indexes there.
            op.drop_constraint(f"pk_{table}", table)
        op.rename_table(table, f"old_{table}")
    _make_tables()
    _bring_hours()
    _bring_runs()
    for table in ("run", "sample_1h"):
        op.drop_table(f"old_{table}")


def _make_tables() -> None:
    op.create_table(
        "sample_1h",
        sa.Column("device", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("start", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "start", name=op.f("pk_sample_1h")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run",
        sa.Column("node", sa.BigInteger(), nullable=False, autoincrement=False),
        _text("run"),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *map(_text, ("entry", "gpus")),
        sa.Column("user", sa.Text()),
        _text("state"),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        _text("reason"),
        *(sa.Column(name, sa.BigInteger()) for name in ("started_at", "ended_at")),
        *(sa.Column(name, sa.Text()) for name in ("cause_kind", "cause_text")),
        *(sa.Column(name, sa.Integer()) for name in ("exit_code", "exit_signal")),
        *(sa.Column(f"{stage}_seconds", sa.BigInteger()) for stage in _STAGES),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("node", "run", name=op.f("pk_run")),
    )
    op.create_index(op.f("ix_run_first_at_node_run"), "run", ["first_at", "node", "run"])
    evicted = sa.text("noticed_to_term_seconds IS NOT NULL")
    op.create_index(
        "ix_run_evicted",
        "run",
        ["ended_at", "node", *(f"{stage}_seconds" for stage in _STAGES[:3])],
        sqlite_where=evicted,
        postgresql_where=evicted,
    )


def _bring_hours() -> None:
    bind = op.get_bind()
    devices = bind.execute(sa.text("SELECT id FROM device UNION SELECT 0 ORDER BY 1")).scalars()
    wanted = sa.text("SELECT * FROM old_sample_1h WHERE device = :device ORDER BY start")
    insert = sa.text("INSERT INTO sample_1h (device, start, data) VALUES (:device, :start, :data)")
    for device in devices.all():
        rows = bind.execute(wanted, {"device": device}).mappings()
        days = [
            {"device": device, "start": start, "data": data}
            for _, start, data in packed(dict(row) for row in rows)
        ]
        if days:
            bind.execute(insert, days)


def _bring_runs() -> None:
    names = ", ".join(f"{stage}_seconds" for stage in _STAGES)
    # What no eviction took was let in before.
    values = ", ".join(
        f"CASE WHEN abs({stage}_seconds) <= 1e9 "
        f"THEN CAST(round({stage}_seconds * 1000000) AS BIGINT) END"
        for stage in _STAGES
    )
    op.execute(f"INSERT INTO run ({_RUN}, {names}) SELECT {_RUN}, {values} FROM old_run")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)
